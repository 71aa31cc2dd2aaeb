//! The flows of a worker, and the tokens of their connections in its epoll set.

use std::collections::BTreeSet;

use super::flow::{Flow, FlowKey};

/// A descriptor in the worker's epoll set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// The eventfd of the inbox.
    Wake,
    /// A listener of a node, by the number of the node and the index of the listener.
    Listener(u64, usize),
    /// A connection of a flow: [`UP`](super::flow::UP) or [`DOWN`](super::flow::DOWN).
    Flow(FlowKey, usize),
}

const LISTENER: u64 = 1 << 63;
/// Bits of the index of a listener.
const INDEX_BITS: u32 = 4;
/// Bits of a slot: far more flows than a process has descriptors.
const SLOT_BITS: u32 = 30;

impl Token {
    pub fn encode(self) -> u64 {
        match self {
            Self::Wake => u64::MAX,
            Self::Listener(node, index) => LISTENER | (node << INDEX_BITS) | index as u64,
            Self::Flow(key, side) => {
                (u64::from(key.slot) << 33) | ((side as u64) << 32) | u64::from(key.epoch)
            }
        }
    }

    pub fn decode(token: u64) -> Self {
        if token == u64::MAX {
            return Self::Wake;
        }
        if token & LISTENER != 0 {
            let index = (token & ((1 << INDEX_BITS) - 1)) as usize;
            return Self::Listener((token & !LISTENER) >> INDEX_BITS, index);
        }
        let key = FlowKey {
            slot: (token >> 33) as u32,
            epoch: token as u32,
        };
        Self::Flow(key, (token >> 32 & 1) as usize)
    }
}

/// The flows, by slot.
#[derive(Default)]
pub struct Flows {
    slots: Vec<Option<(u32, Flow)>>,
    free: Vec<u32>,
    epoch: u32,
    deadlines: BTreeSet<(u64, FlowKey)>,
}

impl Flows {
    /// Adds a flow; `None` when there are too many.
    pub fn insert(&mut self, flow: Flow) -> Option<FlowKey> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < 1 << SLOT_BITS => {
                self.slots.push(None);
                (self.slots.len() - 1) as u32
            }
            None => return None,
        };
        self.epoch = self.epoch.wrapping_add(1);
        let epoch = self.epoch;
        self.slots[slot as usize] = Some((epoch, flow));
        Some(FlowKey { slot, epoch })
    }

    pub fn get(&mut self, key: FlowKey) -> Option<&mut Flow> {
        match self.slots.get_mut(key.slot as usize)? {
            Some((epoch, flow)) if *epoch == key.epoch => Some(flow),
            _ => None,
        }
    }

    pub fn remove(&mut self, key: FlowKey) -> Option<Flow> {
        self.get(key)?;
        let (_, flow) = self.slots[key.slot as usize].take()?;
        self.free.push(key.slot);
        if let Some(at) = flow.deadline {
            self.deadlines.remove(&(at, key));
        }
        Some(flow)
    }

    /// Sets or clears the deadline of a flow.
    pub fn set_deadline(&mut self, key: FlowKey, at: Option<u64>) {
        let Some(flow) = self.get(key) else { return };
        let old = std::mem::replace(&mut flow.deadline, at);
        if let Some(old) = old {
            self.deadlines.remove(&(old, key));
        }
        if let Some(at) = at {
            self.deadlines.insert((at, key));
        }
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// A flow whose deadline has passed.
    pub fn overdue(&self, now: u64) -> Option<FlowKey> {
        self.deadlines
            .first()
            .filter(|(at, _)| *at <= now)
            .map(|(_, key)| *key)
    }

    /// The flows, in the order of their slots.
    pub fn iter(&mut self) -> impl Iterator<Item = (FlowKey, &mut Flow)> {
        let slots = self.slots.iter_mut().enumerate();
        slots.filter_map(|(slot, entry)| {
            let (epoch, flow) = entry.as_mut()?;
            let key = FlowKey {
                slot: slot as u32,
                epoch: *epoch,
            };
            Some((key, flow))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_decoded_as_they_were_encoded() {
        let key = FlowKey {
            slot: (1 << SLOT_BITS) - 1,
            epoch: u32::MAX,
        };
        let tokens = [
            Token::Wake,
            Token::Listener(0, 0),
            Token::Listener(77, 3),
            Token::Flow(FlowKey { slot: 0, epoch: 1 }, 1),
            Token::Flow(key, 0),
        ];
        for token in tokens {
            assert_eq!(Token::decode(token.encode()), token);
        }
    }
}
