//! One node's place on a connection.

use std::sync::Arc;
use std::time::Duration;

use nm_messages::{Metrics, ToNode};
use tokio::time::Instant;

use super::member::Member;
use super::{Hands, Registration, Reply};

/// How often counters that move are reported.
const MEASURE_EVERY: Duration = Duration::from_secs(5);
/// How rarely counters that do not move are looked at: a thousand idle nodes should cost next to nothing.
const MEASURE_IDLE: Duration = Duration::from_secs(40);

pub(super) struct Seat {
    pub member: Member,
    pub hands: Arc<dyn Hands>,
    pub reconnect: bool,
    /// Registered on the line that is open now.
    pub registered: bool,
    /// Whoever waits for the first registration, and until when.
    pub waiting: Option<(Reply<()>, Instant, Duration)>,
    measure_every: Duration,
    measured: Instant,
}

impl Seat {
    pub fn new(registration: Registration, reply: Reply<()>, now: Instant) -> Self {
        let Registration {
            who,
            hands,
            limit,
            reconnect,
        } = registration;
        Seat {
            member: Member::new(who),
            hands,
            reconnect,
            registered: false,
            waiting: Some((reply, now + limit, limit)),
            measure_every: MEASURE_EVERY,
            measured: now,
        }
    }

    /// Whether somebody has waited too long for the registration.
    pub fn is_late(&self, now: Instant) -> bool {
        self.waiting
            .as_ref()
            .is_some_and(|(_, deadline, _)| *deadline <= now)
    }

    /// Lets the node do what an order says.
    pub fn obey(&mut self, order: ToNode) -> Result<(), String> {
        for effect in self.member.handle(order)? {
            self.hands.carry_out(effect)?;
        }
        Ok(())
    }

    /// The counters, when it is time and they moved.
    pub fn measure(&mut self, now: Instant) -> Option<Metrics> {
        if !self.registered || now - self.measured < self.measure_every {
            return None;
        }
        self.measured = now;
        let found = self.hands.measure();
        self.measure_every = if found.is_some() {
            MEASURE_EVERY
        } else {
            (self.measure_every * 2).min(MEASURE_IDLE)
        };
        found
    }
}
