//! The sender's state of one receiver.

use super::pace::PathModel;
use super::report::{PeerReport, SessionState};
use crate::{Instant, NodeId};

#[derive(Debug)]
pub(super) struct Peer {
    pub node: NodeId,
    /// Whether it may be sent an offer: every earlier transfer to it and to the same address was accepted, or has
    /// ended.
    pub may_offer: bool,
    /// Whether it reported that no receive call waits.
    pub unclaimed: bool,
    pub state: SessionState,
    pub reason: String,
    pub bytes: u64,
    pub repair_rounds: u32,
    /// Whether it has reported all segments that it misses of the current round.
    pub answered: bool,
    pub last_received: Instant,
    /// The time when its number of bytes last grew.
    pub advanced: Instant,
    pub finished: Option<Instant>,
    /// Without a message for so long that the other receivers no longer wait for it. A message before its timeout
    /// resets this.
    pub unresponsive: bool,
    /// The time when the controller reported the node as gone, and the reason.
    pub gone: Option<(Instant, String)>,
    pub path: PathModel,
}

impl Peer {
    pub(super) fn new(node: NodeId, may_offer: bool, now: Instant) -> Self {
        Self {
            node,
            may_offer,
            unclaimed: false,
            state: SessionState::Waiting,
            reason: String::new(),
            bytes: 0,
            repair_rounds: 0,
            answered: false,
            last_received: now,
            advanced: now,
            finished: None,
            unresponsive: false,
            gone: None,
            path: PathModel::new(0),
        }
    }

    pub(super) fn active(&self) -> bool {
        self.state == SessionState::Active
    }

    /// Whether it is considered for rate, window and repair.
    pub(super) fn is_responsive(&self) -> bool {
        self.active() && !self.unresponsive
    }

    pub(super) fn mark_received(&mut self, now: Instant) {
        self.last_received = now;
        self.unresponsive = self.gone.is_some();
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
