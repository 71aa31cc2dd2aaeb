//! Schedulers with classes: deficit round robin and strict priority.

use std::collections::{BTreeMap, VecDeque};

use super::class::{Class, Entry};
use crate::address::AddressMap;
use crate::link::limit::Backlog;
use crate::link::piece::Piece;
use crate::{ClassKey, Classes, Packet};

/// Number of classes without a stated weight. A class is the remainder of its key by this number, so that memory and
/// the time of a decision are bounded for any traffic, and packets of one flow are always in one class.
const UNSTATED: u32 = 1_024;
/// Bytes of one turn of a class of weight 1: a full packet, so that a turn transmits something (Shreedhar and
/// Varghese, section III).
const QUANTUM: u64 = 1_500;

/// Identifies a class. With priorities it is the priority; otherwise a stated key, or a remainder of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ClassId {
    Priority(u32),
    Stated(u32),
    Unstated(u32),
}

#[derive(Debug)]
pub(super) struct Sorted {
    settings: Classes,
    strict: bool,
    map: AddressMap,
    classes: BTreeMap<ClassId, Class>,
    /// The classes that hold packets, in the order of their turns; by number with priorities.
    turns: VecDeque<ClassId>,
    held: Backlog,
}

impl Sorted {
    pub(super) fn new(settings: Classes, strict: bool, map: AddressMap) -> Self {
        Self {
            settings,
            strict,
            map,
            classes: BTreeMap::new(),
            turns: VecDeque::new(),
            held: Backlog::default(),
        }
    }

    pub(super) fn held(&self) -> Backlog {
        self.held
    }

    pub(super) fn class(&mut self, id: ClassId) -> Option<&mut Class> {
        self.classes.get_mut(&id)
    }

    pub(super) fn classes(&mut self) -> impl Iterator<Item = &mut Class> {
        self.classes.values_mut()
    }

    /// The class of a packet.
    pub(super) fn classify(&self, packet: &Packet) -> ClassId {
        let key = self.key(packet);
        match (self.strict, self.settings.weights.get(&key)) {
            (true, weight) => ClassId::Priority(weight.copied().unwrap_or(1)),
            (false, Some(_)) => ClassId::Stated(key),
            (false, None) => ClassId::Unstated(key % UNSTATED),
        }
    }

    pub(super) fn push(&mut self, id: ClassId, entry: Entry) {
        let class = self.classes.entry(id).or_default();
        self.held.add(&entry.piece);
        let was_empty = class.is_empty();
        class.push(entry);
        if !was_empty {
            return;
        }
        if self.strict {
            let at = self.turns.partition_point(|&other| other > id);
            self.turns.insert(at, id);
        } else {
            class.weight = match id {
                ClassId::Stated(key) => self.settings.weights.get(&key).copied().unwrap_or(1),
                _ => 1,
            };
            class.deficit = turn_bytes(class);
            self.turns.push_back(id);
        }
    }

    /// The class that transmits next, and the bytes that it may transmit.
    pub(super) fn turn(&mut self) -> Option<(ClassId, u64)> {
        loop {
            let id = *self.turns.front()?;
            if self.strict {
                return Some((id, u64::MAX));
            }
            let class = self.classes.get_mut(&id)?;
            if class.deficit >= class.next_bytes() {
                return Some((id, class.deficit));
            }
            class.deficit += turn_bytes(class);
            self.turns.rotate_left(1);
        }
    }

    /// Removes segments from the head of a class, which has its turn. `charge` says whether they are transmitted.
    pub(super) fn take(&mut self, id: ClassId, count: u32, charge: bool) -> Option<Piece> {
        let class = self.classes.get_mut(&id)?;
        let before = class.held();
        let piece = class.take_front(count)?;
        if charge {
            class.deficit = class.deficit.saturating_sub(piece.wire_bytes());
        }
        let emptied = class.is_empty();
        self.held = self.held.replaced(before, class.held());
        if emptied {
            self.turns.pop_front();
        }
        Some(piece)
    }

    /// Removes the last segment of another class in favour of `bytes` of an arriving packet: of the longest class,
    /// unless the arriving packet's would be longer; with priorities of the lowest one, if it is lower.
    pub(super) fn drop_for(&mut self, arriving: ClassId, bytes: u64) -> Option<Piece> {
        let victim = if self.strict { self.lower(arriving) } else { self.longer(arriving, bytes) }?;
        let class = self.classes.get_mut(&victim)?;
        let before = class.held();
        let piece = class.take_back()?;
        let emptied = class.is_empty();
        self.held = self.held.replaced(before, class.held());
        if emptied {
            self.turns.retain(|&id| id != victim);
        }
        Some(piece)
    }

    fn lower(&self, arriving: ClassId) -> Option<ClassId> {
        self.turns.back().copied().filter(|&lowest| lowest < arriving)
    }

    fn longer(&self, arriving: ClassId, bytes: u64) -> Option<ClassId> {
        let length = |id: &ClassId| self.classes.get(id).map_or(0, |class| class.held().bytes);
        let longest = self.turns.iter().copied().filter(|&id| id != arriving).max_by_key(length)?;
        (length(&longest) > length(&arriving) + bytes).then_some(longest)
    }

    /// Removes all packets, in the order in which they arrived.
    pub(super) fn drain(&mut self) -> Vec<Entry> {
        self.turns.clear();
        self.held = Backlog::default();
        let mut entries: Vec<Entry> = self.classes.values_mut().flat_map(Class::drain).collect();
        entries.sort_by_key(|entry| entry.since);
        entries
    }

    fn key(&self, packet: &Packet) -> u32 {
        match self.settings.by {
            ClassKey::Flow => (packet.flow_hash() >> 32) as u32,
            ClassKey::DstPort => u32::from(packet.ports().1),
            ClassKey::SrcPort => u32::from(packet.ports().0),
            ClassKey::Source => self.map.source(packet).unwrap_or(0),
            ClassKey::Destination => self.map.number_of_destination(packet),
            ClassKey::Dscp => u32::from(packet.dscp()),
        }
    }
}

/// Bytes that one turn adds to the deficit of a class.
fn turn_bytes(class: &Class) -> u64 {
    QUANTUM * u64::from(class.weight)
}
