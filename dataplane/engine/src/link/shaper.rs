//! The impairments on the outgoing side of a link, in this order: loss, queue limit and rate, delay (constant or with
//! jitter).

use super::delay::Delay;
use super::impairment::{Impairment, Outlet};
use super::jitter::Jitter;
use super::limit::{Backlog, MEMORY};
use super::loss::Loss;
use super::piece::Piece;
use super::rate::Rate;
use crate::rng::Rng;
use crate::stats::{DropCause, DropCounters};
use crate::{Instant, LinkSpec, Packet, Pool};

/// Index of the delay among the impairments.
const DELAY: usize = 2;

#[derive(Debug)]
pub(crate) struct Shaper {
    impairments: [Box<dyn Impairment>; 3],
    /// Whether the last impairment is [`Jitter`] instead of [`Delay`].
    jitter: bool,
    /// The random stream of jitter.
    jitter_rng: Rng,
    /// Output of one impairment and input of the next; collects dropped packets.
    outlet: Outlet,
    stage: Vec<(Instant, Piece)>,
    /// Pieces that passed the last impairment.
    ready: Vec<Piece>,
}

impl Shaper {
    pub(crate) fn new(spec: &LinkSpec, rng: Rng) -> Self {
        // Loss draws from `rng` itself; streams of other impairments are derived from a copy, so that the lost
        // segments do not depend on them.
        let mut jitter_rng = rng.clone().derive("jitter");
        let impairments: [Box<dyn Impairment>; 3] = [
            Box::new(Loss::new(rng, spec)),
            Box::new(Rate::new(spec)),
            delay_stage(spec, &mut jitter_rng, Vec::new()),
        ];
        Self {
            impairments,
            jitter: spec.jitter_us > 0,
            jitter_rng,
            outlet: Outlet::default(),
            stage: Vec::new(),
            ready: Vec::new(),
        }
    }

    /// Passes a packet to the first impairment.
    pub(crate) fn push(&mut self, now: Instant, packet: Packet, pool: &mut Pool) {
        self.release(now);
        let piece = Piece::whole(pool.compact(packet));
        if self.backlog().memory + piece.memory() > MEMORY {
            // The memory bound is exceeded: the machine is too slow for the rate, or the limit is too large for it.
            self.outlet.discard(piece, DropCause::Congested);
            return;
        }
        self.stage.push((now, piece));
        self.pass_through(0);
    }

    /// Passes all pieces that are due.
    pub(crate) fn release(&mut self, now: Instant) {
        for index in 0..self.impairments.len() {
            self.impairments[index].release(now, &mut self.outlet);
            std::mem::swap(&mut self.stage, &mut self.outlet.passed);
            self.pass_through(index + 1);
        }
    }

    pub(crate) fn change(&mut self, now: Instant, spec: &LinkSpec) {
        self.release(now);
        if self.jitter != (spec.jitter_us > 0) {
            self.jitter = !self.jitter;
            let queued = self.impairments[DELAY].take_queue();
            self.impairments[DELAY] = delay_stage(spec, &mut self.jitter_rng, queued);
        }
        for impairment in &mut self.impairments {
            impairment.change(now, spec);
        }
        self.release(now);
    }

    /// Pieces that passed all impairments since the last call, in order.
    pub(crate) fn ready(&mut self) -> std::vec::Drain<'_, Piece> {
        self.ready.drain(..)
    }

    /// Packets dropped since the last call, with their counts.
    pub(crate) fn lost(&mut self) -> (&mut Vec<Packet>, &mut DropCounters) {
        (&mut self.outlet.waste, &mut self.outlet.drops)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.impairments.iter().filter_map(|impairment| impairment.deadline()).min()
    }

    /// The contents of all queues.
    pub(crate) fn backlog(&self) -> Backlog {
        self.impairments.iter().map(|impairment| impairment.backlog()).fold(Backlog::default(), Backlog::plus)
    }

    /// Passes the pieces in `outlet` through the impairments from index `from` on.
    fn pass_through(&mut self, from: usize) {
        if self.stage.is_empty() {
            return;
        }
        for impairment in &mut self.impairments[from..] {
            for (at, piece) in self.stage.drain(..) {
                impairment.push(at, piece, &mut self.outlet);
            }
            std::mem::swap(&mut self.stage, &mut self.outlet.passed);
        }
        self.ready.extend(self.stage.drain(..).map(|(_, piece)| piece));
    }
}

fn delay_stage(spec: &LinkSpec, rng: &mut Rng, queued: Vec<(Instant, Piece)>) -> Box<dyn Impairment> {
    if spec.jitter_us > 0 {
        Box::new(Jitter::new(spec, rng.fork(), queued))
    } else {
        Box::new(Delay::new(spec, queued))
    }
}
