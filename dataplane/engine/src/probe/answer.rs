//! The answering side of a probe: count what arrives on a link, and report it on request.

use super::wire::{Header, Kind, Received, MOST_ECHOES};
use crate::{Instant, Packet};

/// What has arrived of the latest probe of one link.
#[derive(Debug, Default)]
pub(super) struct Answer {
    probe: u64,
    train: u16,
    received: Received,
    /// When the train began, the bytes behind its first segments, and the nanoseconds in which they arrived.
    whole: Option<(Instant, u64, u64)>,
    /// When the measured half of the train began.
    since: Option<Instant>,
    /// A bit for each number of an echo request that has arrived.
    seen: Vec<u64>,
}

impl Answer {
    /// What has arrived of this probe. Of a train whose second half did not arrive, because it does not fit a queue,
    /// all of it is measured.
    pub(super) fn received(&self) -> Received {
        match self.whole {
            Some((_, bytes, nanos)) if self.received.bytes == 0 && bytes > 0 => {
                Received { bytes, nanos, whole: true, ..self.received }
            }
            _ => self.received,
        }
    }

    /// Forgets an earlier probe, or an earlier train.
    pub(super) fn turn_to(&mut self, header: &Header) {
        if self.probe != header.probe {
            *self = Self { probe: header.probe, train: header.train, ..Self::default() };
        } else if self.train != header.train {
            self.train = header.train;
            (self.whole, self.since) = (None, None);
            self.received = Received { echoes: self.received.echoes, ..Received::default() };
        }
    }

    /// Counts the segments of a train that arrive together.
    ///
    /// The first half is not measured, because a burst of the link's rate may pass without delay, and the segments that
    /// arrive with the beginning of the second half are not, because their transmission began before it.
    pub(super) fn train(&mut self, now: Instant, first: &Header, packet: &Packet) {
        let last = u64::from(first.number) + u64::from(packet.segments());
        self.received.segments = self.received.segments.saturating_add(packet.segments());
        self.received.ended |= last >= u64::from(first.total);
        match &mut self.whole {
            Some((since, bytes, nanos)) => {
                *bytes += packet.wire_bytes();
                *nanos = now.nanos_since(*since);
            }
            None => self.whole = Some((now, 0, 0)),
        }
        match self.since {
            Some(since) => {
                self.received.bytes += packet.wire_bytes();
                self.received.nanos = now.nanos_since(since);
            }
            None if last > u64::from(first.total / 2) => self.since = Some(now),
            None => {}
        }
    }

    /// Counts an echo request.
    pub(super) fn echo(&mut self, header: &Header) {
        debug_assert_eq!(header.kind, Kind::EchoRequest);
        self.received.echoes += u32::from(mark(&mut self.seen, header.number));
    }
}

/// Sets a bit. False if it was set before, or if the number is out of range.
pub(super) fn mark(bits: &mut Vec<u64>, number: u32) -> bool {
    if number >= MOST_ECHOES {
        return false;
    }
    let (word, bit) = (number as usize / 64, 1 << (number % 64));
    if bits.len() <= word {
        bits.resize(word + 1, 0);
    }
    let new = bits[word] & bit == 0;
    bits[word] |= bit;
    new
}
