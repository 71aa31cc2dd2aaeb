//! Progress of a session, and its result for each receiver.

use crate::{NodeId, SessionId};

/// The state of a session, or of one receiver in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SessionState {
    /// Waiting for the peer to appear.
    Waiting,
    /// Under way.
    Active,
    /// Every byte arrived (on the sending side of a session: at every receiver).
    Complete,
    /// It cannot be done; the reason says why.
    Failed,
    /// The peer said nothing for longer than the limit.
    TimedOut,
    /// The receiver left.
    Left,
}

impl SessionState {
    /// Whether nothing more will happen.
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

/// Which side of a session this node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It sends.
    Sender,
    /// It receives.
    Receiver,
}

/// One receiver of a session.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerReport {
    /// The receiver.
    pub node: NodeId,
    /// How it stands.
    pub state: SessionState,
    /// Bytes of payload that it is known to have.
    pub bytes: u64,
    /// Seconds from the start of the data to its last byte (or to now, or to its end).
    pub seconds: f64,
    /// Rounds of repair that it needed.
    pub repair_rounds: u32,
    /// Why it ended as it did; empty when complete.
    pub reason: String,
}

/// A session of this node.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionReport {
    /// The session.
    pub session: SessionId,
    /// Our side of it.
    pub role: Role,
    /// The sending node.
    pub source: NodeId,
    /// How the whole stands.
    pub state: SessionState,
    /// Why it ended as it did; empty when complete.
    pub reason: String,
    /// Bytes of payload.
    pub total_bytes: u64,
    /// Seconds since the start of the data.
    pub seconds: f64,
    /// Rounds of repair so far.
    pub repair_rounds: u32,
    /// Bytes this node put on the wire for the session, IP headers included, once per copy that left it.
    pub bytes_sent: u64,
    /// Payload bytes of those that were repair.
    pub repair_bytes: u64,
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
