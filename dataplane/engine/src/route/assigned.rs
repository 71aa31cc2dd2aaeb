//! The flows for which this node has chosen a route: a record for users, which saves the next packet the choice.

use crate::rng::mix;
use crate::{ChosenBy, FiveTuple, Instant, RouteId};

/// Entries of a new table; it doubles while flows that are in use would be replaced.
const FIRST_SLOTS: usize = 256;
/// Entries of the largest table, 700 kB: of 2,000 flows at once, hardly one is replaced.
const MOST_SLOTS: usize = 8_192;
/// Associativity: entries that a flow may occupy. With 4, a table of 8,192 entries would lose some of 1,000 flows.
const WAYS: usize = 8;
/// A flow without packets for this long may be replaced by another one.
const IDLE_NS: u64 = 10_000_000_000;

/// A flow and the route that it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutedFlow {
    /// The flow.
    pub flow: FiveTuple,
    /// Its route.
    pub route: RouteId,
    /// Why it is this one.
    pub by: ChosenBy,
    /// The time since its last packet in nanoseconds.
    pub idle_ns: u64,
}

/// The flows for which a node has chosen among several routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoutedFlows {
    /// The flows with the latest packets first.
    pub flows: Vec<RoutedFlow>,
    /// How many flows the node knows; more than `flows` when a limit was given.
    pub known: u64,
    /// How many flows were in use when others replaced them in the record.
    pub forgotten: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    hash: u64,
    generation: u64,
    pub flow: FiveTuple,
    /// The route that the flow prefers, 0 for none.
    pub asked: RouteId,
    index: u32,
    pub last_use: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct Assigned {
    /// Empty until the first packet, then sets of [`WAYS`] entries.
    slots: Vec<Option<Entry>>,
    pub(super) forgotten: u64,
}

impl Assigned {
    /// The index of the route of a flow: the recorded one if nothing has changed since, else that of `choose`.
    #[inline]
    pub(super) fn route(
        &mut self,
        now: Instant,
        hash: u64,
        asked: RouteId,
        generation: u64,
        flow: &FiveTuple,
        choose: impl FnOnce() -> usize,
    ) -> usize {
        if self.slots.is_empty() {
            self.slots.resize(FIRST_SLOTS, None);
        }
        let start = self.start(hash);
        let found = self.slots[start..start + WAYS].iter_mut().flatten().find(|entry| entry.hash == hash);
        if let Some(entry) = found {
            entry.last_use = now;
            if (entry.generation, entry.asked) != (generation, asked) {
                (entry.generation, entry.asked, entry.index) = (generation, asked, choose() as u32);
            }
            return entry.index as usize;
        }
        let index = choose();
        self.insert(Entry { hash, generation, flow: *flow, asked, index: index as u32, last_use: now });
        index
    }

    fn start(&self, hash: u64) -> usize {
        // Mixed again: the upper bits decide the route.
        mix(hash) as usize % (self.slots.len() / WAYS) * WAYS
    }

    fn insert(&mut self, entry: Entry) {
        loop {
            let (start, len) = (self.start(entry.hash), self.slots.len());
            let set = &mut self.slots[start..start + WAYS];
            let oldest = set.iter_mut().min_by_key(|slot| slot.map(|each| each.last_use));
            let Some(slot) = oldest else {
                return;
            };
            let in_use = slot.is_some_and(|old| entry.last_use.0.saturating_sub(old.last_use.0) < IDLE_NS);
            if in_use && len < MOST_SLOTS {
                self.grow();
                continue;
            }
            *slot = Some(entry);
            self.forgotten += u64::from(in_use);
            return;
        }
    }

    fn grow(&mut self) {
        let wider = vec![None; self.slots.len() * 2];
        for entry in std::mem::replace(&mut self.slots, wider).into_iter().flatten() {
            let start = self.start(entry.hash);
            // A set is split in two, so each entry finds a free place.
            if let Some(slot) = self.slots[start..start + WAYS].iter_mut().find(|slot| slot.is_none()) {
                *slot = Some(entry);
            }
        }
    }

    /// All entries.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().flatten()
    }
}
