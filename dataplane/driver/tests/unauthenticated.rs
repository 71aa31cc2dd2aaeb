//! Test that a peer without a link's key gets nothing from either end.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use common::raw::{
    frame, hello, proof, prove, read_frame, CHALLENGE, HEADER, HELLO, PROOF, REFUSE, WELCOME,
};
use common::{key, node, runtime, runtime_for, LIMIT, TOKEN};
use nm_driver::runtime::{Carrier, LinkKind, Runtime};
use nm_engine::NodeId;

fn connect(home: &Runtime) -> TcpStream {
    let address: SocketAddr = home.listen_address().expect("it listens");
    let stream = TcpStream::connect(address).expect("it accepts");
    stream.set_read_timeout(Some(LIMIT)).expect("timeout");
    stream
}

/// Reads the refusal, which must be the next message.
fn refused(stream: &mut TcpStream) -> String {
    let (flags, body) = read_frame(stream).expect("an answer");
    assert_eq!(flags, REFUSE);
    let mut rest = Vec::new();
    // Closed, or reset because not all sent bytes were read.
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.is_empty());
    String::from_utf8(body).expect("a sentence")
}

/// All bytes of one connection from the dialler's and from the acceptor's side.
struct Recorded {
    dialler: Vec<Vec<u8>>,
    acceptor: Vec<Vec<u8>>,
}

/// Links two nodes through a proxy that records the bytes.
fn record(home: &Runtime, from: NodeId, to: NodeId) -> Recorded {
    let mut stream = connect(home);
    let proof_frame = prove(&mut stream, &key(TOKEN), from, to);
    stream.write_all(&proof_frame).expect("sent");
    let (flags, body) = read_frame(&mut stream).expect("an answer");
    assert_eq!(flags, WELCOME);
    Recorded {
        dialler: vec![hello("test", from, to, [0x11; 32]), proof_frame],
        acceptor: vec![frame(flags, &body)],
    }
}

#[test]
fn a_listener_on_the_port_of_an_ended_neighbour_gets_no_secret_and_no_link() {
    let away = runtime(1);
    let two = node(&away, 2);
    let squatter = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = squatter.local_addr().expect("bound");
    // A recorded handshake of the same pair elsewhere may help the attacker.
    let home = runtime(1);
    let one = node(&home, 1);
    one.link(2, LinkKind::Accept);
    let recorded = record(&home, 2, 1);
    let mut challenge = frame(CHALLENGE, &[0x22; 64]);
    let packet = frame(0, &[0x45; 40]);
    let answers: Vec<(Vec<u8>, &str)> = vec![
        (frame(WELCOME, &[]), "a welcome without a proof"),
        (frame(WELCOME, &[1]), "a welcome without a proof"),
        (
            [recorded.acceptor.concat(), packet.clone()].concat(),
            "a welcome without a proof",
        ),
        (packet, "a packet before the handshake"),
        (
            challenge.clone(),
            "the answering process is not the neighbour",
        ),
        (hello("test", 2, 1, [0; 32]), "an unexpected message"),
        (recorded.dialler[1].clone(), "an unexpected message"),
        (
            [std::mem::take(&mut challenge), frame(WELCOME, &[])].concat(),
            "the answering process is not the neighbour",
        ),
    ];
    two.link(1, LinkKind::Dial(address));
    for (answer, expected) in answers {
        let (mut stream, _) = squatter.accept().expect("it dials");
        stream.set_read_timeout(Some(LIMIT)).expect("timeout");
        let (flags, hello_frame) = read_frame(&mut stream).expect("a hello message");
        assert_eq!(flags, HELLO);
        // The version, both nodes, a nonce, the lab: all but the nonce is public.
        assert_eq!(hello_frame.len(), 1 + 4 + 4 + 32 + 2 + 4);
        stream.write_all(&answer).expect("sent");
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert_eq!(
            rest,
            Vec::<u8>::new(),
            "nothing more is sent to an unauthenticated peer"
        );
        two.record.wait(expected, |record| {
            let last = record.links.last()?;
            (!last.1 && last.2.contains(expected)).then_some(())
        });
    }
    let nonces =
        |record: &mut common::Record| record.links.iter().all(|link| !link.1).then_some(());
    two.record.wait("no link ever", nonces);
}

#[test]
fn every_connection_uses_a_new_nonce() {
    let away = runtime(1);
    let two = node(&away, 2);
    let squatter = TcpListener::bind("127.0.0.1:0").expect("a port");
    two.link(1, LinkKind::Dial(squatter.local_addr().expect("bound")));
    let mut hello_frames: Vec<Vec<u8>> = (0..3)
        .map(|_| {
            let (mut stream, _) = squatter.accept().expect("it dials");
            stream.set_read_timeout(Some(LIMIT)).expect("timeout");
            read_frame(&mut stream).expect("a hello message").1
        })
        .collect();
    hello_frames.sort();
    hello_frames.dedup();
    assert_eq!(hello_frames.len(), 3);
}

