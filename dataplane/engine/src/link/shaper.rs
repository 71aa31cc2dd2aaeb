//! The impairments on the outgoing side of a link, in this order: loss, corruption, duplication, queue limit and rate,
//! delay (constant or with jitter), reordering.
//!
//! A link has only the impairments that its specification names. One that a change adds starts with the packets that
//! reach it from then on, and one that a change removes stays until its queue is empty, so that no packet in flight
//! is lost or overtaken.

use super::corrupt::Corrupt;
use super::delay::Delay;
use super::duplicate::Duplicate;
use super::impairment::{Impairment, Outlet};
use super::jitter::Jitter;
use super::limit::{Backlog, MEMORY};
use super::loss::Loss;
use super::meter::Meter;
use super::piece::Piece;
use super::rate::Rate;
use super::reorder::Reorder;
use super::trace::Trace;
use crate::address::AddressMap;
use crate::rng::Rng;
use crate::stats::DropCause;
use crate::{Instant, LinkSpec, Packet, Pool};

/// The impairments, in the order in which a packet passes them. A link has at most one of delay and
/// jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Loss,
    Corrupt,
    Duplicate,
    Rate,
    Delay,
    Jitter,
    Reorder,
}

impl Kind {
    const ALL: [Kind; 7] =
        [Self::Loss, Self::Corrupt, Self::Duplicate, Self::Rate, Self::Delay, Self::Jitter, Self::Reorder];

    /// The name of its random stream.
    const fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Corrupt => "corrupt",
            Self::Duplicate => "duplicate",
            Self::Rate => "rate",
            Self::Delay => "delay",
            Self::Jitter => "jitter",
            Self::Reorder => "reorder",
        }
    }

    fn is_needed(self, spec: &LinkSpec) -> bool {
        match self {
            Self::Loss => spec.loss > 0.0,
            Self::Corrupt => spec.corrupt > 0.0,
            Self::Duplicate => spec.duplicate > 0.0,
            Self::Rate => spec.nominal_rate_bps().is_some(),
            Self::Delay => spec.delay_us > 0 && spec.jitter_us == 0,
            Self::Jitter => spec.jitter_us > 0,
            Self::Reorder => spec.reorder > 0.0,
        }
    }

    /// The impairment whose queue this one continues.
    const fn replaces(self) -> Option<Kind> {
        match self {
            Self::Delay => Some(Self::Jitter),
            Self::Jitter => Some(Self::Delay),
            _ => None,
        }
    }

    /// `queued` are the pieces in flight of the impairment that this one replaces.
    fn build(
        self,
        spec: &LinkSpec,
        rng: Rng,
        map: AddressMap,
        queued: Vec<(Instant, Piece)>,
    ) -> Box<dyn Impairment> {
        match self {
            Self::Loss => Box::new(Loss::new(rng, spec)),
            Self::Corrupt => Box::new(Corrupt::new(spec, rng)),
            Self::Duplicate => Box::new(Duplicate::new(spec, rng)),
            Self::Rate => Box::new(Rate::new(spec, rng, map)),
            Self::Delay => Box::new(Delay::new(spec, queued)),
            Self::Jitter => Box::new(Jitter::new(spec, rng, queued)),
            Self::Reorder => Box::new(Reorder::new(spec, rng)),
        }
    }
}

/// An impairment in the chain.
#[derive(Debug)]
struct Stage {
    kind: Kind,
    /// Whether the specification names it. If not, it is removed when its queue is empty.
    needed: bool,
    impairment: Box<dyn Impairment>,
}

#[derive(Debug)]
pub(crate) struct Shaper {
    /// In the order of [`Kind`].
    chain: Vec<Stage>,
    /// The random streams of the impairments that are not in the chain, by kind. No stream depends on another, so the
    /// draws of an impairment do not depend on which others the link has.
    streams: [Rng; Kind::ALL.len()],
    map: AddressMap,
    /// Number of segments that have reached the first impairment.
    count: u64,
    /// The specification, if it has a trace that changes parameters, and when it changes them next.
    trace: Option<(LinkSpec, Option<Instant>)>,
    /// Output of one impairment and input of the next; collects dropped packets.
    outlet: Outlet,
    stage: Vec<(Instant, Piece)>,
    /// Pieces that passed the last impairment, with the times at which they were due.
    ready: Vec<(Instant, Piece)>,
}

