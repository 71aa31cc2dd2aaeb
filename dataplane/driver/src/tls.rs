//! TLS of the connection to the controller: version 1.3, with the lab's own certificate authority and no other.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error, RootCertStore};
use tokio_rustls::TlsConnector;

/// The configuration of a client that trusts the certificates in `authority`, PEM text.
///
/// # Errors
///
/// A sentence: the text has no certificate, or one that is not a certificate authority's.
pub(crate) fn client_config(authority: &str) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("it has no certificate in PEM form".to_owned());
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| error.to_string())?;
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}

/// Makes the TLS handshake with a server whose certificate has to be for `host`, a name or an address.
///
/// # Errors
///
/// A sentence.
pub(crate) async fn connect(
    stream: TcpStream,
    host: &str,
    authority: &str,
) -> Result<TlsStream<TcpStream>, String> {
    let failed = |reason: String| format!("the TLS handshake failed: {reason}");
    let config = client_config(authority).map_err(failed)?;
    let name = host.trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(name).map_err(|error| failed(error.to_string()))?;
    let handshake = TlsConnector::from(config).connect(name, stream).await;
    handshake.map_err(|error| failed(reason(&error, host)))
}

/// The reason of a failed handshake in the terms of the settings.
fn reason(error: &io::Error, host: &str) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let wrong = match inner {
        Some(Error::InvalidCertificate(wrong)) => wrong,
        Some(Error::InvalidMessage(_)) => {
            return "the controller does not answer with TLS; without, its address begins with `ws://`"
                .to_owned();
        }
        _ => return error.to_string(),
    };
    match wrong {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the certificate authority in `controller_ca` did not issue the controller's certificate"
                .to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the controller's certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the controller's certificate is not valid yet".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("the controller's certificate is not for {host}")
        }
        other => other.to_string(),
    }
}
