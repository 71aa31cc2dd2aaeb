//! What a receiver has of a transfer, and how segments find their places.

use super::bitmap::Bitmap;
use super::cadence::Cadence;
use super::tag_of;
use super::wire::{self, Header, Terms};
use crate::digest::{Digest, Digester};
use crate::Instant;

/// Bytes that one call digests at most: a tenth of a millisecond of a packet thread.
const DIGEST_STEP: usize = 1 << 20;

/// What a manifest promised.
#[derive(Debug)]
pub(super) struct Transfer {
    pub number: u64,
    pub total: u64,
    /// What the sender says that the digest is, once it has said so.
    pub promised: Option<Digest>,
    /// How many segments the digest covers: always from the start on, so that what has just arrived in order is still in
    /// the cache.
    digester: Digester,
    digested: u32,
    /// Segments from the start on that are all there.
    gapless: u32,
    /// When the next step is due, if one is.
    pub digest_due: Option<Instant>,
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
            digester: Digester::new(),
            digested: 0,
            gapless: 0,
            digest_due: None,
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

    /// Takes a step through the bytes that are there without a gap. More is due at once when that was not all, but
    /// in another turn, so that packets come in between.
    pub(super) fn digest(&mut self, now: Instant, sink: &[u8]) {
        self.gapless = self.have.find(self.gapless, false);
        let most = (DIGEST_STEP / self.unit).max(1) as u32;
        let end = self.gapless.min(self.digested.saturating_add(most));
        for index in self.digested..end {
            let start = index as usize * self.unit;
            let stop = sink.len().min(start + self.unit);
            let mut header = [0; wire::HEADER];
            self.header(index).write(&mut header);
            self.digester.update(&header);
            self.digester.update(&sink[start.min(stop)..stop]);
        }
        self.digested = self.digested.max(end);
        self.digest_due = (self.digested < self.gapless).then(|| now.plus_nanos(1));
    }

    /// The header of a segment in the first round.
    fn header(&self, index: u32) -> Header {
        let offset = u64::from(index) * self.unit as u64;
        Header { kind: wire::DATA, round: 0, tag: tag_of(self.number), offset }
    }

    /// The digest of the whole, once everything is there and was looked at.
    pub(super) fn found(&self) -> Option<Digest> {
        let through = self.have.is_full() && self.digested == self.segments;
        through.then(|| self.digester.finish())
    }

    /// Lets go of what only a running transfer needs.
    pub(super) fn end(&mut self) {
        self.have = Bitmap::default();
        self.digest_due = None;
    }

    /// Which segment begins at an offset. Compared before it is made a 32-bit number: an offset far behind the end would
    /// otherwise pass for a small one, with a terabyte to be filled before it.
    #[inline]
    fn index_of(&self, offset: u64) -> Option<u32> {
        let (index, rest) = (offset / self.unit as u64, offset % self.unit as u64);
        (rest == 0 && index < u64::from(self.segments)).then_some(index as u32)
    }

    /// Takes the segments of a packet, of `step` bytes each with their headers.
    pub(super) fn take(&mut self, payload: &[u8], step: usize, sink: &mut Vec<u8>) {
        if !self.take_next(payload, step, sink) {
            payload.chunks(step.max(1)).for_each(|segment| self.place(segment, sink));
        }
    }

    /// Takes a packet whose segments are exactly the next ones, as nearly all are: its bytes are digested as they are and
    /// then copied behind what is there. False when it is not such a packet; nothing has changed then.
    fn take_next(&mut self, payload: &[u8], step: usize, sink: &mut Vec<u8>) -> bool {
        let (first, whole) = (self.digested, self.unit + wire::HEADER);
        let start = u64::from(first) * self.unit as u64;
        // What the digest does not cover yet lies behind the end of the sink, so none of it is there.
        if self.round != 0 || sink.len() as u64 != start || (payload.len() > step && step != whole) {
            return false;
        }
        let count = payload.len().div_ceil(whole);
        let bytes = (count as u64 * self.unit as u64).min(self.total.saturating_sub(start));
        if count == 0 || count > (self.segments - first) as usize {
            return false;
        }
        if payload.len() as u64 != bytes + (count * wire::HEADER) as u64 {
            return false;
        }
        let fits = |(index, segment)| {
            Header::read(segment).is_some_and(|(header, _)| header == self.header(first + index))
        };
        if !(0..).zip(payload.chunks(whole)).all(fits) {
            return false;
        }
        self.digester.update(payload);
        // Each begins with a header, which was just read.
        for segment in payload.chunks(whole) {
            sink.extend_from_slice(&segment[wire::HEADER..]);
        }
        let count = count as u32;
        self.have.set_range(first, count);
        self.digested = first + count;
        self.gapless = self.digested;
        self.highest = self.highest.max(self.digested);
        self.received += u64::from(count);
        self.unreported += u64::from(count);
        self.bytes += bytes;
        true
    }

    /// Puts one segment where it belongs. Nonsense is ignored: offsets that no segment has, wrong lengths, other transfers.
    #[inline]
    fn place(&mut self, segment: &[u8], sink: &mut Vec<u8>) {
        let Some((header, part)) = Header::read(segment) else {
            return;
        };
        let offset = header.offset as usize;
        let Some(index) = self.index_of(header.offset) else {
            return;
        };
        let expected = self.unit.min((self.total as usize).saturating_sub(offset));
        if header.kind != wire::DATA || header.tag != tag_of(self.number) || part.len() != expected {
            return;
        }
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
            return;
        }
        self.bytes += part.len() as u64;
        if offset == sink.len() {
            sink.extend_from_slice(part);
            return;
        }
        if offset > sink.len() {
            sink.resize(offset, 0);
            sink.extend_from_slice(part);
            return;
        }
        sink[offset..offset + part.len()].copy_from_slice(part);
    }
}