impl Shaper {
    pub(crate) fn new(spec: &LinkSpec, rng: Rng, map: AddressMap) -> Self {
        let mut streams = Kind::ALL.map(|kind| rng.clone().derive(kind.name()).fork());
        // Loss draws from `rng` itself, as in earlier versions.
        streams[Kind::Loss as usize] = rng;
        let mut shaper = Self {
            chain: Vec::new(),
            streams,
            map,
            count: 0,
            trace: None,
            outlet: Outlet::default(),
            stage: Vec::new(),
            ready: Vec::new(),
        };
        let start = spec.trace.as_ref().map_or(Instant::ZERO, Trace::origin);
        let spec = shaper.applied(start, spec);
        shaper.arrange(&spec);
        shaper
    }

    /// Passes a packet to the first impairment.
    pub(crate) fn push(&mut self, now: Instant, packet: Packet, pool: &mut Pool, meter: &mut Meter) {
        self.release(now, meter);
        let piece = Piece::whole(now, pool.compact(packet), self.count);
        let copies = if self.chain.iter().any(|stage| stage.kind == Kind::Duplicate) { 2 } else { 1 };
        if self.backlog().memory + copies * piece.memory() > MEMORY {
            // The memory bound is exceeded: the machine is too slow for the rate, or the limit is too large for it.
            self.outlet.discard(piece, DropCause::Congested);
            return;
        }
        self.count += u64::from(piece.count);
        meter.offered(piece.count);
        self.stage.push((now, piece));
        self.pass_through(0, now, meter);
        meter.busy(now, self.is_transmitting());
    }

    /// Passes all pieces that are due. Parameters of a trace change at their own times, also when this is called late.
    pub(crate) fn release(&mut self, now: Instant, meter: &mut Meter) {
        while let Some((spec, at)) = self.next_step(now) {
            self.release_until(at, meter);
            self.apply(at, &spec);
        }
        self.release_until(now, meter);
    }

    fn release_until(&mut self, now: Instant, meter: &mut Meter) {
        for index in 0..self.chain.len() {
            self.chain[index].impairment.release(now, &mut self.outlet);
            self.passed(index, now, meter);
            self.pass_through(index + 1, now, meter);
        }
        meter.busy(now, self.is_transmitting());
        if self.chain.iter().any(Stage::is_done) {
            self.remove_done();
        }
    }

    pub(crate) fn change(&mut self, now: Instant, spec: &LinkSpec, meter: &mut Meter) {
        self.release(now, meter);
        self.apply(now, spec);
        self.release_until(now, meter);
    }

    fn apply(&mut self, now: Instant, spec: &LinkSpec) {
        let spec = self.applied(now, spec);
        self.arrange(&spec);
        for stage in &mut self.chain {
            stage.impairment.change(now, &spec);
        }
    }

    /// The specification with the parameters that its trace has at a time. Remembers when they change next.
    fn applied(&mut self, now: Instant, spec: &LinkSpec) -> LinkSpec {
        let Some(trace) = &spec.trace else {
            self.trace = None;
            return spec.clone();
        };
        let (set, next) = trace.parameters(now);
        self.trace = Some((spec.clone(), next));
        LinkSpec {
            rate_bps: set.rate_bps.or(spec.rate_bps),
            delay_us: set.delay_us.unwrap_or(spec.delay_us),
            // A loss of the link's own comes in addition.
            loss: set.loss.map_or(spec.loss, |loss| 1.0 - (1.0 - spec.loss) * (1.0 - loss)),
            ..spec.clone()
        }
    }

    /// The next change of parameters by the trace up to `now`. Without queued packets only the last one matters.
    fn next_step(&self, now: Instant) -> Option<(LinkSpec, Instant)> {
        let (spec, next) = self.trace.as_ref()?;
        let at = next.filter(|at| *at <= now)?;
        let idle = self.backlog() == Backlog::default();
        Some((spec.clone(), if idle { now } else { at }))
    }

