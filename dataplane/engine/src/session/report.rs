//! Progress of a session, and its result for each receiver.

use crate::{NodeId, SessionId};

/// The state of a session, or of one receiver in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SessionState {
    /// Waiting for a message of the peer.
    Waiting,
    /// The peers exchange data.
    Active,
    /// Every byte arrived (on the sending side of a session: at every receiver).
    Complete,
    /// It failed; the report contains the reason.
    Failed,
    /// No message of the peer arrived within the time limit.
    TimedOut,
    /// The receiver left the transfer on purpose.
    Left,
}

impl SessionState {
    /// Whether the state cannot change any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Waiting | Self::Active)
    }

    /// The stable name that reports use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Active => "active",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Left => "left",
        }
    }
}

/// The role of this node in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// This node sends.
    Sender,
    /// This node receives.
    Receiver,
}

/// One receiver of a session.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerReport {
    /// The receiver.
    pub node: NodeId,
    /// Its state.
    pub state: SessionState,
    /// Bytes of payload that it has confirmed.
    pub bytes: u64,
    /// Seconds from the start of the data to its last byte (or to now, or to its end).
    pub seconds: f64,
    /// Rounds of retransmission that it needed.
    pub repair_rounds: u32,
    /// Why it ended; empty when complete.
    pub reason: String,
}

/// A session of this node.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionReport {
    /// The session.
    pub session: SessionId,
    /// The role of this node.
    pub role: Role,
    /// The sending node.
    pub source: NodeId,
    /// The state of the session.
    pub state: SessionState,
    /// Why it ended; empty when complete.
    pub reason: String,
    /// Bytes of payload.
    pub total_bytes: u64,
    /// Seconds since the start of the data.
    pub seconds: f64,
    /// Rounds of retransmission so far.
    pub repair_rounds: u32,
    /// Bytes that this node sent for the session, IP headers included, once per copy.
    pub bytes_sent: u64,
    /// Payload bytes of them that were retransmissions.
    pub repair_bytes: u64,
    /// The smoothed round trip to the receiver that is farthest, in nanoseconds; `None` until it is known.
    pub rtt_ns: Option<u64>,
    /// Receivers; on the receiving side only this node.
    pub peers: Vec<PeerReport>,
}

impl SessionReport {
    /// Whether every listed receiver has every byte.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.state == SessionState::Complete
    }
}
