//! Recorded traces that a link plays: opportunities to transmit, or parameters that change at recorded times.
//!
//! A trace is encoded in few bytes, as the controller stores and sends it. The first byte is the kind, and numbers
//! are LEB128 (7 bits per byte, the lowest first, the highest bit set in all but the last byte):
//!
//! - 1, opportunities: for every millisecond that has any, the milliseconds since the previous one (the first: since
//!   the beginning) and their number. These are the packet delivery files of Mahimahi (Netravali et al., "Mahimahi:
//!   Accurate Record-and-Replay for HTTP", 2015).
//! - 2, steps: a byte with the columns (1 rate, 2 delay, 4 loss), and for every row the microseconds since the
//!   previous one (the first: since the beginning) and a number per column, in bits per second, microseconds and
//!   10⁻⁹.

use std::sync::Arc;

use crate::Instant;

/// Bytes of one opportunity: in Mahimahi a full IP packet with the four bytes that its TUN device precedes it with.
const OPPORTUNITY_BYTES: f64 = 1_504.0;
/// Entries that a trace may have: milliseconds with opportunities, or rows.
const MAX_ENTRIES: usize = 1_000_000;
/// The factors by which a trace can be scaled. Below, one packet would take more than 1,000 opportunities.
const SCALES: std::ops::RangeInclusive<f64> = 0.001..=1_000.0;

const RATE: u8 = 1;
const DELAY: u8 = 2;
const LOSS: u8 = 4;

/// A trace, and how a link plays it.
#[derive(Debug, Clone)]
pub struct Trace {
    recording: Arc<Recording>,
    looped: bool,
    scale: f64,
    mean_rate_bps: Option<u64>,
    /// The time of the trace at its start.
    shift_ns: u64,
    /// When it was started.
    origin: Instant,
}

impl PartialEq for Trace {
    fn eq(&self, other: &Self) -> bool {
        (self.looped, self.shift_ns, self.origin) == (other.looped, other.shift_ns, other.origin)
            && self.scale.to_bits() == other.scale.to_bits()
            // A recording may have a million entries.
            && (Arc::ptr_eq(&self.recording, &other.recording) || self.recording == other.recording)
    }
}

#[derive(Debug, PartialEq)]
enum Recording {
    /// Milliseconds in ascending order, and the number of opportunities at each.
    Opportunities(Box<[(u32, u32)]>),
    Steps(u8, Box<[Step]>),
}

/// Parameters from a time on.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Step {
    at_us: u64,
    rate_bps: u64,
    delay_us: u64,
    loss: f64,
}

/// The parameters that a trace sets at a time; `None` for those that it does not set.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Parameters {
    pub rate_bps: Option<u64>,
    pub delay_us: Option<u64>,
    pub loss: Option<f64>,
}

impl Trace {
    /// Decodes a trace, and says how it is played: whether it repeats after its last time, the factor of its rates,
    /// and the time of the trace at which it starts.
    ///
    /// # Errors
    ///
    /// The bytes are no trace, or it cannot be played in that way.
    pub fn decode(bytes: &[u8], looped: bool, scale: f64, shift_us: u64) -> Result<Self, String> {
        let recording = Recording::decode(bytes).ok_or("the trace is not encoded correctly")?;
        let end_us = recording.end_us();
        if !SCALES.contains(&scale) {
            return Err(format!("a trace cannot be scaled by {scale}"));
        }
        if looped && end_us == 0 {
            return Err("a trace that ends at time 0 cannot be repeated".to_owned());
        }
        if !looped && shift_us > end_us {
            return Err(format!("the trace ends after {end_us} us, before its start at {shift_us} us"));
        }
        let shift_us = if looped { shift_us % end_us } else { shift_us };
        let mean_rate_bps = recording.mean_rate_bps(scale);
        let (recording, shift_ns) = (Arc::new(recording), shift_us.saturating_mul(1_000));
        Ok(Self { recording, looped, scale, mean_rate_bps, shift_ns, origin: Instant::ZERO })
    }

    /// Starts the trace at `now`, or lets it play on if it is the one that was already playing.
    pub(crate) fn start(&mut self, now: Instant, playing: Option<&Trace>) {
        self.origin = playing.map_or(now, |other| other.origin);
        match playing {
            Some(other) if self == other => self.recording = other.recording.clone(),
            _ => self.origin = now,
        }
    }

    /// Whether both are the same trace, started at the same time.
    fn is(&self, other: &Trace) -> bool {
        Arc::ptr_eq(&self.recording, &other.recording) && self.origin == other.origin
    }

    pub(crate) const fn origin(&self) -> Instant {
        self.origin
    }

