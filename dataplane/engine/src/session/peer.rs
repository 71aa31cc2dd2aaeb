//! The sender's state of one receiver.

use super::pace::Track;
use super::report::{PeerReport, SessionState};
use crate::{Instant, NodeId};

#[derive(Debug)]
pub(super) struct Peer {
    pub node: NodeId,
    /// Whether it may be invited: every earlier transfer to it and to the same address was taken, or has ended.
    pub turn: bool,
    /// Whether it has said that no receive call waits.
    pub unclaimed: bool,
    pub state: SessionState,
    pub reason: String,
    pub bytes: u64,
    pub repair_rounds: u32,
    /// Whether it has said what it misses of the current round, in full.
    pub answered: bool,
    pub heard: Instant,
    /// When it last had more bytes than before.
    pub advanced: Instant,
    pub finished: Option<Instant>,
    /// Silent for so long that the others no longer wait for it. It may come back until its time is up.
    pub muted: bool,
    /// When the controller said that it is gone, and why.
    pub gone: Option<(Instant, String)>,
    pub track: Track,
}

impl Peer {
    pub(super) fn new(node: NodeId, turn: bool, now: Instant) -> Self {
        Self {
            node,
            turn,
            unclaimed: false,
            state: SessionState::Waiting,
            reason: String::new(),
            bytes: 0,
            repair_rounds: 0,
            answered: false,
            heard: now,
            advanced: now,
            finished: None,
            muted: false,
            gone: None,
            track: Track::new(0),
        }
    }

    pub(super) fn active(&self) -> bool {
        self.state == SessionState::Active
    }

    /// Whether it sets the pace.
    pub(super) fn counts(&self) -> bool {
        self.active() && !self.muted
    }

    pub(super) fn mark_heard(&mut self, now: Instant) {
        self.heard = now;
        self.muted = self.gone.is_some();
    }

    pub(super) fn has_bytes(&mut self, now: Instant, bytes: u64) {
        if bytes > self.bytes {
            self.bytes = bytes;
            self.advanced = now;
        }
    }

    pub(super) fn end(&mut self, now: Instant, state: SessionState, reason: String) {
        self.state = state;
        self.reason = reason;
        self.finished = Some(now);
    }

    pub(super) fn report(&self, started: Option<Instant>, now: Instant) -> PeerReport {
        let end = self.finished.unwrap_or(now);
        PeerReport {
            node: self.node,
            state: self.state,
            bytes: self.bytes,
            seconds: started.map_or(0.0, |start| end.since(start).as_secs_f64()),
            repair_rounds: self.repair_rounds,
            reason: self.reason.clone(),
        }
    }
}
