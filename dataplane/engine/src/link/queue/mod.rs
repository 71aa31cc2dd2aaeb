//! The queue in front of the serializer: its limit, early drops and marks, and the order of transmission.
//!
//! Drops, marks and turns concern MTU segments. A super-packet stays in one piece as long as all its segments have the
//! same fate; a segment that is dropped or marked is cut out of it.

mod class;
mod codel;
mod red;
mod sorted;
mod spec;

use self::class::{Class, Entry};
use self::codel::{Candidate, Codel};
use self::red::{Red, Verdict};
use self::sorted::{ClassId, Sorted};
use super::clock::Clock;
use super::impairment::Outlet;
use super::limit::{Backlog, Limit};
use super::piece::Piece;
use crate::address::AddressMap;
use crate::rng::Rng;
use crate::stats::DropCause;
use crate::{Instant, LinkSpec, QueueDiscipline, Scheduler};

#[derive(Debug)]
pub(super) struct Queue {
    limit: Limit,
    ecn: bool,
    discipline: Discipline,
    scheduler: Scheduler,
    order: Order,
    /// Bytes of the largest segment that was queued.
    largest: u64,
    map: AddressMap,
    /// The random stream of early drops.
    rng: Rng,
}

#[derive(Debug)]
enum Discipline {
    TailDrop,
    Red(Box<Red>),
    Codel(codel::Settings),
}

#[derive(Debug)]
enum Order {
    Fifo(Class),
    Sorted(Box<Sorted>),
}

impl Queue {
    pub(super) fn new(spec: &LinkSpec, rng: Rng, map: AddressMap) -> Self {
        let mut queue = Self {
            limit: Limit::of_queue(spec),
            ecn: spec.ecn,
            discipline: Discipline::TailDrop,
            scheduler: spec.scheduler.clone(),
            order: Order::new(&spec.scheduler, map.clone()),
            largest: 0,
            map,
            rng,
        };
        queue.discipline = queue.discipline_of(spec);
        queue
    }

    #[inline]
    pub(super) fn held(&self) -> Backlog {
        match &self.order {
            Order::Fifo(class) => class.held(),
            Order::Sorted(sorted) => sorted.held(),
        }
    }

    pub(super) fn rng(&self) -> &Rng {
        &self.rng
    }

    /// Applies a new specification. Queued packets stay, in their order within a flow.
    pub(super) fn change(&mut self, spec: &LinkSpec) {
        self.limit = Limit::of_queue(spec);
        self.ecn = spec.ecn;
        self.discipline = self.discipline_of(spec);
        if self.scheduler == spec.scheduler {
            return;
        }
        self.scheduler = spec.scheduler.clone();
        let old = std::mem::replace(&mut self.order, Order::new(&spec.scheduler, self.map.clone()));
        for entry in old.into_entries() {
            self.order.push(entry);
        }
    }

