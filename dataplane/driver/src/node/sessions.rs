//! Lossless transfers: argument checks, state, results and buffers.
//!
//! The protocol runs in the engine. What the engine hands over at the end of a transfer is kept in
//! [`Records`](super::records).

use std::net::Ipv4Addr;

use nm_engine::{
    Command, CommandError, CommandOutput, NodeId, SessionId, SessionReport, SessionState,
    SharedBytes,
};

use super::error::NodeError;
use super::records::{Received, Status};
use super::Node;
use crate::runtime::PortError;

impl Node {
    /// Starts a transfer to every node in `receivers`.
    pub fn send_data(
        &self,
        group_id: u32,
        dest: Ipv4Addr,
        receivers: Vec<NodeId>,
        data: SharedBytes,
        chunk_size: u64,
    ) -> Result<SessionId, NodeError> {
        check_chunk(chunk_size)?;
        if receivers.is_empty() {
            return Err(argument(
                "argument.receivers",
                "no receivers are listed".to_owned(),
            ));
        }
        if data.as_slice().is_empty() {
            return Err(argument(
                "argument.buffer",
                "the buffer is empty".to_owned(),
            ));
        }
        let dest = self.destination(group_id, dest)?;
        self.open_session(Command::SendData {
            dest,
            receivers,
            data,
        })
    }

    /// Prepares to receive a transfer of at most `expected_bytes`.
    pub fn receive_data(
        &self,
        group_id: u32,
        dest: Ipv4Addr,
        source: NodeId,
        expected_bytes: u64,
        chunk_size: u64,
    ) -> Result<SessionId, NodeError> {
        check_chunk(chunk_size)?;
        if expected_bytes == 0 {
            return Err(argument(
                "argument.expected_bytes",
                "no bytes are expected".to_owned(),
            ));
        }
        let dest = self.destination(group_id, dest)?;
        if let Some(reason) = self.state.look(|facts| facts.sessions.refusal()) {
            return Err(NodeError::Unfetched(reason));
        }
        self.open_session(Command::ReceiveData {
            dest,
            source,
            expected_bytes,
        })
    }

    /// The final state of a session, or `None` while it runs.
    pub fn session_state(&self, session: SessionId) -> Result<Option<SessionState>, NodeError> {
        match self.state.look(|facts| facts.sessions.status(session)) {
            Status::Ended(state) => Ok(Some(state)),
            Status::Running => self.check_open().map(|()| None),
            Status::Forgotten | Status::Unknown => Err(NodeError::UnknownSession(session)),
        }
    }

    /// The state of a session for each receiver.
    pub fn session_report(&self, session: SessionId) -> Result<SessionReport, NodeError> {
        let ended = || {
            self.state
                .look(|facts| Some(facts.sessions.get(session)?.report.clone()))
        };
        if self.session_state(session)?.is_none() {
            match self.command(Command::SessionReport { session }) {
                Ok(CommandOutput::Report(report)) => return Ok(*report),
                Ok(_) => return Err(NodeError::Internal("SessionReport")),
                // The session has ended meanwhile, so long ago that the engine no longer knows it.
                Err(NodeError::Port(PortError::Command(CommandError::UnknownSession(_)))) => {}
                Err(error) => return Err(error),
            }
        }
        ended().ok_or(NodeError::UnknownSession(session))
    }

    /// The bytes that a session received; `consume` removes them from the record.
    pub fn session_data(&self, session: SessionId, consume: bool) -> Result<Received, NodeError> {
        self.session_state(session)?;
        // Removing data changes nothing that a caller waits for, so the signal is not notified.
        self.state
            .change_quietly(|facts| facts.sessions.data(session, consume))
            .map_err(|reason| NodeError::NoData { session, reason })
    }

    /// Ends a session at once, notifies its peers, and releases bytes that were not fetched. Further calls have no
    /// effect, also after the node was closed.
    pub fn cancel_session(&self, session: SessionId) -> Result<(), NodeError> {
        match self.state.look(|facts| facts.sessions.status(session)) {
            Status::Unknown => return Err(NodeError::UnknownSession(session)),
            Status::Running if !self.is_closed() => {
                match self.command(Command::CancelSession { session }) {
                    Ok(_) | Err(NodeError::Closed(_) | NodeError::Port(PortError::Closed)) => {}
                    Err(error) => return Err(error),
                }
            }
            _ => {}
        }
        let held = self
            .state
            .change_quietly(|facts| facts.sessions.release(session, "it was cancelled"));
        drop(held);
        Ok(())
    }

    fn open_session(&self, command: Command) -> Result<SessionId, NodeError> {
        match self.command(command)? {
            CommandOutput::Session(session) => Ok(session),
            _ => Err(NodeError::Internal("SendData or ReceiveData")),
        }
    }

    /// The destination of a transfer. A group is identified by its number; its address follows from that.
    fn destination(&self, group_id: u32, dest: Ipv4Addr) -> Result<Ipv4Addr, NodeError> {
        if !dest.is_multicast() {
            return Ok(dest);
        }
        self.group_address(group_id)
            .ok_or(NodeError::UnknownGroup(group_id))
    }
}

fn check_chunk(chunk_size: u64) -> Result<(), NodeError> {
    if chunk_size == 0 {
        return Err(argument(
            "argument.chunk_size",
            "the chunk size is zero".to_owned(),
        ));
    }
    Ok(())
}

fn argument(id: &'static str, message: String) -> NodeError {
    NodeError::Argument { id, message }
}