#[test]
fn a_recorded_handshake_opens_no_second_link() {
    let home = runtime(1);
    let one = node(&home, 1);
    one.link(2, LinkKind::Accept);
    let recorded = record(&home, 2, 1);
    one.record.wait_link(2, false);
    let mut stream = connect(&home);
    stream.write_all(&recorded.dialler[0]).expect("sent");
    let (flags, _) = read_frame(&mut stream).expect("an answer");
    assert_eq!(flags, CHALLENGE);
    stream.write_all(&recorded.dialler[1]).expect("sent");
    assert_eq!(refused(&mut stream), "wrong proof");
    // Both at once, without waiting for the challenge.
    let mut stream = connect(&home);
    stream.write_all(&recorded.dialler.concat()).expect("sent");
    let _ = stream.read_to_end(&mut Vec::new());
    let ups = one.record.wait("a look", |record| {
        Some(record.links.iter().filter(|link| link.1).count())
    });
    assert_eq!(ups, 1, "only the true one");
}

#[test]
fn an_acceptors_own_proof_sent_back_to_it_is_refused() {
    let home = runtime(1);
    let one = node(&home, 1);
    one.link(2, LinkKind::Accept);
    let mut stream = connect(&home);
    stream
        .write_all(&hello("test", 2, 1, [7; 32]))
        .expect("sent");
    let (_, challenge) = read_frame(&mut stream).expect("a challenge");
    stream
        .write_all(&frame(PROOF, &challenge[32..]))
        .expect("sent");
    assert_eq!(refused(&mut stream), "wrong proof");
    // With a second unauthenticated connection as the oracle: it answers a challenge with what the acceptor itself
    // would send after the same hello message.
    let mut first = connect(&home);
    first
        .write_all(&hello("test", 2, 1, [7; 32]))
        .expect("sent");
    let (_, challenge) = read_frame(&mut first).expect("a challenge");
    let theirs: [u8; 32] = challenge[..32].try_into().expect("a nonce");
    let mut second = connect(&home);
    second
        .write_all(&hello("test", 2, 1, theirs))
        .expect("sent");
    let (_, oracle) = read_frame(&mut second).expect("a challenge");
    first.write_all(&frame(PROOF, &oracle[32..])).expect("sent");
    assert_eq!(refused(&mut first), "wrong proof");
}

#[test]
fn a_wrong_key_is_refused_without_details_and_reported_once() {
    let home = runtime(1);
    let one = node(&home, 1);
    one.link(2, LinkKind::Accept);
    for _ in 0..20 {
        let mut stream = connect(&home);
        let mine = [9; 32];
        stream.write_all(&hello("test", 2, 1, mine)).expect("sent");
        let (_, challenge) = read_frame(&mut stream).expect("a challenge");
        let theirs = challenge[..32].try_into().expect("a nonce");
        let wrong = proof(&key("guess"), false, (2, 1), [mine, theirs]);
        stream.write_all(&frame(PROOF, &wrong)).expect("sent");
        assert_eq!(refused(&mut stream), "wrong proof");
    }
    let reported = one
        .record
        .wait("a look", |record| Some(record.refused.clone()));
    assert_eq!(reported, [(2, 1)], "the first, and not each of the others");
    assert_eq!(home.stats().shards[0].handshakes_refused, 20);
}

#[test]
fn a_valid_key_is_refused_for_another_lab_or_pair() {
    let home = runtime(1);
    let one = node(&home, 1);
    one.link(2, LinkKind::Accept);
    let mut stream = connect(&home);
    stream
        .write_all(&hello("other", 2, 1, [1; 32]))
        .expect("sent");
    assert_eq!(refused(&mut stream), "no node 1 of lab other here");
    // A node that has no link here waits for one, within the limit, and gets no challenge.
    let mut stream = connect(&home);
    let short = Duration::from_millis(200);
    stream.set_read_timeout(Some(short)).expect("timeout");
    stream
        .write_all(&hello("test", 3, 1, [1; 32]))
        .expect("sent");
    assert!(read_frame(&mut stream).is_none());
    stream.set_read_timeout(Some(LIMIT)).expect("timeout");
    assert_eq!(refused(&mut stream), "no handshake in time");
}

#[test]
fn shared_memory_is_not_sent_to_an_unauthenticated_peer() {
    use std::os::unix::net::UnixListener;
    let away = runtime_for(Carrier::Shared, 1);
    let two = node(&away, 2);
    let path = common::fresh_path();
    let squatter = UnixListener::bind(&path).expect("a path");
    let dead = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = dead.local_addr().expect("bound");
    drop(dead);
    two.link_at(
        1,
        LinkKind::Dial(address),
        Some(&path),
        nm_engine::LinkSpec::default(),
        TOKEN,
    );
    let (stream, _) = squatter.accept().expect("it dials");
    stream.set_nonblocking(false).expect("blocking");
    stream.set_read_timeout(Some(LIMIT)).expect("timeout");
    let mut room = [0; 256];
    let mut pieces = [std::io::IoSliceMut::new(&mut room)];
    let (got, descriptor) =
        nm_kernel::local::receive_with(&stream, &mut pieces).expect("a hello message");
    assert!(got > HEADER && descriptor.is_none());
    (&stream)
        .write_all(&frame(CHALLENGE, &[0x22; 64]))
        .expect("sent");
    let mut pieces = [std::io::IoSliceMut::new(&mut room)];
    let (got, descriptor) = nm_kernel::local::receive_with(&stream, &mut pieces).expect("the end");
    assert_eq!((got, descriptor.is_none()), (0, true));
    std::fs::remove_file(&path).expect("it was there");
}
