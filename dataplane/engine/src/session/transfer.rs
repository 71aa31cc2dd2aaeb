//! What a receiver has of a transfer, and how segments find their places.

use std::ops::Range;

use super::bitmap::Bitmap;
use super::cadence::Cadence;
use super::wire::{self, Header, Terms};
use super::{tag_of, Prefetch};
use crate::digest::{Digest, Digester};
use crate::Instant;

/// What a manifest promised.
#[derive(Debug)]
pub(super) struct Transfer {
    pub number: u64,
    pub total: u64,
    /// What the sender says that the digest is, once it has said so.
    pub promised: Option<Digest>,
    /// Of the segments that are there, each as it lies in the sink.
    digester: Digester,
    /// The segment behind the one that arrived last: nearly always the next to arrive.
    next: u32,
    pub unit: usize,
    pub segments: u32,
    pub cadence: Cadence,
    pub have: Bitmap,
    pub started: Option<Instant>,
    pub round: u8,
    /// Of this round: one more than the highest segment.
    pub highest: u32,
    /// Segments that arrived, all and since the last report.
    pub received: u64,
    pub unreported: u64,
    pub last_arrival: Instant,
    pub report_due: Option<Instant>,
    pub bytes: u64,
    pub repair_rounds: u32,
    /// Whether this round's end was asked about already.
    pub asked: bool,
}

impl Transfer {
    /// `fits`: whether there is room for it; without, nothing but the refusal will be asked of it.
    pub(super) fn new(now: Instant, number: u64, terms: Terms, fits: bool) -> Self {
        let (total, unit) = (terms.total, usize::from(terms.unit).max(1));
        let segments = total.div_ceil(unit as u64).min(u64::from(u32::MAX)) as u32;
        Self {
            number,
            total,
            promised: None,
            digester: Digester::default(),
            next: 0,
            unit,
            segments,
            cadence: terms.cadence,
            have: Bitmap::new(if fits { segments } else { 0 }),
            started: None,
            round: 0,
            highest: 0,
            received: 0,
            unreported: 0,
            last_arrival: now,
            report_due: None,
            bytes: 0,
            repair_rounds: 0,
            asked: false,
        }
    }

    /// A new round has begun, unless we are in it already.
    pub(super) fn enter_round(&mut self, round: u8) {
        if round != self.round {
            self.round = round;
            self.highest = 0;
            self.asked = false;
        }
    }

    /// The digest of the whole, once everything is there.
    pub(super) fn found(&self) -> Option<Digest> {
        (self.have.ones() == self.segments).then(|| self.digester.finish())
    }

    /// Lets go of what only a running transfer needs.
    pub(super) fn end(&mut self) {
        self.have = Bitmap::default();
    }

    /// Which segment begins at an offset. Compared before it is made a 32-bit number: an offset far behind the end
    /// would otherwise pass for a small one, with a terabyte to be filled before it.
    #[inline]
    fn index_of(&self, offset: u64) -> Option<u32> {
        let unit = self.unit as u64;
        if offset == u64::from(self.next) * unit {
            return (self.next < self.segments).then_some(self.next);
        }
        let (index, rest) = (offset / unit, offset % unit);
        (rest == 0 && index < u64::from(self.segments)).then_some(index as u32)
    }

    /// Takes the segments of a packet, of `step` bytes each with their headers. They are copied to their places first
    /// and digested there afterwards: turn by turn the digest would wait for the copies to reach the cache.
    pub(super) fn take(&mut self, payload: &[u8], step: usize, sink: &mut Vec<u8>, prefetch: Prefetch) {
        if let Some(run) = self.take_next(payload, step, sink) {
            return self.digest_and_prefetch(run, sink, prefetch);
        }
        let mut run = 0..0;
        for segment in payload.chunks(step.max(1)) {
            let Some(index) = self.place(segment, sink) else {
                continue;
            };
            if index != run.end {
                self.digest(run, sink);
                run = index..index;
            }
            run.end += 1;
        }
        self.digest(run, sink);
    }