    /// Removes all packets and returns them with the times of their arrival, in that order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (Instant, Piece)> {
        let old = std::mem::replace(&mut self.order, Order::new(&self.scheduler, self.map.clone()));
        old.into_entries().into_iter().map(|Entry { since, piece }| (since, piece))
    }

    /// Queues a piece, or drops those of its segments that the queue does not accept. `sending` is being transmitted;
    /// it counts as queued. `idle_from` is the end of the last transmission.
    pub(super) fn push(
        &mut self,
        at: Instant,
        piece: Piece,
        sending: Backlog,
        idle_from: Instant,
        out: &mut Outlet,
    ) {
        self.largest = self.largest.max(piece.front_bytes(1));
        if matches!(self.discipline, Discipline::Red(_)) {
            self.push_red(at, piece, sending, idle_from, out);
        } else {
            self.admit(Entry { since: at, piece }, sending, out);
        }
    }

    /// Removes and returns the segments that are transmitted next, from the time `at` on.
    pub(super) fn pop(&mut self, at: Instant, clock: &Clock, out: &mut Outlet) -> Option<Piece> {
        loop {
            let (id, allowance) = self.order.turn()?;
            let Discipline::Codel(settings) = self.discipline else {
                let most = most_segments(&self.order.class(id)?.head()?.piece, at, clock, allowance);
                return self.order.take(id, most, true);
            };
            let largest = self.largest;
            let class = self.order.class(id)?;
            let count = codel_run(class, settings, largest, at, clock, allowance);
            if count > 0 {
                return self.order.take(id, count, true);
            }
            let head = &class.head()?.piece;
            let markable = self.ecn && head.packet.is_ecn_capable();
            let unit = head.unit();
            let mut segment = self.order.take(id, unit, markable)?;
            if markable {
                segment.marked = true;
                return Some(segment);
            }
            out.discard(segment, DropCause::QueueEarly);
        }
    }

    fn discipline_of(&mut self, spec: &LinkSpec) -> Discipline {
        let old = std::mem::replace(&mut self.discipline, Discipline::TailDrop);
        match (&spec.queue, old) {
            (QueueDiscipline::TailDrop, _) => Discipline::TailDrop,
            (QueueDiscipline::Red { .. }, Discipline::Red(mut red)) => {
                red.settings = spec.red_settings();
                Discipline::Red(red)
            }
            (QueueDiscipline::Red { .. }, _) => {
                Discipline::Red(Box::new(Red::new(spec.red_settings(), self.rng.fork())))
            }
            (&QueueDiscipline::Codel { target_us, interval_us }, old) => {
                if !matches!(old, Discipline::Codel(_)) {
                    self.order.classes().for_each(|class| class.codel = Codel::default());
                }
                let nanos = |us: u64| us.saturating_mul(1_000);
                Discipline::Codel(codel::Settings { target: nanos(target_us), interval: nanos(interval_us) })
            }
        }
    }

    /// Queues the segments that random early detection lets pass, in runs as long as possible.
    fn push_red(
        &mut self,
        at: Instant,
        piece: Piece,
        sending: Backlog,
        idle_from: Instant,
        out: &mut Outlet,
    ) {
        let markable = self.ecn && piece.packet.is_ecn_capable();
        let unit = piece.unit();
        let mut rest = Some(piece);
        while let Some(piece) = &rest {
            let (passed, verdict) = self.red_run(at, piece, sending, idle_from);
            if let Some(piece) = take_front(&mut rest, passed) {
                self.admit(Entry { since: at, piece }, sending, out);
            }
            let Some(mut piece) = take_front(&mut rest, unit) else {
                return;
            };
            if verdict == Verdict::Notify && markable {
                piece.marked = true;
                self.admit(Entry { since: at, piece }, sending, out);
            } else {
                out.discard(piece, DropCause::QueueEarly);
            }
        }
    }

    /// The number of segments of a piece that pass before one that does not, and what happens to that one.
    fn red_run(
        &mut self,
        at: Instant,
        piece: &Piece,
        sending: Backlog,
        idle_from: Instant,
    ) -> (u32, Verdict) {
        let waiting = self.held().plus(sending);
        let idle_ns = if waiting.packets == 0 { at.nanos_since(idle_from) } else { 0 };
        let limit = self.limit.bytes();
        let Discipline::Red(red) = &mut self.discipline else {
            return (piece.count, Verdict::Pass);
        };
        let mut passed = 0;
        while passed < piece.count {
            // What exceeds the limit is dropped below.
            let queued = waiting.bytes.saturating_add(piece.front_bytes(passed)).min(limit);
            let verdict = red.arrival(queued, idle_ns);
            if verdict != Verdict::Pass {
                return (passed, verdict);
            }
            passed += piece.unit();
        }
        (passed, Verdict::Pass)
    }

    /// Queues what is within the limit. The rest is dropped: from the arriving piece or, where there are classes, from
    /// the longest of them, or the one with the lowest priority.
    fn admit(&mut self, mut entry: Entry, sending: Backlog, out: &mut Outlet) {
        let sorted = match &mut self.order {
            Order::Fifo(class) => {
                let fit = self.limit.admits(class.held().plus(sending), &entry.piece);
                if let Some(piece) = out.admit(fit, entry.piece, DropCause::QueueFull) {
                    class.push(Entry { piece, ..entry });
                }
                return;
            }
            Order::Sorted(sorted) => sorted,
        };
        let id = sorted.classify(&entry.piece.packet);
        while self.limit.admits(sorted.held().plus(sending), &entry.piece) < entry.piece.count {
            if let Some(tail) = sorted.drop_for(id, entry.piece.wire_bytes()) {
                out.discard(tail, DropCause::QueueFull);
                continue;
            }
            let fewer = entry.piece.count - entry.piece.unit();
            let Some(piece) = out.admit(fewer, entry.piece, DropCause::QueueFull) else {
                return;
            };
            entry.piece = piece;
        }
        sorted.push(id, entry);
    }
}

