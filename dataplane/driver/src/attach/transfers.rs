//! The transfers of an attached program, and the memory that the node holds for them.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nm_engine::SharedBytes;
use nm_kernel::shared_file;

use super::answer::Answer;
use super::limits::{limit, too_many_things, Charge, Charged, Limit};
use crate::node::{Node, NodeError};

/// Most transfers of a program that run or were not forgotten.
const MAX_SESSIONS: usize = 4096;

/// The transfers of a program, by the numbers of their sessions.
pub(super) struct Transfers {
    sessions: BTreeMap<u64, Transfer>,
    bytes: Arc<Limit>,
    things: Arc<Limit>,
}

/// What the node holds for a transfer, besides the bytes to send, whose charge is in their owner.
#[derive(Default)]
struct Transfer {
    /// For the bytes that are received.
    _received: Option<Charge>,
    /// The copy that was passed to the program while the node kept its own.
    copy: Option<Copied>,
}

/// A memory file, and its bytes and descriptor as counted against the limits.
struct Copied {
    file: OwnedFd,
    _charges: [Charge; 2],
}

impl Transfers {
    /// No transfers yet; their bytes count against `bytes`, and files that are kept open against `things`.
    pub(super) fn new(bytes: Arc<Limit>, things: Arc<Limit>) -> Self {
        Transfers {
            sessions: BTreeMap::new(),
            bytes,
            things,
        }
    }

    /// Sends the bytes of a file.
    pub(super) fn send(
        &mut self,
        node: &Node,
        file: &OwnedFd,
        start: impl FnOnce(SharedBytes) -> Result<u64, NodeError>,
    ) -> Result<u64, NodeError> {
        self.check_number(node)?;
        let mapped = shared_file::map(file.as_fd()).map_err(|error| limit(&error.to_string()))?;
        let data = Charged::new(mapped, &self.bytes).ok_or_else(too_many_bytes)?;
        let session = start(SharedBytes::new(data))?;
        self.sessions.insert(session, Transfer::default());
        Ok(session)
    }

    /// Receives at most `expected` bytes.
    pub(super) fn receive(
        &mut self,
        node: &Node,
        expected: u64,
        start: impl FnOnce() -> Result<u64, NodeError>,
    ) -> Result<u64, NodeError> {
        self.check_number(node)?;
        let received = self.charge(node, expected)?;
        let session = start()?;
        let transfer = Transfer {
            _received: Some(received),
            copy: None,
        };
        self.sessions.insert(session, transfer);
        Ok(session)
    }

    /// Passes the bytes that a session received; `consume` releases those of the node.
    pub(super) fn data(
        &mut self,
        node: &Node,
        session: u64,
        consume: bool,
    ) -> Result<Answer, NodeError> {
        let data = node.session_data(self.own(session)?, false)?;
        let failed = |error: nm_kernel::KernelError| limit(&error.to_string());
        let known = self.sessions.get_mut(&session).map(std::mem::take);
        let mut transfer = known.unwrap_or_default();
        let file = match &transfer.copy {
            Some(copied) => copied.file.try_clone().map_err(|_| no_descriptor()),
            // Not charged: this is how memory is released, and it exists twice only for the time of the copy.
            None if consume => shared_file::copy(&data).map_err(failed),
            None => self.charge(node, data.len() as u64).and_then(|bytes| {
                let thing = self.things.charge(1).ok_or_else(too_many_things)?;
                let file = shared_file::copy(&data).map_err(failed)?;
                let passed = file.try_clone().map_err(|_| no_descriptor())?;
                let _charges = [bytes, thing];
                transfer.copy = Some(Copied { file, _charges });
                Ok(passed)
            }),
        };
        if consume && file.is_ok() {
            drop(node.session_data(session, true));
            transfer = Transfer::default();
        }
        self.sessions.insert(session, transfer);
        file.map(Answer::data)
    }

    /// Ends a transfer, and releases what the node holds for it.
    pub(super) fn cancel(&mut self, node: &Node, session: u64) -> Result<(), NodeError> {
        node.cancel_session(self.own(session)?)?;
        self.sessions.insert(session, Transfer::default());
        Ok(())
    }

    /// Ends all transfers.
    pub(super) fn close(&mut self, node: &Node) {
        for session in std::mem::take(&mut self.sessions).into_keys() {
            // It has ended, or the node is closed: there is nothing to cancel.
            let _ = node.cancel_session(session);
        }
    }

    /// Refuses the transfers of others.
    pub(super) fn own(&self, session: u64) -> Result<u64, NodeError> {
        if self.sessions.contains_key(&session) {
            return Ok(session);
        }
        Err(NodeError::UnknownSession(session))
    }

    fn charge(&mut self, node: &Node, bytes: u64) -> Result<Charge, NodeError> {
        if let Some(charge) = self.bytes.charge(bytes) {
            return Ok(charge);
        }
        // Receptions that failed, or whose bytes the node has given up, hold nothing any more.
        for (session, transfer) in &mut self.sessions {
            if !holds_bytes(node, *session) {
                *transfer = Transfer::default();
            }
        }
        self.bytes.charge(bytes).ok_or_else(too_many_bytes)
    }

    fn check_number(&mut self, node: &Node) -> Result<(), NodeError> {
        if self.sessions.len() >= MAX_SESSIONS {
            // Those whose bytes are still to be fetched stay.
            self.sessions
                .retain(|session, _| holds_bytes(node, *session));
        }
        if self.sessions.len() >= MAX_SESSIONS {
            return Err(limit("a program may have 4096 transfers at once"));
        }
        Ok(())
    }
}

/// Whether a session runs, or has received bytes that were not fetched.
fn holds_bytes(node: &Node, session: u64) -> bool {
    match node.session_state(session) {
        Ok(None) => true,
        Ok(Some(_)) => node.session_data(session, false).is_ok(),
        Err(_) => false,
    }
}

fn too_many_bytes() -> NodeError {
    limit("the programs of a node may have 4 GiB in transfers at once")
}

fn no_descriptor() -> NodeError {
    limit("no descriptor is left for the bytes of a transfer")
}