    /// Takes a packet whose segments are exactly those behind the end of the sink, as nearly all are, and returns
    /// which they are; `None` when it is not such a packet, and nothing has changed then. What is noted is noted once
    /// for all of them: written between the copies, it would wait with them for memory, which took a fifth more time.
    fn take_next(&mut self, payload: &[u8], step: usize, sink: &mut Vec<u8>) -> Option<Range<u32>> {
        let (first, whole) = (self.next, self.unit + wire::HEADER);
        let start = u64::from(first) * self.unit as u64;
        if sink.len() as u64 != start || (payload.len() > step && step != whole) {
            return None;
        }
        let count = payload.len().div_ceil(whole);
        let bytes = (count as u64 * self.unit as u64).min(self.total.saturating_sub(start));
        let fits = count > 0 && count <= (self.segments - first) as usize;
        if !fits || payload.len() as u64 != bytes + (count * wire::HEADER) as u64 {
            return None;
        }
        let run = first..first + count as u32;
        let mut expected =
            Header { kind: wire::DATA, round: self.round, tag: tag_of(self.number), offset: start };
        for segment in payload.chunks(whole) {
            if Header::read(segment)?.0 != expected {
                return None;
            }
            expected.offset += self.unit as u64;
        }
        // Each begins with a header, which was just read.
        for segment in payload.chunks(whole) {
            sink.extend_from_slice(&segment[wire::HEADER..]);
        }
        self.have.set_range(first, count as u32);
        self.next = run.end;
        self.highest = self.highest.max(run.end);
        self.received += count as u64;
        self.unreported += count as u64;
        self.bytes += bytes;
        Some(run)
    }

    /// Digests the last segments of the sink, and meanwhile prefetches the places of as many that will follow them.
    fn digest_and_prefetch(&mut self, run: Range<u32>, sink: &[u8], prefetch: Prefetch) {
        let start = run.start as usize * self.unit;
        let (mut ahead, room) = (sink.len(), (self.total as usize).max(sink.len()));
        for (index, part) in run.zip(sink[start..].chunks(self.unit)) {
            // Within the sink's capacity, which holds the total.
            prefetch(sink.as_ptr().wrapping_add(ahead), part.len().min(room - ahead));
            ahead = room.min(ahead + part.len());
            self.digester.add(index, part);
        }
    }

    /// Digests segments that have just been placed.
    fn digest(&mut self, run: Range<u32>, sink: &[u8]) {
        let start = run.start as usize * self.unit;
        let end = sink.len().min(run.end as usize * self.unit);
        for (index, part) in run.zip(sink[start.min(end)..end].chunks(self.unit)) {
            self.digester.add(index, part);
        }
    }

    /// Puts one segment where it belongs and returns its index, if it was not there yet. Invalid offsets are ignored:
    /// offsets that no segment has, wrong lengths, other transfers.
    #[inline]
    fn place(&mut self, segment: &[u8], sink: &mut Vec<u8>) -> Option<u32> {
        let (header, part) = Header::read(segment)?;
        let offset = header.offset as usize;
        let index = self.index_of(header.offset)?;
        let expected = self.unit.min((self.total as usize).saturating_sub(offset));
        if header.kind != wire::DATA || header.tag != tag_of(self.number) || part.len() != expected {
            return None;
        }
        self.next = index + 1;
        self.received += 1;
        self.unreported += 1;
        // A straggler of an earlier round is data like any other, but says nothing about this round.
        if header.round == self.round {
            self.highest = self.highest.max(index + 1);
        } else if header.round.wrapping_sub(self.round) < 128 {
            self.enter_round(header.round);
            self.highest = index + 1;
        }
        if !self.have.set(index) {
            return None;
        }
        self.bytes += part.len() as u64;
        if offset < sink.len() {
            sink[offset..offset + part.len()].copy_from_slice(part);
            return Some(index);
        }
        if offset > sink.len() {
            sink.resize(offset, 0);
        }
        sink.extend_from_slice(part);
        Some(index)
    }
}
