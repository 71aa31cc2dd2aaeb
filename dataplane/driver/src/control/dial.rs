//! Open the websocket and authenticate.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use nm_engine::NodeId;
use nm_messages::{
    decode_frames, encode, Frame, Hello, Role, ToController, ToNode, MAX_MESSAGE, VERSION,
};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{client_async_with_config, WebSocketStream};

use super::resolve::Resolver;
use super::{ControlError, Endpoint};
use crate::config::Secret;

/// The local address of a connection, for nodes that do not know their own.
pub(crate) const UNKNOWN_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// An open, authenticated websocket.
pub(super) struct OpenSocket {
    pub socket: WebSocketStream<TcpStream>,
    /// The local address.
    pub local: IpAddr,
}

/// Why the attempt failed.
pub(super) enum Failure {
    /// Unreachable at present: worth another attempt.
    Retry(String),
    /// The controller refused the credentials.
    Refused(ControlError),
}

/// Time limit of an attempt.
const STEP_LIMIT: Duration = Duration::from_secs(5);

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
    let rest = endpoint.addr.trim_start_matches("ws://");
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
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let (mut socket, _) = client_async_with_config(endpoint.addr.as_str(), stream, Some(config))
        .await
        .map_err(|error| Failure::Retry(format!("the websocket handshake failed: {error}")))?;
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

/// Waits for the reply to the hello message.
async fn welcome(socket: &mut WebSocketStream<TcpStream>) -> Result<(), Failure> {
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
