//! Deadlines of a shard: one heap for all its nodes and links.
//!
//! Entries are never removed early. Each identifies its owner, so that a late one is recognised and ignored.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use nm_engine::LinkId;

use crate::runtime::mailbox::NodeKey;

/// The owner of a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// An engine.
    Node(NodeKey),
    /// A link: dial again, or end an attempt.
    Link {
        key: NodeKey,
        link: LinkId,
        epoch: u64,
    },
    /// The listeners: a connection exceeded its limit, or there is room again.
    LinkListener,
    /// A node has waited for a full link until its time limit.
    Pause(NodeKey),
}

/// The heap.
#[derive(Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(u64, Timer)>>,
}

impl Timers {
    pub fn add(&mut self, at: u64, timer: Timer) {
        self.heap.push(Reverse((at, timer)));
    }

    /// The earliest deadline, and whether it is one of an engine, and with it of the packets in its links.
    pub fn next(&self) -> Option<(u64, bool)> {
        let Reverse((at, timer)) = self.heap.peek()?;
        Some((*at, matches!(timer, Timer::Node(_))))
    }

    /// Takes out the earliest entry if it is due.
    pub fn take_due(&mut self, now: u64) -> Option<(u64, Timer)> {
        if self.next()?.0 > now {
            return None;
        }
        self.heap.pop().map(|entry| entry.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_returned_in_order_and_only_when_due() {
        let mut timers = Timers::default();
        let key = |slot| NodeKey {
            slot,
            generation: 0,
        };
        for at in [30, 10, 20] {
            timers.add(at, Timer::Node(key(at as u32)));
        }
        assert_eq!(timers.next().map(|(at, _)| at), Some(10));
        assert_eq!(timers.take_due(9), None);
        assert_eq!(timers.take_due(20), Some((10, Timer::Node(key(10)))));
        assert_eq!(timers.take_due(20), Some((20, Timer::Node(key(20)))));
        assert_eq!(timers.take_due(20), None);
    }
}
