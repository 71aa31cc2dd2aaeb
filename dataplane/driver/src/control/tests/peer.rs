//! A minimal controller: the other end of the connections under test.

use std::io::{Read, Write};
use std::net::TcpListener;

use nm_messages::{decode_frames, encode, Ack, Frame, ToController, ToNode, Welcome};
use tokio_tungstenite::tungstenite::{accept, Message, WebSocket};

use super::{settings, token_of, LONG};

/// The bytes of a connection, in TLS or not.
pub(super) trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// One accepted connection of the fake controller.
pub(super) struct Peer {
    pub(super) socket: WebSocket<Box<dyn Stream>>,
    pub(super) received: std::collections::VecDeque<Frame<ToController>>,
}

impl Peer {
    pub(super) fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(LONG)).expect("a time limit");
        Peer::over(stream)
    }

    /// Accepts the websocket of a connection.
    pub(super) fn over(stream: impl Stream + 'static) -> Self {
        let stream: Box<dyn Stream> = Box::new(stream);
        Peer {
            socket: accept(stream).expect("a websocket"),
            received: Default::default(),
        }
    }

    /// Accepts, and replies to the hello message.
    pub(super) fn welcome(listener: &TcpListener) -> Self {
        Peer::accept(listener).welcomed()
    }

    /// Accepts the websocket of a connection, and replies to the hello message.
    pub(super) fn welcome_over(stream: impl Stream + 'static) -> Self {
        Peer::over(stream).welcomed()
    }

    fn welcomed(mut self) -> Self {
        let peer = &mut self;
        let hello = peer.handle_message();
        let token = token_of(hello.node);
        assert!(matches!(hello.message, ToController::Hello(hello) if hello.token == token));
        peer.send(
            0,
            Welcome {
                protocol: 1,
                lab: "lab".to_owned(),
                incarnation: 1,
            },
        );
        self
    }

    /// Expects the report that the node has carried out all orders.
    pub(super) fn expect_ready(&mut self) {
        let found = self.handle_message();
        assert!(
            matches!(found.message, ToController::NodeTopologyReady(_)),
            "{found:?}"
        );
    }

    pub(super) fn handle_message(&mut self) -> Frame<ToController> {
        while self.received.is_empty() {
            if let Message::Binary(bytes) = self.socket.read().expect("a message") {
                self.received
                    .extend(decode_frames::<ToController>(&bytes).expect("frames"));
            }
        }
        self.received.pop_front().expect("just filled")
    }

    pub(super) fn send(&mut self, node: u32, message: impl Into<ToNode>) {
        self.order(0, node, message);
    }

    pub(super) fn order(&mut self, id: u32, node: u32, message: impl Into<ToNode>) {
        let bytes = encode(&Frame {
            id,
            node,
            message: message.into(),
        })
        .expect("a message");
        self.socket
            .send(Message::Binary(bytes.into()))
            .expect("sent");
    }

    /// Accepts a registration and returns its message.
    pub(super) fn register(&mut self, node: u32) -> nm_messages::StartUp {
        let frame = self.handle_message();
        assert_eq!(frame.node, node);
        let ToController::StartUp(start_up) = frame.message else {
            panic!("{frame:?}")
        };
        assert_eq!(start_up.token, token_of(node));
        self.send(
            node,
            Ack {
                re: frame.id,
                value: None,
            },
        );
        self.send(node, settings(node));
        start_up
    }
}