    /// Whether the trace replaces the rate of the link.
    #[must_use]
    pub fn sets_rate(&self) -> bool {
        self.has_opportunities() || self.has(RATE)
    }

    /// Whether the trace replaces the delay of the link.
    #[must_use]
    pub fn sets_delay(&self) -> bool {
        self.has(DELAY)
    }

    /// Whether the trace replaces the loss of the link.
    #[must_use]
    pub fn sets_loss(&self) -> bool {
        self.has(LOSS)
    }

    /// Whether the trace is one of opportunities.
    pub(crate) fn has_opportunities(&self) -> bool {
        matches!(*self.recording, Recording::Opportunities(_))
    }

    fn has(&self, column: u8) -> bool {
        matches!(*self.recording, Recording::Steps(columns, _) if columns & column != 0)
    }

    /// The mean rate of the trace in bits per second, at least 1; `None` when it does not set the rate.
    #[must_use]
    pub const fn mean_rate_bps(&self) -> Option<u64> {
        self.mean_rate_bps
    }

    /// The parameters at `now`, and when they change next. A trace of opportunities sets no parameters.
    pub(crate) fn parameters(&self, now: Instant) -> (Parameters, Option<Instant>) {
        let Recording::Steps(columns, rows) = &*self.recording else {
            return (Parameters::default(), None);
        };
        let (round, at) = self.position(now);
        let later = rows.partition_point(|row| row.at_us.saturating_mul(1_000) <= at);
        // The first row holds from the beginning. Where the trace repeats, the last one is only its end.
        let row = rows[later.saturating_sub(1)];
        let has = |column| columns & column != 0;
        let parameters = Parameters {
            rate_bps: has(RATE).then(|| (row.rate_bps as f64 * self.scale).round() as u64),
            delay_us: has(DELAY).then_some(row.delay_us),
            loss: has(LOSS).then_some(row.loss),
        };
        let next = rows.get(later.max(1)).map(|row| self.instant(round, row.at_us.saturating_mul(1_000)));
        (parameters, next)
    }

    /// The repetition in which the trace is at `now`, and the time in it in nanoseconds.
    fn position(&self, now: Instant) -> (u64, u64) {
        let at = now.nanos_since(self.origin).saturating_add(self.shift_ns);
        if self.looped {
            let period = self.period_ns();
            (at / period, at % period)
        } else {
            (0, at)
        }
    }

    fn instant(&self, round: u64, at_ns: u64) -> Instant {
        let at = round.saturating_mul(self.period_ns()).saturating_add(at_ns);
        self.origin.plus_nanos(at.saturating_sub(self.shift_ns))
    }

    /// Not 0 where the trace repeats.
    fn period_ns(&self) -> u64 {
        self.recording.end_us().saturating_mul(1_000)
    }
}

impl Recording {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, mut rest) = bytes.split_first()?;
        match kind {
            1 => {
                let (mut list, mut at) = (Vec::new(), 0u32);
                while !rest.is_empty() {
                    let (gap, count) = (number(&mut rest)?, number(&mut rest)?);
                    at = at.checked_add(u32::try_from(gap).ok()?)?;
                    if count == 0 || list.len() == MAX_ENTRIES || (gap == 0 && !list.is_empty()) {
                        return None;
                    }
                    list.push((at, u32::try_from(count).ok()?));
                }
                (!list.is_empty()).then(|| Self::Opportunities(list.into()))
            }
            2 => {
                let (&columns, mut rest) = rest.split_first()?;
                let (mut rows, mut at) = (Vec::new(), 0u64);
                while !rest.is_empty() {
                    let gap = number(&mut rest)?;
                    at = at.checked_add(gap)?;
                    if rows.len() == MAX_ENTRIES || (gap == 0 && !rows.is_empty()) {
                        return None;
                    }
                    let mut read = |column| if columns & column == 0 { Some(0) } else { number(&mut rest) };
                    let (rate_bps, delay_us, loss) = (read(RATE)?, read(DELAY)?, read(LOSS)? as f64 / 1e9);
                    if loss > 1.0 {
                        return None;
                    }
                    rows.push(Step { at_us: at, rate_bps, delay_us, loss });
                }
                let known = columns != 0 && columns <= RATE | DELAY | LOSS;
                (known && !rows.is_empty()).then(|| Self::Steps(columns, rows.into()))
            }
            _ => None,
        }
    }

    fn mean_rate_bps(&self, scale: f64) -> Option<u64> {
        let seconds = self.end_us() as f64 / 1e6;
        let mean = match self {
            Self::Opportunities(list) => {
                let count: f64 = list.iter().map(|(_, count)| f64::from(*count)).sum();
                count * OPPORTUNITY_BYTES * 8.0 / seconds.max(0.001)
            }
            Self::Steps(columns, _) if columns & RATE == 0 => return None,
            Self::Steps(_, rows) if seconds == 0.0 => rows[0].rate_bps as f64,
            Self::Steps(_, rows) => {
                // The first row holds from the beginning.
                let before = rows[0].rate_bps as f64 * rows[0].at_us as f64 / 1e6;
                let bits = rows
                    .windows(2)
                    .map(|pair| pair[0].rate_bps as f64 * (pair[1].at_us - pair[0].at_us) as f64 / 1e6);
                (before + bits.sum::<f64>()) / seconds
            }
        };
        Some(((mean * scale).round() as u64).max(1))
    }

    /// The last time of the trace, after which it may repeat.
    fn end_us(&self) -> u64 {
        match self {
            Self::Opportunities(list) => list.last().map_or(0, |(at, _)| u64::from(*at) * 1_000),
            Self::Steps(_, rows) => rows.last().map_or(0, |row| row.at_us),
        }
    }
}

