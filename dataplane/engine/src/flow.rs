//! Flow counters of this node: a set-associative table of fixed size for flows that enter or leave the overlay here.

use std::net::{IpAddr, Ipv4Addr};

use crate::{FlowStats, Packet};

/// Number of entries. A new flow replaces the oldest entry of a full set.
const SLOTS: usize = 256;
/// Associativity: entries that a flow may occupy; few, so that a look-up reads one or two cache lines.
const WAYS: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    /// The addresses, or a hash of them in IPv6.
    ends: u64,
    ports: u32,
    protocol: u8,
    v6: bool,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: Key,
    packets: u64,
    bytes: u64,
    last_use: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Flows {
    /// Empty until the first packet, then [`SLOTS`] entries in sets of [`WAYS`].
    slots: Vec<Option<Entry>>,
    /// The addresses of IPv6 flows, by slot; empty until the first one.
    addresses6: Vec<(IpAddr, IpAddr)>,
    /// Counts packets; serves as the age of entries.
    uses: u64,
    pub forgotten: u64,
}

impl Flows {
    pub(crate) fn count(&mut self, packet: &Packet) {
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, None);
        }
        self.uses += 1;
        let meta = packet.meta();
        let (src_port, dst_port) = packet.ports();
        let key = Key {
            ends: packet.ends(),
            ports: u32::from(src_port) << 16 | u32::from(dst_port),
            protocol: meta.protocol,
            v6: meta.v6,
        };
        let (segments, bytes) = (u64::from(packet.segments()), packet.wire_bytes());
        let place =
            crate::rng::mix(key.ends ^ u64::from(key.ports).rotate_left(21) ^ u64::from(key.protocol));
        let start = place as usize % (SLOTS / WAYS) * WAYS;
        let ways = &mut self.slots[start..start + WAYS];
        let found = ways.iter_mut().flatten().find(|entry| entry.key == key);
        if let Some(entry) = found {
            entry.packets += segments;
            entry.bytes += bytes;
            entry.last_use = self.uses;
            return;
        }
        let oldest = ways.iter_mut().enumerate();
        let Some((way, slot)) = oldest.min_by_key(|(_, slot)| slot.map_or(0, |entry| entry.last_use)) else {
            return;
        };
        self.forgotten += u64::from(slot.is_some());
        *slot = Some(Entry { key, packets: segments, bytes, last_use: self.uses });
        if meta.v6 {
            let none = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            self.addresses6.resize(SLOTS, none);
            self.addresses6[start + way] = packet.addresses();
        }
    }

    pub(crate) fn stats(&self) -> Vec<FlowStats> {
        let slots = self.slots.iter().enumerate();
        let mut flows: Vec<FlowStats> =
            slots.filter_map(|(at, slot)| Some(slot.as_ref()?.stats(self.addresses6.get(at)))).collect();
        flows.sort_by_key(|flow| (flow.src, flow.dst, flow.protocol, flow.src_port, flow.dst_port));
        flows
    }
}

impl Entry {
    fn stats(&self, addresses6: Option<&(IpAddr, IpAddr)>) -> FlowStats {
        let of = |address: u32| IpAddr::V4(Ipv4Addr::from(address));
        let (src, dst) = match addresses6.filter(|_| self.key.v6) {
            Some(&both) => both,
            None => (of((self.key.ends >> 32) as u32), of(self.key.ends as u32)),
        };
        FlowStats {
            src,
            dst,
            protocol: self.key.protocol,
            src_port: (self.key.ports >> 16) as u16,
            dst_port: self.key.ports as u16,
            packets: self.packets,
            bytes: self.bytes,
        }
    }
}
