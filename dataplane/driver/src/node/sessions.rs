//! Lossless transfers: checks at the door, a record of each, results and buffers.
//!
//! The protocol runs in the engine; here is only what a program may ask about its transfers, for longer than the
//! engine remembers them.

use std::net::Ipv4Addr;
use std::sync::Arc;

use nm_engine::{
    Command, CommandError, CommandOutput, NodeId, Role, SessionId, SessionReport, SessionState,
    SharedBytes,
};

use super::error::NodeError;
use super::wait::lock;
use super::Node;
use crate::runtime::PortError;

/// Records of ended sessions kept at most; the oldest go first.
const RECORD_LIMIT: usize = 4096;

/// The bytes that a session received.
pub type Received = Arc<Vec<u8>>;

/// What is remembered of a session.
#[derive(Debug)]
pub struct Record {
    number: u64,
    report: Option<SessionReport>,
    data: Option<Received>,
    consumed: bool,
}

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
            limits: None,
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
        self.open_session(Command::ReceiveData {
            dest,
            source,
            expected_bytes,
            limits: None,
        })
    }

    /// How a session ended, or `None` while it runs.
    pub fn session_state(&self, session: SessionId) -> Result<Option<SessionState>, NodeError> {
        if !lock(&self.sessions).contains_key(&session) {
            return Err(NodeError::UnknownSession(session));
        }
        let finished = self
            .state
            .look(|facts| facts.finished.get(&session).copied());
        if finished.is_none() {
            self.check_open()?;
        }
        Ok(finished)
    }

    /// How a session stands, receiver by receiver.
    pub fn session_report(&self, session: SessionId) -> Result<SessionReport, NodeError> {
        self.settle(session)?;
        if let Some(report) = lock(&self.sessions)
            .get(&session)
            .and_then(|record| record.report.clone())
        {
            return Ok(report);
        }
        self.ask_report(session)
    }

    /// What a session received; with `consume` our hold on the bytes ends.
    pub fn session_data(&self, session: SessionId, consume: bool) -> Result<Received, NodeError> {
        self.settle(session)?;
        let mut sessions = lock(&self.sessions);
        let record = sessions
            .get_mut(&session)
            .ok_or(NodeError::UnknownSession(session))?;
        let data = if consume {
            record.data.take()
        } else {
            record.data.clone()
        };
        let reason = match (&data, &record.report) {
            (Some(_), _) => String::new(),
            _ if record.consumed => "it was consumed".to_owned(),
            (None, None) => "it is not complete".to_owned(),
            (None, Some(report)) if report.role == Role::Sender => "it sends".to_owned(),
            (None, Some(report)) => {
                format!("it ended as {}: {}", report.state.as_str(), report.reason)
            }
        };
        record.consumed |= consume && data.is_some();
        data.ok_or(NodeError::NoData { session, reason })
    }

    /// Ends a session at once; its peers are told.
    pub fn cancel_session(&self, session: SessionId) -> Result<(), NodeError> {
        if self.session_state(session)?.is_none() {
            self.command(Command::CancelSession { session })?;
        }
        Ok(())
    }

    fn open_session(&self, command: Command) -> Result<SessionId, NodeError> {
        let CommandOutput::Session(session) = self.command(command)? else {
            return Err(NodeError::Internal("SendData or ReceiveData"));
        };
        let mut sessions = lock(&self.sessions);
        let number = sessions
            .values()
            .map(|record| record.number + 1)
            .max()
            .unwrap_or(0);
        let record = Record {
            number,
            report: None,
            data: None,
            consumed: false,
        };
        sessions.insert(session, record);
        if sessions.len() > RECORD_LIMIT {
            let ended = sessions
                .iter()
                .filter(|(_, record)| record.report.is_some());
            if let Some(oldest) = ended
                .min_by_key(|(_, record)| record.number)
                .map(|(id, _)| *id)
            {
                sessions.remove(&oldest);
                drop(sessions);
                self.state.change(|facts| facts.finished.remove(&oldest));
            }
        }
        Ok(session)
    }

    /// Once a session has ended, takes its report and its bytes over from the engine.
    fn settle(&self, session: SessionId) -> Result<(), NodeError> {
        if self.session_state(session)?.is_none() {
            return Ok(());
        }
        let settled = lock(&self.sessions)
            .get(&session)
            .is_some_and(|record| record.report.is_some());
        if settled || self.is_closed() {
            return Ok(());
        }
        let report = self.ask_report(session)?;
        let received = report.role == Role::Receiver && report.complete();
        let data = if received {
            self.take_data(session)?
        } else {
            None
        };
        if let Some(record) = lock(&self.sessions).get_mut(&session) {
            // Of two callers that settle at once, one gets the bytes; they must not be lost.
            record.report = Some(report);
            record.data = record.data.take().or(data);
        }
        Ok(())
    }

    fn ask_report(&self, session: SessionId) -> Result<SessionReport, NodeError> {
        match self.command(Command::SessionReport { session })? {
            CommandOutput::Report(report) => Ok(*report),
            _ => Err(NodeError::Internal("SessionReport")),
        }
    }

    fn take_data(&self, session: SessionId) -> Result<Option<Received>, NodeError> {
        match self.command(Command::SessionData {
            session,
            consume: true,
        }) {
            Ok(CommandOutput::Data(data)) => Ok(Some(data)),
            Ok(_) => Err(NodeError::Internal("SessionData")),
            Err(NodeError::Port(PortError::Command(CommandError::NoData { .. }))) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where a transfer goes. A group is known by its number; its address follows from it.
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
