//! Controlled delay: the algorithm of RFC 8289, section 5, for one queue.

use crate::Instant;

/// The settings, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    pub target: u64,
    pub interval: u64,
}

/// What is known of a segment when its transmission could start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub now: Instant,
    /// When it was queued.
    pub since: Instant,
    /// Bytes of the queue behind it.
    pub behind: u64,
    /// Bytes of the largest segment that the queue has held. A queue of no more is no standing queue.
    pub largest: u64,
}

/// The state of one queue. RFC 8289 drops packets in a loop until one may pass; here every segment is a call of
/// [`Codel::drops`], with the same results. The last packet of a
/// queue is never late, so a queue that has been empty begins anew.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Codel {
    /// When the waiting time will have exceeded the target for an interval; `None` while it does not exceed it.
    first_above: Option<Instant>,
    dropping: bool,
    drop_next: Instant,
    /// Drops since the state was entered, and their number when it was entered.
    count: u32,
    last_count: u32,
    /// A segment was dropped, and `drop_next` moves on if the next one is late too.
    dropped: bool,
}

impl Codel {
    /// Whether a segment is dropped or marked instead of being transmitted.
    pub(super) fn drops(&mut self, settings: Settings, candidate: Candidate) -> bool {
        let late = self.is_late(settings, candidate);
        if !self.dropping {
            if late {
                self.enter(settings, candidate.now);
            }
            return late;
        }
        let dropped = std::mem::take(&mut self.dropped);
        if !late {
            self.dropping = false;
            return false;
        }
        if dropped {
            self.drop_next = control_law(self.drop_next, settings, self.count);
        }
        if candidate.now < self.drop_next {
            return false;
        }
        self.count = self.count.saturating_add(1);
        self.dropped = true;
        true
    }

    fn is_late(&mut self, settings: Settings, candidate: Candidate) -> bool {
        let Candidate { now, since, behind, largest } = candidate;
        if now.nanos_since(since) < settings.target || behind <= largest {
            self.first_above = None;
            return false;
        }
        let first_above = *self.first_above.get_or_insert(now.plus_nanos(settings.interval));
        now >= first_above
    }

    /// Starts dropping, at the last rate of drops if that was a short time ago.
    fn enter(&mut self, settings: Settings, now: Instant) {
        let delta = self.count.saturating_sub(self.last_count);
        let recent = now.nanos_since(self.drop_next) < settings.interval.saturating_mul(16);
        self.count = if delta > 1 && recent { delta } else { 1 };
        self.last_count = self.count;
        self.drop_next = control_law(now, settings, self.count);
        self.dropping = true;
    }
}

/// The time of the next drop: the interval divided by the square root of the number of drops later.
fn control_law(from: Instant, settings: Settings, count: u32) -> Instant {
    from.plus_nanos((settings.interval as f64 / f64::from(count).sqrt()) as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const SETTINGS: Settings = Settings { target: 5_000_000, interval: 100_000_000 };

    /// The pseudo-code of RFC 8289, section 5, with its names, over a queue of packets of 1,500 bytes.
    #[derive(Default)]
    struct Rfc {
        queue: VecDeque<(u64, u64)>,
        first_above_time: u64,
        drop_next: u64,
        count: u32,
        lastcount: u32,
        dropping: bool,
        dropped: Vec<u64>,
    }

    impl Rfc {
        fn control_law(t: u64, count: u32) -> u64 {
            t + (SETTINGS.interval as f64 / f64::from(count).sqrt()) as u64
        }

        fn dodequeue(&mut self, now: u64) -> (Option<(u64, u64)>, bool) {
            let Some(packet) = self.queue.pop_front() else {
                self.first_above_time = 0;
                return (None, false);
            };
            if now - packet.1 < SETTINGS.target || self.queue.len() <= 1 {
                self.first_above_time = 0;
                return (Some(packet), false);
            }
            if self.first_above_time == 0 {
                self.first_above_time = now + SETTINGS.interval;
                return (Some(packet), false);
            }
            (Some(packet), now >= self.first_above_time)
        }

        fn deque(&mut self, now: u64) -> Option<u64> {
            let (mut packet, mut ok_to_drop) = self.dodequeue(now);
            if self.dropping {
                if !ok_to_drop {
                    self.dropping = false;
                }
                while now >= self.drop_next && self.dropping {
                    self.dropped.extend(packet.map(|p| p.0));
                    self.count += 1;
                    (packet, ok_to_drop) = self.dodequeue(now);
                    if ok_to_drop {
                        self.drop_next = Self::control_law(self.drop_next, self.count);
                    } else {
                        self.dropping = false;
                    }
                }
            } else if ok_to_drop {
                self.dropped.extend(packet.map(|p| p.0));
                packet = self.dodequeue(now).0;
                self.dropping = true;
                let delta = self.count - self.lastcount;
                self.count = 1;
                if delta > 1 && now.saturating_sub(self.drop_next) < 16 * SETTINGS.interval {
                    self.count = delta;
                }
                self.drop_next = Self::control_law(now, self.count);
                self.lastcount = self.count;
            }
            packet.map(|p| p.0)
        }
    }

    /// The same queue with [`Codel`].
    #[derive(Default)]
    struct Ours {
        queue: VecDeque<(u64, u64)>,
        codel: Codel,
        dropped: Vec<u64>,
    }

    impl Ours {
        fn deque(&mut self, now: u64) -> Option<u64> {
            while let Some((number, since)) = self.queue.pop_front() {
                let behind = 1_500 * self.queue.len() as u64;
                let candidate =
                    Candidate { now: Instant(now), since: Instant(since), behind, largest: 1_500 };
                if !self.codel.drops(SETTINGS, candidate) {
                    return Some(number);
                }
                self.dropped.push(number);
            }
            None
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_drops_the_packets_that_the_pseudo_code_drops(
            phases in proptest::collection::vec((0u64..4, 1u64..400), 1..30),
        ) {
            let (mut rfc, mut ours) = (Rfc::default(), Ours::default());
            let (mut number, mut now) = (0, 1);
            for (arrivals, length) in phases {
                for _ in 0..length {
                    now += 1_200_000;
                    for _ in 0..arrivals {
                        rfc.queue.push_back((number, now));
                        ours.queue.push_back((number, now));
                        number += 1;
                    }
                    prop_assert_eq!(rfc.deque(now), ours.deque(now));
                }
            }
            prop_assert_eq!(rfc.dropped, ours.dropped);
        }
    }

    #[test]
    fn a_standing_queue_loses_packets_at_growing_frequency() {
        let mut codel = Codel::default();
        let mut drops = Vec::new();
        for now in (0..700_000_000).step_by(100_000) {
            let candidate = Candidate {
                now: Instant(now + 10_000_000),
                since: Instant(now),
                behind: 90_000,
                largest: 1_500,
            };
            if codel.drops(SETTINGS, candidate) {
                drops.push(now as f64 / 1e6);
            }
        }
        // After 100 ms, then 100 ms / sqrt(1), sqrt(2), sqrt(3) …
        let mut expected = vec![100.0];
        for count in 1..drops.len() {
            expected.push(expected[count - 1] + 100.0 / (count as f64).sqrt());
        }
        assert!(drops.len() >= 9, "{drops:?}");
        assert!(drops.iter().zip(&expected).all(|(is, should)| (is - should).abs() <= 0.2), "{drops:?}");
    }
}
