//! Report the progress of flows, which explicit routes they take, and when they move to another one.

use std::collections::BTreeMap;

use nm_engine::{Instant, RouteId};

use super::{Endpoint, PROGRESS};
use crate::connection::Side;
use crate::flow::{FlowEvent, FlowKey};

impl Endpoint {
    pub(super) fn report_progress(&mut self, now: Instant) {
        let connections = &self.connections;
        let acked =
            self.records.running().filter_map(|(id, index)| match &connections[index].as_ref()?.side {
                Side::Source(source) => Some((id, source.acked())),
                Side::Sink(_) => None,
            });
        let acked: BTreeMap<u64, u64> = acked.collect();
        let moved = acked.iter().filter(|(id, bytes)| **bytes != self.reported.get(id).copied().unwrap_or(0));
        let moved: Vec<(u64, u64)> = moved.map(|(id, bytes)| (*id, *bytes)).collect();
        if !moved.is_empty() {
            self.events.push_back(FlowEvent::Progressed(moved));
        }
        self.progress_at = (!acked.is_empty()).then(|| now + PROGRESS);
        self.reported = acked;
    }

    /// Reports the explicit routes of flows that have begun, and of running flows that take another route than before.
    /// Cheap while nothing of both is new.
    ///
    /// `generation` increases when the routes may have changed; `route_of` returns the route of a flow that prefers
    /// one, 0 for none.
    pub fn check_routes(
        &mut self,
        now: Instant,
        generation: u64,
        mut route_of: impl FnMut(&FlowKey, RouteId) -> RouteId,
    ) {
        let changed = std::mem::replace(&mut self.routes_seen, generation) != generation;
        if self.begun.is_empty() && !changed {
            return;
        }
        let begun = std::mem::take(&mut self.begun);
        let running = self.records.running().map(|(_, index)| (index, false)).filter(|_| changed);
        let found: Vec<_> = begun.into_iter().map(|index| (index, true)).chain(running).collect();
        for (index, again) in found {
            if let Some(Side::Source(source)) = self.side(index) {
                let routed = source.routed(now, again, &mut route_of);
                self.events.extend(routed);
            }
        }
    }
}