/// Reads a LEB128 number.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if part << shift >> shift != part {
            return None;
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The opportunities of a trace, from a point in time on. Amounts are in 10⁻⁹ bits.
#[derive(Debug, Clone)]
pub(crate) struct Opportunities {
    trace: Trace,
    /// The next entry: its repetition, and its index.
    next: (u64, usize),
    /// The time of the opportunities in use, and what is left of them.
    at: Instant,
    left: u128,
}

impl Opportunities {
    /// `None` when the trace has none.
    pub(crate) fn of(trace: &Trace) -> Option<Self> {
        let mut found = Self { trace: trace.clone(), next: (0, 0), at: trace.origin, left: 0 };
        found.list()?;
        found.next = found.first_from(trace.origin);
        Some(found)
    }

    pub(crate) fn plays(&self, trace: Option<&Trace>) -> bool {
        trace.is_some_and(|trace| trace.is(&self.trace))
    }

    /// Uses opportunities from `from` on for an amount of work; those before it are lost. Returns the time at which
    /// the work is done, or `None` when the trace ends before.
    pub(crate) fn serve(&mut self, work: u128, from: Instant) -> Option<Instant> {
        self.skip_to(from);
        let mut work = work;
        while work > self.left {
            work -= self.left;
            self.left = 0;
            self.advance()?;
        }
        self.left -= work;
        Some(self.at.max(from))
    }

    /// What is left at the current time.
    pub(crate) fn left(&self) -> u128 {
        self.left
    }

    /// The amount of the opportunities from `from` to `to`, both included, at most `most`.
    pub(crate) fn amount(mut self, from: Instant, to: Instant, most: u128) -> u128 {
        self.skip_to(from);
        let mut amount = self.left;
        while amount < most && self.peek().is_some_and(|at| at <= to) && self.advance().is_some() {
            amount += self.left;
        }
        amount.min(most)
    }

    fn list(&self) -> Option<&[(u32, u32)]> {
        match &*self.trace.recording {
            Recording::Opportunities(list) => Some(list),
            Recording::Steps(..) => None,
        }
    }

    /// The time of the next entry; `None` after the last.
    fn peek(&self) -> Option<Instant> {
        let (round, index) = self.next;
        let (ms, _) = self.list()?.get(index)?;
        Some(self.trace.instant(round, u64::from(*ms) * 1_000_000))
    }

    fn advance(&mut self) -> Option<()> {
        let at = self.peek()?;
        let (round, index) = self.next;
        let list = self.list()?;
        let one = (OPPORTUNITY_BYTES * 8e9 * self.trace.scale).round() as u128;
        let amount = u128::from(list[index].1) * one;
        let wraps = index + 1 == list.len() && self.trace.looped;
        self.next = if wraps { (round + 1, 0) } else { (round, index + 1) };
        (self.at, self.left) = (at, amount);
        Some(())
    }

    /// Discards the opportunities before `from`.
    pub(crate) fn skip_to(&mut self, from: Instant) {
        if from > self.at {
            self.left = 0;
            self.next = self.next.max(self.first_from(from));
        }
    }

    /// The first entry at `from` or later.
    fn first_from(&self, from: Instant) -> (u64, usize) {
        let Some(list) = self.list() else { return self.next };
        let (round, at) = self.trace.position(from);
        if self.trace.looped && at == 0 && round > 0 {
            // The end of a repetition, which may have opportunities, is the beginning of the next one.
            return (round - 1, list.len() - 1);
        }
        (round, list.partition_point(|(ms, _)| u64::from(*ms) * 1_000_000 < at))
    }
}
