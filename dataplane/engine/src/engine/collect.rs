//! Collect what a node reports about itself: see [`NodeMetrics`].

use super::Engine;
use crate::address::Owner;
use crate::{FlowMetrics, Instant, NodeMetrics, SessionId, SessionReport};

/// Sessions in one report; a node that has more reports the oldest ones first.
const MOST_SESSIONS: usize = 64;

/// The sessions that were reported last.
#[derive(Debug, Default)]
pub(super) struct Watched {
    last: SessionId,
    running: Vec<SessionId>,
}

impl Engine {
    /// The counters, and what changed since the last call.
    pub fn collect(&mut self, now: Instant) -> NodeMetrics {
        NodeMetrics {
            links: self.links.metrics(),
            tun_rx: self.tun_rx.clone(),
            tun_tx: self.tun_tx.clone(),
            delivered: self.receivers.delivered.clone(),
            flows: self.collect_flows(now),
            flows_forgotten: self.flows.forgotten,
            packets_unrecorded: self.flows.unrecorded,
            groups: self.groups.metrics(),
            sessions: self.collect_sessions(now),
        }
    }

    /// Whether flows began at this node since the last call of [`Self::take_begun_flows`].
    #[must_use]
    pub fn has_begun_flows(&self) -> bool {
        self.flows.has_begun()
    }

    /// The first flows that began at this node since the last call of [`Self::collect`], each of them once.
    pub fn take_begun_flows(&mut self) -> Vec<FlowMetrics> {
        let mut flows = self.flows.take_begun();
        self.describe(&mut flows);
        flows
    }

    fn collect_flows(&mut self, now: Instant) -> Vec<FlowMetrics> {
        let mut flows = self.flows.collect(now);
        self.describe(&mut flows);
        flows
    }

    /// Adds what the table of flows does not know: nodes and routes.
    fn describe(&self, flows: &mut [FlowMetrics]) {
        let routed = self.routes.has_explicit();
        for flow in flows {
            flow.peer = self.map.owner_at(flow.remote).node().unwrap_or(0);
            flow.application = !matches!(self.map.owner_at(flow.local), Owner::User(_));
            if routed && flow.started_here {
                flow.route = self.route_of(&flow.outgoing(), 0).map_or(0, |choice| choice.route);
            }
        }
    }

    fn collect_sessions(&mut self, now: Instant) -> Vec<SessionReport> {
        let last = self.sessions.last_id();
        let watched = &mut self.watched;
        if watched.running.is_empty() && watched.last == last {
            return Vec::new();
        }
        let mut ids = std::mem::take(&mut watched.running);
        ids.extend(watched.last + 1..=last);
        watched.last = last;
        let mut reports = Vec::new();
        for id in ids {
            // One that has left the history by now is not known any more.
            let Ok(report) = self.sessions.report(now, id) else { continue };
            if !report.state.is_final() {
                watched.running.push(id);
            }
            if reports.len() < MOST_SESSIONS {
                reports.push(report);
            }
        }
        reports
    }
}