    /// Pieces that passed all impairments since the last call, in order, with the times at which they were due.
    pub(crate) fn ready(&mut self) -> std::vec::Drain<'_, (Instant, Piece)> {
        self.ready.drain(..)
    }

    /// Packets dropped since the last call, and counts of those dropped and changed. The caller clears them.
    pub(crate) fn counted(&mut self) -> &mut Outlet {
        &mut self.outlet
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let due = self.chain.iter().filter_map(|stage| stage.impairment.deadline()).min();
        let step = self.trace.as_ref().and_then(|(_, next)| *next);
        match step {
            Some(step) if due.is_some_and(|due| due > step) => Some(step),
            Some(step) if due.is_none() && self.backlog().packets > 0 => Some(step),
            _ => due,
        }
    }

    /// The pieces in all queues, those that are nearest to the end of the link first.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Piece> + '_ {
        self.chain.iter_mut().rev().flat_map(|stage| stage.impairment.take_queue()).map(|(_, piece)| piece)
    }

    /// The contents of all queues.
    pub(crate) fn backlog(&self) -> Backlog {
        self.chain.iter().map(|stage| stage.impairment.backlog()).fold(Backlog::default(), Backlog::plus)
    }

    /// Whether the serializer has packets.
    fn is_transmitting(&self) -> bool {
        let rate = self.chain.iter().find(|stage| stage.kind == Kind::Rate);
        rate.is_some_and(|stage| stage.impairment.backlog().packets > 0)
    }

    /// Adds the impairments that the specification names and the chain lacks.
    fn arrange(&mut self, spec: &LinkSpec) {
        for kind in Kind::ALL {
            let needed = kind.is_needed(spec);
            if let Some(stage) = self.chain.iter_mut().find(|stage| stage.kind == kind) {
                stage.needed = needed;
            } else if needed {
                let queued = kind.replaces().map_or_else(Vec::new, |other| self.take_queue(other));
                let impairment =
                    kind.build(spec, self.streams[kind as usize].clone(), self.map.clone(), queued);
                let at = self.chain.partition_point(|stage| stage.kind < kind);
                self.chain.insert(at, Stage { kind, needed, impairment });
            }
        }
    }

    /// Removes an impairment, if the chain has it, and returns its queue.
    fn take_queue(&mut self, kind: Kind) -> Vec<(Instant, Piece)> {
        let Some(at) = self.chain.iter().position(|stage| stage.kind == kind) else {
            return Vec::new();
        };
        let queued = self.chain[at].impairment.take_queue();
        self.chain[at].needed = false;
        self.remove_done();
        queued
    }

    /// Removes the impairments that have no effect any more, and keeps their random streams: if they return, they
    /// draw other numbers than before.
    fn remove_done(&mut self) {
        for stage in self.chain.iter_mut().filter(|stage| stage.is_done()) {
            if let Some(rng) = stage.impairment.rng() {
                self.streams[stage.kind as usize] = rng.clone();
            }
        }
        self.chain.retain(|stage| !stage.is_done());
    }

    /// Passes the pieces in `outlet` through the impairments from index `from` on.
    fn pass_through(&mut self, from: usize, now: Instant, meter: &mut Meter) {
        if self.stage.is_empty() {
            return;
        }
        for index in from..self.chain.len() {
            for (at, piece) in self.stage.drain(..) {
                self.chain[index].impairment.push(at, piece, &mut self.outlet);
            }
            self.passed(index, now, meter);
        }
        self.ready.append(&mut self.stage);
    }

    /// Takes what passed an impairment as the input of the next one.
    fn passed(&mut self, index: usize, now: Instant, meter: &mut Meter) {
        std::mem::swap(&mut self.stage, &mut self.outlet.passed);
        if self.chain[index].kind == Kind::Rate {
            for (at, piece) in &mut self.stage {
                piece.transmitted = *at;
                meter.transmitted(now, piece);
            }
        }
        meter.drawn(std::mem::take(&mut self.outlet.draws));
    }
}

impl Stage {
    fn is_done(&self) -> bool {
        !self.needed
            && self.impairment.deadline().is_none()
            && self.impairment.backlog() == Backlog::default()
    }
}
