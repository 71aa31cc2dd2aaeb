//! The congestion window of a source, and what may be retransmitted.
//!
//! smoltcp sends whatever is in its transmit buffer and fits the peer's window, so the source puts no more into the
//! buffer than this window allows. After a loss smoltcp sends the whole buffer again; [`Window::may_send`] then lets
//! segments out at the pace of a slow start, so that most of what has arrived is acknowledged before it is repeated.
//! smoltcp's retransmission timer runs also while acknowledgements arrive; it counts only when none has arrived for
//! the timeout of RFC 6298, or when duplicate acknowledgements mean a loss.
//!
//! Source: RFC 5681 (slow start, congestion avoidance, half of the data in flight after a loss), RFC 6928 (initial
//! window), RFC 6582 (a recovery ends when everything that was in flight at its beginning is acknowledged).

use std::time::Duration;

use nm_engine::Instant;

/// Segments of the initial window (RFC 6928, section 2).
const INITIAL_SEGMENTS: u64 = 10;
/// Bounds of the retransmission timeout: the smallest is Linux's, the first that of RFC 6298 (section 2.1).
const MIN_RTO: Duration = Duration::from_millis(200);
const FIRST_RTO: Duration = Duration::from_secs(1);
const MAX_RTO: Duration = Duration::from_secs(10);
/// Duplicate acknowledgements that mean a loss (RFC 5681, section 3.2).
const DUPLICATES: u32 = 3;
/// smoltcp (0.12) starts its retransmission timer anew only when everything is acknowledged, and doubles it at each
/// expiry before that. After this time the source therefore waits once until everything is acknowledged: one round
/// trip, for a timer that stays short.
const DRAIN_AFTER: Duration = Duration::from_secs(4);

/// Positions count the bytes of the stream from 0, with the header of the flow.
#[derive(Debug)]
pub(crate) struct Window {
    mss: u64,
    cwnd: u64,
    ssthresh: u64,
    max: u64,
    /// Acknowledged bytes in congestion avoidance since the window grew last.
    counted: u64,
    /// The first byte that is not acknowledged.
    acked: u64,
    /// Behind the last byte that was ever sent, and behind the one that was sent last.
    highest: u64,
    position: u64,
    recovery: Option<Recovery>,
    /// When the last acknowledgement of new bytes arrived, or the first byte in flight was sent.
    progressed_at: Instant,
    /// Acknowledgements since then that repeat the last one.
    duplicates: u32,
    /// When nothing was in flight last, and whether the source waits until that is so again.
    empty_at: Instant,
    draining: bool,
    /// A position whose acknowledgement measures the round trip, and when it was sent.
    timed: Option<(u64, Instant)>,
    /// Smoothed round-trip time and its variation (RFC 6298), once measured.
    round_trip: Option<(Duration, Duration)>,
    /// Whether the source had more to send than the window allowed since the last acknowledgement (RFC 7661: a window
    /// that is not used does not grow).
    limited: bool,
}

#[derive(Debug)]
struct Recovery {
    /// It ends when this position is acknowledged.
    until: u64,
    /// Retransmitted bytes that may be in flight.
    allowed: u64,
}

impl Window {
    /// The window of a new connection whose buffer holds `max` bytes.
    pub(crate) fn new(now: Instant, mss: usize, max: usize) -> Self {
        let (mss, max) = (mss as u64, max as u64);
        Self {
            mss,
            cwnd: (INITIAL_SEGMENTS * mss).min(max),
            ssthresh: u64::MAX,
            max,
            counted: 0,
            acked: 0,
            highest: 0,
            position: 0,
            recovery: None,
            progressed_at: now,
            duplicates: 0,
            empty_at: now,
            draining: false,
            timed: None,
            round_trip: None,
            limited: false,
        }
    }

    /// Segments have at most this many bytes from now on.
    pub(crate) fn set_mss(&mut self, mss: usize) {
        self.mss = mss as u64;
    }

    /// Bytes that may be appended to a buffer that holds `buffered` bytes.
    pub(crate) fn available(&mut self, now: Instant, buffered: u64) -> u64 {
        if self.highest == self.acked {
            (self.empty_at, self.draining) = (now, false);
        }
        self.draining |= now >= self.empty_at + DRAIN_AFTER;
        if self.recovery.is_some() || self.draining {
            return 0;
        }
        let available = self.cwnd.saturating_sub(buffered);
        self.limited |= available < self.mss;
        available
    }

    /// Everything before `position` is acknowledged.
    pub(crate) fn on_acked(&mut self, now: Instant, position: u64) {
        let Some(bytes) = position.checked_sub(self.acked).filter(|bytes| *bytes > 0) else {
            return;
        };
        self.acked = position;
        (self.progressed_at, self.duplicates) = (now, 0);
        if let Some((_, sent)) = self.timed.filter(|(end, _)| *end <= position) {
            self.timed = None;
            self.measure(now - sent);
        }
        self.position = self.position.max(position);
        self.highest = self.highest.max(position);
        match &mut self.recovery {
            Some(recovery) if position >= recovery.until => {
                self.recovery = None;
                self.cwnd = self.ssthresh.min(self.max);
                self.counted = 0;
            }
            Some(recovery) => {
                recovery.allowed =
                    recovery.allowed.saturating_add(bytes.min(self.mss)).min(self.ssthresh.max(2 * self.mss));
            }
            None => self.grow(bytes),
        }
        self.limited = false;
    }

    /// RFC 6298, section 2.
    fn measure(&mut self, sample: Duration) {
        self.round_trip = Some(match self.round_trip {
            None => (sample, sample / 2),
            Some((smooth, variation)) => {
                ((smooth * 7 + sample) / 8, (variation * 3 + smooth.abs_diff(sample)) / 4)
            }
        });
    }

