//! The report of a sending session.

use super::{Phase, Sender};
use crate::session::report::{Role, SessionReport, SessionState};
use crate::{Instant, NodeId};

impl Sender {
    fn state(&self) -> SessionState {
        match self.phase {
            Phase::Offering => SessionState::Waiting,
            Phase::Sending | Phase::Requesting(_) => SessionState::Active,
            Phase::Done if self.peers.iter().all(|peer| peer.state == SessionState::Complete) => {
                SessionState::Complete
            }
            Phase::Done => SessionState::Failed,
        }
    }

    pub(in crate::session) fn report(&self, now: Instant, source: NodeId) -> SessionReport {
        let end = self.finished.unwrap_or(now);
        SessionReport {
            session: self.id,
            role: Role::Sender,
            source,
            state: self.state(),
            reason: self.reason.clone(),
            total_bytes: self.total,
            seconds: self.data_started.map_or(0.0, |start| end.since(start).as_secs_f64()),
            repair_rounds: self.round,
            bytes_sent: self.bytes_sent,
            repair_bytes: self.repair_bytes,
            rtt_ns: self.longest_rtt(),
            peers: self.peers.iter().map(|peer| peer.report(self.data_started, now)).collect(),
        }
    }
}
