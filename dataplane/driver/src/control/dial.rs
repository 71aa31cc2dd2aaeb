//! Open the websocket and authenticate.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use nm_engine::NodeId;
use nm_messages::{
    decode_frames, encode, Frame, Hello, Role, ToController, ToNode, MAX_MESSAGE, VERSION,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{client_async_with_config, WebSocketStream};

use super::resolve::Resolver;
use super::{ControlError, Endpoint};
use crate::config::Secret;
use crate::tls;

/// The local address of a connection, for nodes that do not know their own.
pub(crate) const UNKNOWN_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// An open, authenticated websocket.
pub(super) struct OpenSocket {
    pub socket: WebSocketStream<Box<dyn Stream>>,
    /// The local address.
    pub local: IpAddr,
}

/// The bytes of a connection, in TLS or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why the attempt failed.
pub(super) enum Failure {
    /// Unreachable at present: worth another attempt.
    Retry(String),
    /// The controller refused the credentials.
    Refused(ControlError),
}

/// Time limit of an attempt.
const STEP_LIMIT: Duration = Duration::from_secs(5);
/// Bytes of the reply to a refused websocket handshake that are shown: a sentence of the controller, or the beginning of
/// a page that something else serves.
const MAX_BODY: usize = 300;

/// Connects and authenticates as one of the nodes with its token; the other nodes send theirs when they register.
pub(super) async fn dial(
    endpoint: &Endpoint,
    resolver: &Resolver,
    as_node: NodeId,
    token: &Secret,
) -> Result<OpenSocket, Failure> {
    let attempt = open(endpoint, resolver, as_node, token);
    match tokio::time::timeout(STEP_LIMIT, attempt).await {
        Ok(result) => result,
        Err(_) => Err(Failure::Retry(format!(
            "no answer within {} s",
            STEP_LIMIT.as_secs()
        ))),
    }
}

async fn open(
    endpoint: &Endpoint,
    resolver: &Resolver,
    as_node: NodeId,
    token: &Secret,
) -> Result<OpenSocket, Failure> {
    let (stream, local) = connect(endpoint, resolver).await?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let (mut socket, _) = client_async_with_config(endpoint.addr.as_str(), stream, Some(config))
        .await
        .map_err(|error| Failure::Retry(handshake_failure(&error)))?;
    let hello = Hello {
        token: token.0.clone(),
        protocol: u16::from(VERSION),
        role: Role::Node,
        software: concat!("nm/", env!("CARGO_PKG_VERSION")).to_owned(),
        process: endpoint.process,
    };
    let frame = Frame {
        id: 1,
        node: as_node,
        message: ToController::Hello(hello),
    };
    let bytes = encode(&frame).map_err(|error| Failure::Retry(error.to_string()))?;
    socket
        .send(Message::Binary(bytes.into()))
        .await
        .map_err(|error| Failure::Retry(error.to_string()))?;
    welcome(&mut socket).await?;
    Ok(OpenSocket { socket, local })
}

/// Connects, with TLS for an address of `wss`; the local address comes with the stream.
async fn connect(
    endpoint: &Endpoint,
    resolver: &Resolver,
) -> Result<(Box<dyn Stream>, IpAddr), Failure> {
    let (scheme, rest) = endpoint.addr.split_once("://").unwrap_or_default();
    let authority = rest.split('/').next().unwrap_or(rest);
    let addresses = resolver.resolve(authority).await.map_err(Failure::Retry)?;
    let stream = TcpStream::connect(addresses.as_slice())
        .await
        .map_err(|error| Failure::Retry(error.to_string()))?;
    // Orders and requests are small, and their latency matters.
    let _ = stream.set_nodelay(true);
    let local = stream
        .local_addr()
        .map_or(UNKNOWN_ADDRESS, |address| address.ip());
    if scheme != "wss" {
        return Ok((Box::new(stream), local));
    }
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    let stream = tls::connect(stream, host, &endpoint.authority).await;
    Ok((Box::new(stream.map_err(Failure::Retry)?), local))
}

/// The reason of a failed websocket handshake; a controller that takes TLS only says so in the body of its reply.
fn handshake_failure(error: &tungstenite::Error) -> String {
    let body = match error {
        tungstenite::Error::Http(response) => response.body().as_deref().unwrap_or_default(),
        _ => &[],
    };
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_BODY)]);
    match text.trim() {
        "" => format!("the websocket handshake failed: {error}"),
        text => format!("the websocket handshake failed: {error}: {text}"),
    }
}

/// Waits for the reply to the hello message.
async fn welcome(socket: &mut WebSocketStream<Box<dyn Stream>>) -> Result<(), Failure> {
    loop {
        let message = match socket.next().await {
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(Message::Close(_))) | None => {
                return Err(Failure::Retry(
                    "the controller closed the connection".to_owned(),
                ));
            }
            Some(Ok(_)) => continue,
            Some(Err(error)) => return Err(Failure::Retry(error.to_string())),
        };
        let frames = decode_frames::<ToNode>(&message).map_err(|error| {
            let (id, message) = (
                error.id().to_owned(),
                format!("the controller's reply to the hello message: {error}"),
            );
            Failure::Refused(ControlError::Refused {
                id,
                message,
                hint: None,
            })
        })?;
        for frame in frames {
            match frame.message {
                ToNode::Welcome(_) => return Ok(()),
                ToNode::Error(error) => {
                    let (id, message, hint) = (error.error, error.message, error.hint);
                    return Err(Failure::Refused(ControlError::Refused {
                        id,
                        message,
                        hint,
                    }));
                }
                _ => {}
            }
        }
    }
}
