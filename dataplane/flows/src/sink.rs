//! The receiving side of a flow, on top of its TCP socket.

use smoltcp::socket::tcp::{Socket, State};

use crate::frame::{self, FRAME};

/// The receiving side.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    header: Vec<u8>,
    /// The flow's number, when its header has arrived.
    id: Option<u64>,
    /// Payload that has arrived, in order and without gaps.
    bytes: u64,
    answered: bool,
}

impl Sink {
    /// The flow's number, when it is known.
    pub(crate) fn id(&self) -> Option<u64> {
        self.id
    }

    /// Does what the application of the socket would do.
    pub(crate) fn act(&mut self, socket: &mut Socket<'_>) {
        while socket.can_recv() {
            let (header, bytes) = (&mut self.header, &mut self.bytes);
            let read = socket.recv(|received| {
                let missing = received.len().min(FRAME - header.len());
                header.extend_from_slice(&received[..missing]);
                *bytes += (received.len() - missing) as u64;
                (received.len(), ())
            });
            if read.is_err() {
                break;
            }
        }
        if self.id.is_none() {
            if let Ok(header) = <[u8; FRAME]>::try_from(&self.header[..]) {
                self.id = frame::number(&header);
                if self.id.is_none() {
                    // Something else connected to the port.
                    socket.abort();
                }
            }
        }
        if socket.state() == State::CloseWait && !socket.can_recv() && !self.answered {
            self.answered = true;
            if self.id.is_some() {
                // The buffer is empty, so the answer fits.
                let _ = socket.send_slice(&frame::frame(self.bytes));
            }
            socket.close();
        }
    }

    /// Whether the connection can be removed.
    pub(crate) fn is_gone(state: State) -> bool {
        matches!(state, State::Closed | State::TimeWait)
    }
}