    fn timeout(&self) -> Duration {
        let measured = self.round_trip.map(|(smooth, variation)| smooth + variation * 4);
        measured.unwrap_or(FIRST_RTO).clamp(MIN_RTO, MAX_RTO)
    }

    /// An acknowledgement without payload arrived, with the low 32 bits `at` of its position.
    pub(crate) fn on_acknowledgement(&mut self, at: u32) {
        if at == self.acked as u32 && self.highest > self.acked {
            self.duplicates += 1;
        }
    }

    fn grow(&mut self, bytes: u64) {
        if !self.limited {
            return;
        }
        if self.cwnd < self.ssthresh {
            self.cwnd += bytes.min(2 * self.mss);
        } else {
            self.counted += bytes;
            if self.counted >= self.cwnd {
                self.counted -= self.cwnd;
                self.cwnd += self.mss;
            }
        }
        self.cwnd = self.cwnd.min(self.max);
    }

    /// A segment of `bytes` with the low 32 bits `at` of its position was sent.
    pub(crate) fn on_sent(&mut self, now: Instant, at: u32, bytes: usize) {
        let offset = at.wrapping_sub(self.acked as u32);
        // A keep-alive probe repeats the last acknowledged byte (RFC 1122, section 4.2.3.6).
        if offset >= 1 << 31 || bytes == 0 {
            return;
        }
        let start = self.acked + u64::from(offset);
        let end = start + bytes as u64;
        let again = start < self.highest;
        let rewound = start < self.position;
        self.position = end;
        let in_flight = self.highest - self.acked;
        if in_flight == 0 {
            self.progressed_at = now;
        }
        self.highest = self.highest.max(end);
        if !again {
            self.timed = self.timed.or(Some((end, now)));
            return;
        }
        // What is sent twice measures nothing (Karn's algorithm, RFC 6298, section 3).
        self.timed = None;
        match &mut self.recovery {
            // The retransmission was lost as well: begin again.
            Some(recovery) if rewound => recovery.allowed = self.mss,
            Some(_) => {}
            None => {
                self.ssthresh = (in_flight / 2).max(2 * self.mss);
                self.recovery = Some(Recovery { until: self.highest, allowed: self.mss });
            }
        }
    }

    /// Whether smoltcp may send now; `unsent`: whether its buffer has bytes that were never sent.
    pub(crate) fn may_send(&mut self, now: Instant, unsent: bool) -> bool {
        match self.blocked_until(unsent) {
            Some(at) if now < at => false,
            Some(_) => {
                // Nothing was acknowledged for the timeout. All is sent again, which starts smoltcp's own timer.
                self.progressed_at = now;
                if let Some(recovery) = &mut self.recovery {
                    recovery.allowed = u64::MAX;
                }
                true
            }
            None => true,
        }
    }

    /// When [`Window::may_send`] becomes true without an acknowledgement; `None` while it is.
    pub(crate) fn blocked_until(&self, unsent: bool) -> Option<Instant> {
        let expires = Some(self.progressed_at + self.timeout());
        match &self.recovery {
            _ if self.highest == self.acked => None,
            Some(recovery) if self.position < self.highest => {
                expires.filter(|_| self.position - self.acked >= recovery.allowed)
            }
            Some(_) => expires,
            None if unsent || self.duplicates >= DUPLICATES => None,
            None => expires,
        }
    }

    /// The position behind the last byte that was ever sent.
    pub(crate) fn highest(&self) -> u64 {
        self.highest
    }

    /// Acknowledged bytes.
    pub(crate) fn acked(&self) -> u64 {
        self.acked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: usize = 1_000;

    #[test]
    fn the_window_doubles_in_slow_start_and_halves_after_a_loss() {
        let mut window = Window::new(Instant::ZERO, MSS, 1 << 20);
        let now = Instant::ZERO;
        assert_eq!(window.available(now, 0), 10_000);
        for segment in 0..10 {
            window.on_sent(now, segment * 1_000, MSS);
        }
        assert_eq!(window.available(now, 10_000), 0);
        window.on_acked(now, 2_000);
        assert_eq!(window.available(now, 8_000), 4_000);
        window.on_sent(now, 2_000, MSS); // again
        assert_eq!(window.available(now, 8_000), 0);
        assert!(!window.may_send(now, false), "one segment at first");
        window.on_acked(now, 3_000);
        assert!(window.may_send(now, false));
        window.on_acked(now, 10_000);
        assert_eq!(window.available(now, 0), 4_000, "half of what was in flight");
    }

    #[test]
    fn a_recovery_without_acknowledgements_is_given_up() {
        let mut window = Window::new(Instant::ZERO, MSS, 1 << 20);
        let now = Instant::ZERO;
        window.on_sent(now, 0, MSS);
        window.on_sent(now, 1_000, MSS);
        assert!(!window.may_send(now, false), "smoltcp could only send again");
        (0..3).for_each(|_| window.on_acknowledgement(0));
        assert!(window.may_send(now, false));
        window.on_sent(now, 0, MSS);
        assert!(!window.may_send(now, false));
        let later = window.blocked_until(false).expect("a recovery");
        assert!(window.may_send(later, false));
        window.on_acked(later, 1_000);
    }

    #[test]
    fn positions_beyond_32_bits_are_recognised() {
        let mut window = Window::new(Instant::ZERO, MSS, 1 << 20);
        let far = (1 << 32) + 5_000_u64;
        window.on_acked(Instant::ZERO, far);
        window.on_sent(Instant::ZERO, 5_000, MSS);
        window.on_acked(Instant::ZERO, far + 1_000);
        assert_eq!(window.acked(), far + 1_000);
    }
}
