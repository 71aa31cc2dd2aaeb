//! The received part of a transfer, and the placement of segments in the receive buffer.

use std::ops::Range;

use super::bitmap::Bitmap;
use super::memory::Prefetch;
use super::report_interval::ReportInterval;
use super::wire::{self, tag_of, Header, Terms};
use crate::digest::{Digest, Digester};
use crate::Instant;

/// The state of a transfer that was offered by a manifest.
#[derive(Debug)]
pub(super) struct Transfer {
    pub number: u64,
    pub total: u64,
    /// The digest that the sender has sent, if it has arrived.
    pub expected_digest: Option<Digest>,
    /// Digest of the segments that have arrived, computed from the receive buffer.
    digester: Digester,
    /// Index behind the segment that arrived last: nearly always the next to arrive.
    next: u32,
    pub segment_size: usize,
    pub segments: u32,
    pub interval: ReportInterval,
    pub have: Bitmap,
    pub started: Option<Instant>,
    pub round: u8,
    /// One more than the highest segment of this round.
    pub highest: u32,
    /// Number of segments that arrived: all, and since the last report.
    pub received: u64,
    pub unreported: u64,
    pub last_arrival: Instant,
    pub report_due: Option<Instant>,
    pub bytes: u64,
    pub repair_rounds: u32,
    /// Whether the sender has requested the missing segments of this round.
    pub requested: bool,
}

impl Transfer {
    /// `fits`: whether the receive buffer is large enough; otherwise the transfer is only refused.
    pub(super) fn new(now: Instant, number: u64, terms: Terms, fits: bool) -> Self {
        let (total, segment_size) = (terms.total, usize::from(terms.segment_size).max(1));
        let segments = total.div_ceil(segment_size as u64).min(u64::from(u32::MAX)) as u32;
        Self {
            number,
            total,
            expected_digest: None,
            digester: Digester::default(),
            next: 0,
            segment_size,
            segments,
            interval: terms.interval,
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
            requested: false,
        }
    }

    /// Starts a new round, unless it is the current one.
    pub(super) fn enter_round(&mut self, round: u8) {
        if round != self.round {
            self.round = round;
            self.highest = 0;
            self.requested = false;
        }
    }

    /// The digest of the transfer, when every segment has arrived.
    pub(super) fn computed_digest(&self) -> Option<Digest> {
        (self.have.ones() == self.segments).then(|| self.digester.finish())
    }

    /// Frees the state that only an active transfer needs.
    pub(super) fn end(&mut self) {
        self.have = Bitmap::default();
    }

    /// Stores the segments of a packet, of `stride` bytes each with headers. All are copied first and digested
    /// afterwards: alternating, the digest would wait for each copy to reach the cache.
    pub(super) fn store(&mut self, payload: &[u8], stride: usize, sink: &mut Vec<u8>, prefetch: Prefetch) {
        if let Some(run) = self.store_next(payload, stride, sink) {
            return self.digest_and_prefetch(run, sink, prefetch);
        }
        let mut run = 0..0;
        for segment in payload.chunks(stride.max(1)) {
            let Some(index) = self.store_segment(segment, sink) else {
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

    /// Stores a packet whose segments continue the receive buffer exactly, the usual case, and returns their indices;
    /// `None`, with no state changed, for any other packet. The state is updated once for all segments: updates
    /// between the copies wait for memory, which took a fifth more time.
    fn store_next(&mut self, payload: &[u8], stride: usize, sink: &mut Vec<u8>) -> Option<Range<u32>> {
        let (first, whole) = (self.next, self.segment_size + wire::HEADER);
        let start = u64::from(first) * self.segment_size as u64;
        if sink.len() as u64 != start || (payload.len() > stride && stride != whole) {
            return None;
        }
        let count = payload.len().div_ceil(whole);
        let bytes = (count as u64 * self.segment_size as u64).min(self.total.saturating_sub(start));
        let fits = count > 0 && count <= (self.segments - first) as usize;
        if !fits || payload.len() as u64 != bytes + (count * wire::HEADER) as u64 {
            return None;
        }
        let run = first..first + count as u32;
        let (kind, round, tag) = (wire::DATA, self.round, tag_of(self.number));
        for (index, segment) in (first..).zip(payload.chunks(whole)) {
            let header = Header::read(segment)?.0;
            if (header.kind, header.round, header.tag, header.index) != (kind, round, tag, index) {
                return None;
            }
        }
        // Every segment has a header, as checked above.
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

    /// Digests the last segments of the receive buffer and prefetches the memory of as many segments behind them.
    fn digest_and_prefetch(&mut self, run: Range<u32>, sink: &[u8], prefetch: Prefetch) {
        let start = run.start as usize * self.segment_size;
        let (mut ahead, room) = (sink.len(), (self.total as usize).max(sink.len()));
        for (index, part) in run.zip(sink[start..].chunks(self.segment_size)) {
            // Inside the capacity of the receive buffer, which holds the whole transfer.
            prefetch(sink.as_ptr().wrapping_add(ahead), part.len().min(room - ahead));
            ahead = room.min(ahead + part.len());
            self.digester.add(index, part);
        }
    }

    /// Digests segments that were just stored.
    fn digest(&mut self, run: Range<u32>, sink: &[u8]) {
        let start = run.start as usize * self.segment_size;
        let end = sink.len().min(run.end as usize * self.segment_size);
        for (index, part) in run.zip(sink[start.min(end)..end].chunks(self.segment_size)) {
            self.digester.add(index, part);
        }
    }

    /// Stores one segment and returns its index, if it was missing. Invalid segments are ignored: invalid
    /// indices, wrong lengths, other transfers.
    #[inline]
    fn store_segment(&mut self, segment: &[u8], sink: &mut Vec<u8>) -> Option<u32> {
        let (header, part) = Header::read(segment)?;
        let index = header.index;
        if index >= self.segments {
            return None;
        }
        let offset = index as usize * self.segment_size;
        let expected = self.segment_size.min((self.total as usize).saturating_sub(offset));
        if header.kind != wire::DATA || header.tag != tag_of(self.number) || part.len() != expected {
            return None;
        }
        self.next = index + 1;
        self.received += 1;
        self.unreported += 1;
        // A late segment of an earlier round is stored like any other, but does not count for this round.
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