impl Order {
    fn new(scheduler: &Scheduler, map: AddressMap) -> Self {
        match scheduler {
            Scheduler::Fifo => Self::Fifo(Class::default()),
            Scheduler::Drr(classes) => Self::Sorted(Box::new(Sorted::new(classes.clone(), false, map))),
            Scheduler::Priority(classes) => Self::Sorted(Box::new(Sorted::new(classes.clone(), true, map))),
        }
    }

    fn push(&mut self, entry: Entry) {
        match self {
            Self::Fifo(class) => class.push(entry),
            Self::Sorted(sorted) => sorted.push(sorted.classify(&entry.piece.packet), entry),
        }
    }

    /// The class that transmits next, and the bytes that it may transmit; it may be empty.
    #[inline]
    fn turn(&mut self) -> Option<(ClassId, u64)> {
        match self {
            Self::Fifo(_) => Some((ClassId::Unstated(0), u64::MAX)),
            Self::Sorted(sorted) => sorted.turn(),
        }
    }

    #[inline]
    fn class(&mut self, id: ClassId) -> Option<&mut Class> {
        match self {
            Self::Fifo(class) => Some(class),
            Self::Sorted(sorted) => sorted.class(id),
        }
    }

    fn classes(&mut self) -> Box<dyn Iterator<Item = &mut Class> + '_> {
        match self {
            Self::Fifo(class) => Box::new(std::iter::once(class)),
            Self::Sorted(sorted) => Box::new(sorted.classes()),
        }
    }

    /// Removes segments from the head of the class that has its turn; `charge`: for transmission.
    #[inline]
    fn take(&mut self, id: ClassId, count: u32, charge: bool) -> Option<Piece> {
        match self {
            Self::Fifo(class) => class.take_front(count),
            Self::Sorted(sorted) => sorted.take(id, count, charge),
        }
    }

    /// All packets, in the order of their arrival.
    fn into_entries(self) -> Vec<Entry> {
        match self {
            Self::Fifo(mut class) => class.drain().collect(),
            Self::Sorted(mut sorted) => sorted.drain(),
        }
    }
}

/// Segments of a piece that are transmitted together: at most those of the clock and the bytes of a turn, at least one.
#[inline]
fn most_segments(piece: &Piece, at: Instant, clock: &Clock, allowance: u64) -> u32 {
    if !piece.divisible() {
        return piece.count;
    }
    let in_turn = allowance / piece.full_segment();
    u64::from(clock.together(piece, at)).min(in_turn).max(1) as u32
}

/// The number of segments at the head of a class that CoDel lets pass; 0 if the first one is dropped or marked.
///
/// The decision about a segment is that at the time when its transmission starts.
fn codel_run(
    class: &mut Class,
    settings: codel::Settings,
    largest: u64,
    at: Instant,
    clock: &Clock,
    allowance: u64,
) -> u32 {
    let Some(Entry { since, piece }) = class.head() else {
        return 0;
    };
    let most = most_segments(piece, at, clock, allowance);
    let all = class.held().bytes;
    let mut codel = class.codel;
    let mut run = 0;
    while run < most {
        let candidate = Candidate {
            now: clock.end(piece.front_bytes(run), at),
            since: *since,
            behind: all - piece.front_bytes(run + piece.unit()),
            largest,
        };
        let mut next = codel;
        let drops = next.drops(settings, candidate);
        if drops && run > 0 {
            // It is decided again when it is the first.
            break;
        }
        codel = next;
        if drops {
            break;
        }
        run += piece.unit();
    }
    class.codel = codel;
    run
}

/// Removes and returns the first `count` segments, if any.
fn take_front(rest: &mut Option<Piece>, count: u32) -> Option<Piece> {
    let piece = rest.as_mut().filter(|_| count > 0)?;
    if count >= piece.count {
        return rest.take();
    }
    Some(piece.split_front(count))
}
