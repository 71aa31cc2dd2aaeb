//! The state of one node on a controller connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::member::Member;
use super::{Executor, Registration, Reply};

/// Interval of reports while counters change.
const MEASURE_EVERY: Duration = Duration::from_secs(5);
/// Longest interval between measurements while counters do not change, so that a thousand idle nodes cost almost
/// nothing.
const MEASURE_IDLE: Duration = Duration::from_secs(40);

pub(super) struct Attached {
    /// Unique among all attached nodes, so that results for an earlier incarnation of a node are recognised and
    /// ignored.
    pub number: u64,
    pub member: Member,
    pub executor: Arc<dyn Executor>,
    pub reconnect: bool,
    /// Whether the node is registered on the current connection.
    pub registered: bool,
    /// The reply to the first registration, its deadline and its time limit.
    pub waiting: Option<(Reply<()>, Instant, Duration)>,
    measure_every: Duration,
    measured: Instant,
    /// Counters were requested and have not arrived: a stalled packet thread does not get repeated requests.
    measuring: bool,
}

impl Attached {
    pub fn new(number: u64, registration: Registration, reply: Reply<()>, now: Instant) -> Self {
        let Registration {
            identity,
            executor,
            limit,
            reconnect,
        } = registration;
        Attached {
            number,
            member: Member::new(identity),
            executor,
            reconnect,
            registered: false,
            waiting: Some((reply, now + limit, limit)),
            measure_every: MEASURE_EVERY,
            measured: now,
            measuring: false,
        }
    }

    /// Whether the first registration has exceeded its time limit.
    pub fn is_late(&self, now: Instant) -> bool {
        self.waiting
            .as_ref()
            .is_some_and(|(_, deadline, _)| *deadline <= now)
    }

    /// Whether the counters are due; if so, marks them as requested.
    pub fn measurement_due(&mut self, now: Instant) -> bool {
        if !self.registered || self.measuring || now - self.measured < self.measure_every {
            return false;
        }
        self.measured = now;
        self.measuring = true;
        true
    }

    /// Records that the counters arrived; `changed` when there was something to report.
    pub fn was_measured(&mut self, changed: bool) {
        self.measuring = false;
        self.measure_every = if changed {
            MEASURE_EVERY
        } else {
            (self.measure_every * 2).min(MEASURE_IDLE)
        };
    }
}
