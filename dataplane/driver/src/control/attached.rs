//! The state of one node on a controller connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::member::Member;
use super::{Executor, Registration, Reply};

/// Shortest interval between two reports: the connection looks for due ones ten times a second.
const LEAST_INTERVAL: Duration = Duration::from_millis(100);

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
    /// The interval of reports, and when the next one is due; `None` before the settings arrived, and for none.
    reports: Option<(Duration, Instant)>,
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
            reports: None,
            measuring: false,
        }
    }

    /// Whether the first registration has exceeded its time limit.
    pub fn is_late(&self, now: Instant) -> bool {
        self.waiting
            .as_ref()
            .is_some_and(|(_, deadline, _)| *deadline <= now)
    }

    /// Sets the interval of reports in milliseconds; 0 ends them.
    pub fn measure_every(&mut self, interval_ms: u32, now: Instant) {
        let every = Duration::from_millis(u64::from(interval_ms)).max(LEAST_INTERVAL);
        self.reports = (interval_ms > 0).then_some((every, now + every));
    }

    /// Whether the controller wants reports.
    pub fn reports_metrics(&self) -> bool {
        self.reports.is_some()
    }

    /// Whether the counters are due; if so, marks them as requested.
    pub fn measurement_due(&mut self, now: Instant) -> bool {
        let Some((every, next)) = &mut self.reports else {
            return false;
        };
        if !self.registered || self.measuring || now < *next {
            return false;
        }
        // At a steady pace, and without catching up after a pause.
        *next = (*next + *every).max(now + *every / 2);
        self.measuring = true;
        true
    }

    /// Records that the counters arrived.
    pub fn was_measured(&mut self) {
        self.measuring = false;
    }
}
