//! The state of one node on a controller connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::member::Member;
use super::{Executor, Registration, Reply};

/// How often counters that move are reported.
const MEASURE_EVERY: Duration = Duration::from_secs(5);
/// How rarely counters that do not move are looked at: a thousand idle nodes should cost next to nothing.
const MEASURE_IDLE: Duration = Duration::from_secs(40);

pub(super) struct Attached {
    /// Differs from every other node's, so that what was begun for an earlier one is not taken for ours.
    pub number: u64,
    pub member: Member,
    pub executor: Arc<dyn Executor>,
    pub reconnect: bool,
    /// Registered on the line that is open now.
    pub registered: bool,
    /// Whoever waits for the first registration, and until when.
    pub waiting: Option<(Reply<()>, Instant, Duration)>,
    measure_every: Duration,
    measured: Instant,
    /// Counters were asked for and have not come: a packet thread that stands still is not asked again and again.
    measuring: bool,
}

impl Attached {
    pub fn new(number: u64, registration: Registration, reply: Reply<()>, now: Instant) -> Self {
        let Registration {
            who,
            executor,
            limit,
            reconnect,
        } = registration;
        Attached {
            number,
            member: Member::new(who),
            executor,
            reconnect,
            registered: false,
            waiting: Some((reply, now + limit, limit)),
            measure_every: MEASURE_EVERY,
            measured: now,
            measuring: false,
        }
    }

    /// Whether somebody has waited too long for the registration.
    pub fn is_late(&self, now: Instant) -> bool {
        self.waiting
            .as_ref()
            .is_some_and(|(_, deadline, _)| *deadline <= now)
    }

    /// Whether it is time to ask for the counters; then they have to be asked for.
    pub fn wants_measure(&mut self, now: Instant) -> bool {
        if !self.registered || self.measuring || now - self.measured < self.measure_every {
            return false;
        }
        self.measured = now;
        self.measuring = true;
        true
    }

    /// The counters came; `moved` when there was something to report.
    pub fn was_measured(&mut self, moved: bool) {
        self.measuring = false;
        self.measure_every = if moved {
            MEASURE_EVERY
        } else {
            (self.measure_every * 2).min(MEASURE_IDLE)
        };
    }
}
