//! Report user-space flows to the controller.

use std::time::{SystemTime, UNIX_EPOCH};

use nm_engine::Instant;
use nm_flows::{FlowEnd, FlowEvent, FlowKey};
use nm_messages::{
    FinishedFlow, FlowFinished, FlowProgress, RouteAssigned, RouteAssignment, UserFlow,
    UserFlowProgress, UserFlowStart,
};

use crate::control::LinkReport;

/// The number of TCP among the protocols of IP.
const TCP: u8 = 6;

/// Flows in one message: 150 kB.
const FLOWS_PER_REPORT: usize = 1_000;

/// Sends what happened to flows.
pub(super) fn report(to: &LinkReport, events: Vec<FlowEvent>) {
    let clock = Clock::now();
    let (mut began, mut routed, mut ended) = (Vec::new(), Vec::new(), Vec::new());
    for event in events {
        match event {
            FlowEvent::Began { id, key, at } => began.push(UserFlow {
                controller_id: id,
                flow_id: flow_id(&key).to_vec().into(),
                start_ms: clock.micros(at) / 1_000,
            }),
            FlowEvent::Routed { key, at, route } => routed.push(RouteAssignment {
                flow_id: flow_id(&key).to_vec().into(),
                route_id: u64::from(route),
                time_ms: clock.micros(at) / 1_000,
            }),
            FlowEvent::Ended(end) => ended.push(finished(&clock, end)),
            FlowEvent::Progressed(flows) => {
                let flows = flows
                    .into_iter()
                    .map(|(controller_id, size_bytes)| FlowProgress {
                        controller_id,
                        size_bytes,
                    });
                let progress = UserFlowProgress {
                    time_ms: clock.unix_us / 1_000,
                    flows: flows.collect(),
                };
                to.report_flows(progress, false);
            }
        }
    }
    for flows in began.chunks(FLOWS_PER_REPORT) {
        let flows = flows.to_vec();
        to.report_flows(UserFlowStart { flows }, true);
    }
    for assignments in routed.chunks(FLOWS_PER_REPORT) {
        let assignments = assignments.to_vec();
        to.report_flows(RouteAssigned { assignments }, true);
    }
    for flows in ended.chunks(FLOWS_PER_REPORT) {
        let flows = flows.to_vec();
        to.report_flows(FlowFinished { flows }, true);
    }
}

fn finished(clock: &Clock, end: FlowEnd) -> FinishedFlow {
    let (start_us, finish_us) = (clock.micros(end.began), clock.micros(end.ended));
    FinishedFlow {
        flow_id: end.key.map_or([0; 16], |key| flow_id(&key)).to_vec().into(),
        start_ms: start_us / 1_000,
        finish_ms: finish_us / 1_000,
        size_bytes: end.bytes,
        controller_id: Some(end.id),
        reason: end.reason.as_str().to_owned(),
        start_us,
        finish_us,
    }
}

/// Both clocks at one moment, to convert the times of packets.
struct Clock {
    monotonic_ns: u64,
    unix_us: u64,
}

impl Clock {
    fn now() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            monotonic_ns: nm_kernel::thread::monotonic_ns(),
            unix_us: u64::try_from(unix.unwrap_or_default().as_micros()).unwrap_or(u64::MAX),
        }
    }

    /// Microseconds since 1970.
    fn micros(&self, at: Instant) -> u64 {
        let past = self.monotonic_ns.saturating_sub(at.0) / 1_000;
        self.unix_us.saturating_sub(past)
    }
}

/// The 16-byte key of a flow, as that of the flows that the engine counts.
fn flow_id(key: &FlowKey) -> [u8; 16] {
    super::flow_key::flow_key(
        key.src.into(),
        key.dst.into(),
        key.src_port,
        key.dst_port,
        TCP,
    )
}
