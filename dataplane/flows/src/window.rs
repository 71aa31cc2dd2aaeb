//! The congestion window of a source, and what may be retransmitted.
//!
//! smoltcp sends whatever is in its transmit buffer and fits the peer's window, so the source puts no more into the
//! buffer than this window allows. After a loss smoltcp sends the whole buffer again; [`Window::may_send`] then lets
//! segments out at the pace of a slow start, so that most of what has arrived is acknowledged before it is repeated.
//!
//! Source: RFC 5681 (slow start, congestion avoidance, half of the data in flight after a loss), RFC 6928 (initial
//! window), RFC 6582 (a recovery ends when everything that was in flight at its beginning is acknowledged).

use std::time::Duration;

use nm_engine::Instant;

/// Segments of the initial window (RFC 6928, section 2).
const INITIAL_SEGMENTS: u64 = 10;
/// A recovery that gets no acknowledgement for this time lets smoltcp send everything again, which also starts its
/// retransmission timer. Longer than the round-trip times of common profiles, shorter than its largest timer of 10 s.
const RESCUE: Duration = Duration::from_secs(1);

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
    rescue_at: Instant,
}

impl Window {
    /// The window of a new connection whose buffer holds `max` bytes.
    pub(crate) fn new(mss: usize, max: usize) -> Self {
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
            limited: false,
        }
    }

    /// Bytes that may be appended to a buffer that holds `buffered` bytes.
    pub(crate) fn room(&mut self, buffered: u64) -> u64 {
        if self.recovery.is_some() {
            return 0;
        }
        let room = self.cwnd.saturating_sub(buffered);
        self.limited |= room < self.mss;
        room
    }

    /// Everything before `position` is acknowledged.
    pub(crate) fn on_acked(&mut self, now: Instant, position: u64) {
        let Some(bytes) = position.checked_sub(self.acked).filter(|bytes| *bytes > 0) else {
            return;
        };
        self.acked = position;
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
                recovery.rescue_at = now + RESCUE;
            }
            None => self.grow(bytes),
        }
        self.limited = false;
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
        self.highest = self.highest.max(end);
        if !again {
            return;
        }
        match &mut self.recovery {
            Some(recovery) if rewound => {
                // The retransmission was lost as well: begin again.
                recovery.allowed = self.mss;
                recovery.rescue_at = now + RESCUE;
            }
            Some(recovery) => recovery.rescue_at = now + RESCUE,
            None => {
                self.ssthresh = (in_flight / 2).max(2 * self.mss);
                self.recovery =
                    Some(Recovery { until: self.highest, allowed: self.mss, rescue_at: now + RESCUE });
            }
        }
    }

    /// Whether smoltcp may send now.
    pub(crate) fn may_send(&mut self, now: Instant) -> bool {
        match self.rescue_at() {
            Some(at) if now < at => false,
            Some(_) => {
                if let Some(recovery) = &mut self.recovery {
                    recovery.allowed = u64::MAX;
                }
                true
            }
            None => true,
        }
    }

    /// When [`Window::may_send`] changes without an acknowledgement; `None` while it is true.
    pub(crate) fn rescue_at(&self) -> Option<Instant> {
        let recovery = self.recovery.as_ref()?;
        let blocked = self.position < self.highest && self.position - self.acked >= recovery.allowed;
        blocked.then_some(recovery.rescue_at)
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
        let mut window = Window::new(MSS, 1 << 20);
        let now = Instant::ZERO;
        assert_eq!(window.room(0), 10_000);
        for segment in 0..10 {
            window.on_sent(now, segment * 1_000, MSS);
        }
        assert_eq!(window.room(10_000), 0);
        window.on_acked(now, 2_000);
        assert_eq!(window.room(8_000), 4_000);
        window.on_sent(now, 2_000, MSS); // again
        assert_eq!(window.room(8_000), 0);
        assert!(!window.may_send(now), "one segment at first");
        window.on_acked(now, 3_000);
        assert!(window.may_send(now));
        window.on_acked(now, 10_000);
        assert_eq!(window.room(0), 4_000, "half of what was in flight");
    }

    #[test]
    fn a_recovery_without_acknowledgements_is_given_up() {
        let mut window = Window::new(MSS, 1 << 20);
        window.on_sent(Instant::ZERO, 0, MSS);
        window.on_sent(Instant::ZERO, 1_000, MSS);
        window.on_sent(Instant::ZERO, 0, MSS);
        assert!(!window.may_send(Instant::ZERO));
        let later = window.rescue_at().expect("a recovery");
        assert!(window.may_send(later));
        assert_eq!(window.rescue_at(), None, "and the window does not ask to be called again");
        window.on_acked(later, 1_000);
    }

    #[test]
    fn positions_beyond_32_bits_are_recognised() {
        let mut window = Window::new(MSS, 1 << 20);
        let far = (1 << 32) + 5_000_u64;
        window.on_acked(Instant::ZERO, far);
        window.on_sent(Instant::ZERO, 5_000, MSS);
        window.on_acked(Instant::ZERO, far + 1_000);
        assert_eq!(window.acked(), far + 1_000);
    }
}
