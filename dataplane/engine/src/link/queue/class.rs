//! One class of a queue: packets in order of arrival, and the state that its scheduler and CoDel keep about it.

use std::collections::VecDeque;

use super::codel::Codel;
use crate::link::limit::Backlog;
use crate::link::piece::Piece;
use crate::Instant;

/// A queued piece.
#[derive(Debug)]
pub(super) struct Entry {
    /// When it was queued.
    pub since: Instant,
    pub piece: Piece,
}

#[derive(Debug, Default)]
pub(super) struct Class {
    entries: VecDeque<Entry>,
    held: Backlog,
    pub codel: Codel,
    /// For deficit round robin: the share, and the bytes that may be transmitted in this turn.
    pub weight: u32,
    pub deficit: u64,
}

impl Class {
    pub(super) fn push(&mut self, entry: Entry) {
        self.held.add(&entry.piece);
        self.entries.push_back(entry);
    }

    pub(super) fn head(&self) -> Option<&Entry> {
        self.entries.front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn held(&self) -> Backlog {
        self.held
    }

    /// Bytes of the segment that is transmitted next; 0 when there is none.
    pub(super) fn next_bytes(&self) -> u64 {
        self.head().map_or(0, |entry| entry.piece.front_bytes(1))
    }

    /// Removes and returns the first `count` segments of the first piece.
    pub(super) fn take_front(&mut self, count: u32) -> Option<Piece> {
        let head = self.entries.front_mut()?;
        if count >= head.piece.count {
            let entry = self.entries.pop_front()?;
            self.held.remove(&entry.piece);
            return Some(entry.piece);
        }
        self.held.remove(&head.piece);
        let front = head.piece.split_front(count);
        self.held.add(&head.piece);
        Some(front)
    }

    /// Removes and returns the last segment, or the last packet if it is not divisible.
    pub(super) fn take_back(&mut self) -> Option<Piece> {
        let tail = self.entries.back_mut()?;
        self.held.remove(&tail.piece);
        if tail.piece.count == tail.piece.unit() {
            return self.entries.pop_back().map(|entry| entry.piece);
        }
        let kept = tail.piece.split_front(tail.piece.count - 1);
        self.held.add(&kept);
        Some(std::mem::replace(&mut tail.piece, kept))
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Entry> + '_ {
        self.held = Backlog::default();
        self.entries.drain(..)
    }
}
