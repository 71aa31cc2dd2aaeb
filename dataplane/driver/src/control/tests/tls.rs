//! Tests of TLS between a node and its controller.

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;

const VALID: &str = include_str!("certificates/valid.pem");
const VALID_AUTHORITY: &str = include_str!("certificates/valid_authority.pem");
const EXPIRED: &str = include_str!("certificates/expired.pem");
const EXPIRED_AUTHORITY: &str = include_str!("certificates/expired_authority.pem");
const ELSEWHERE: &str = include_str!("certificates/elsewhere.pem");
const ELSEWHERE_AUTHORITY: &str = include_str!("certificates/elsewhere_authority.pem");

/// Long enough for one attempt to connect.
const SHORT: Duration = Duration::from_millis(500);

#[test]
fn a_node_registers_over_tls_and_again_after_its_controller_was_away() {
    let (listener, node) = node_that_trusts(VALID_AUTHORITY, LONG);
    let mut peer = welcome(&listener);
    peer.register(2);
    let registered = node.registered.recv_timeout(LONG).expect("an answer");
    assert_eq!(registered, Ok(()));
    drop(peer);
    let mut peer = welcome(&listener);
    peer.register(2);
}

#[test]
fn a_controller_without_the_right_certificate_is_refused_by_its_reason() {
    for (certificate, authority, expected) in [
        (
            VALID,
            ELSEWHERE_AUTHORITY,
            "the certificate authority in `controller_ca` did not issue the controller's certificate",
        ),
        (
            EXPIRED,
            EXPIRED_AUTHORITY,
            "the controller's certificate has expired",
        ),
        (
            ELSEWHERE,
            ELSEWHERE_AUTHORITY,
            "the controller's certificate is not for 127.0.0.1",
        ),
    ] {
        let (listener, node) = node_that_trusts(authority, SHORT);
        let error = refused_by(&node, &listener, |stream| {
            let mut stream = secured(stream, certificate);
            let error = stream.read(&mut [0]).expect_err("an alert");
            assert!(error.to_string().contains("alert"), "{error}");
        });
        assert_eq!(error, format!("the TLS handshake failed: {expected}"));
    }
}

#[test]
fn a_controller_that_answers_without_tls_is_reported() {
    let (listener, node) = node_that_trusts(VALID_AUTHORITY, SHORT);
    let error = refused_by(&node, &listener, |mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let expected =
        "the controller does not answer with TLS; without, its address begins with `ws://`";
    assert_eq!(error, format!("the TLS handshake failed: {expected}"));
}

#[test]
fn what_a_controller_says_to_a_node_without_tls_is_reported() {
    let (listener, addr) = listen();
    let node = attach_node(addr, SHORT);
    let error = refused_by(&node, &listener, |mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let body = "this port takes TLS only\n";
        let head = format!("HTTP/1.1 400 Bad Request\r\nContent-Length: {}", body.len());
        let _ = stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes());
        let _ = stream.read_to_end(&mut Vec::new());
    });
    assert!(error.ends_with(": this port takes TLS only"), "{error}");
}

#[test]
fn a_handshake_that_the_controller_never_ends_takes_no_longer_than_the_limit() {
    let (listener, node) = node_that_trusts(VALID_AUTHORITY, SHORT);
    let (_silent, _) = listener.accept().expect("a connection");
    let registered = node.registered.recv_timeout(LONG).expect("an answer");
    let error = registered.expect_err("no answer");
    assert_eq!(error.id(), "control.unreachable");
}

/// Attaches a node; its controller has to have a certificate of this authority.
fn node_that_trusts(authority: &str, limit: Duration) -> (TcpListener, Fixture) {
    let (listener, addr) = listen();
    let addr = addr.replacen("ws", "wss", 1);
    let endpoint = Endpoint {
        authority: authority.to_owned(),
        ..endpoint(addr)
    };
    (listener, attach_to(endpoint, limit, true))
}

/// Serves every attempt of the node to connect, until its time limit; the reason of the last failure.
fn refused_by(node: &Fixture, listener: &TcpListener, serve: impl Fn(TcpStream) + Sync) -> String {
    let over = AtomicBool::new(false);
    let registered = std::thread::scope(|scope| {
        scope.spawn(|| loop {
            let (stream, _) = listener.accept().expect("a connection");
            if over.load(Ordering::SeqCst) {
                return;
            }
            stream.set_read_timeout(Some(LONG)).expect("a time limit");
            serve(stream);
        });
        let registered = node.registered.recv_timeout(LONG);
        over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(listener.local_addr().expect("an address"));
        registered.expect("an answer")
    });
    match registered.expect_err("a refusal") {
        ControlError::Unreachable { last, .. } => last,
        other => panic!("{other:?}"),
    }
}

/// Makes the server's side of a connection; the handshake comes with the first bytes that are read or written.
fn secured(stream: TcpStream, certificate: &str) -> StreamOwned<ServerConnection, TcpStream> {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(|it| it.expect("PEM"));
    let key = PrivateKeyDer::from_pem_slice(certificate.as_bytes()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain.collect(), key)
        .expect("a certificate");
    let connection = ServerConnection::new(Arc::new(config)).expect("a connection");
    StreamOwned::new(connection, stream)
}

/// Accepts a node's connection, and replies to its hello message.
fn welcome(listener: &TcpListener) -> Peer {
    let (stream, _) = listener.accept().expect("a connection");
    stream.set_read_timeout(Some(LONG)).expect("a time limit");
    Peer::welcome_over(secured(stream, VALID))
}
