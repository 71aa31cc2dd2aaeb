//! The flows that enter or leave the overlay at this node: when they began and ended, and what they carried each way.
//!
//! A flow is known by its local and its remote end, so both directions share an entry. The table is set-associative
//! and grows with the number of flows up to a limit; what does not fit is counted.

use std::net::IpAddr;

use crate::wire::ip;
use crate::wire::tcp::TcpFlags;
use crate::{FlowMetrics, FlowStats, Instant, Packet};

/// Entries at the first packet, and at most: 64 take 10 KB in each node of a large lab, 16,384 2.5 MB in a node
/// with thousands of flows.
const SLOTS: (usize, usize) = (64, 16_384);
/// Associativity: entries that a flow may occupy; few, so that a look-up reads few cache lines.
const WAYS: usize = 4;
/// Flows that ended and were not collected yet.
const MOST_ENDED: usize = 1_024;

/// Flows that are told when they begin, between two collections; more are told by the next one. A message about each
/// costs a controller some 50 µs, and a thousand nodes may begin flows.
const MOST_BEGUN: usize = 16;

/// After this time without a packet an entry may be replaced when the table has its full size.
const UNUSED_NS: u64 = 1_000_000_000;
/// How long the entry of a closed TCP flow is kept for packets that are sent again.
const CLOSED_NS: u64 = 10_000_000_000;
/// A TCP flow without packets ends after this time: 2 h 4 min (RFC 5382, REQ-5) …
const TCP_IDLE_NS: u64 = 7_440_000_000_000;
/// … and any other after this one, the default of the kernel's connection tracking for UDP.
const OTHER_IDLE_NS: u64 = 30_000_000_000;

/// The way of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From this node into the overlay.
    Out,
    /// From the overlay to this node.
    In,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    local: IpAddr,
    remote: IpAddr,
    /// The local and the remote port.
    ports: u32,
    protocol: u8,
}

impl Key {
    fn of(packet: &Packet, way: Way) -> Self {
        let (src, dst) = packet.addresses();
        let (src_port, dst_port) = packet.ports();
        let ((local, local_port), (remote, remote_port)) = match way {
            Way::Out => ((src, src_port), (dst, dst_port)),
            Way::In => ((dst, dst_port), (src, src_port)),
        };
        Key {
            local,
            remote,
            ports: u32::from(local_port) << 16 | u32::from(remote_port),
            protocol: packet.meta().protocol,
        }
    }

    fn hash(self) -> usize {
        let ends = word(self.local).rotate_left(32) ^ word(self.remote);
        crate::rng::mix(ends ^ u64::from(self.ports).rotate_left(21) ^ u64::from(self.protocol)) as usize
    }
}

/// An address in 64 bits for hashing.
fn word(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            crate::rng::mix((bits >> 64) as u64 ^ crate::rng::mix(bits as u64))
        }
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    packets: u64,
    bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: Key,
    out: Count,
    back: Count,
    first: Instant,
    last: Instant,
    /// Nanoseconds between the first packet and the first answer.
    answered: Option<u64>,
    started_here: bool,
    fin: [bool; 2],
    closed: bool,
    /// Whether it changed since the last collection.
    changed: bool,
}

impl Entry {
    fn count(&mut self, now: Instant, way: Way, packet: &Packet, flags: TcpFlags) {
        let started = if self.started_here { Way::Out } else { Way::In };
        let (count, side) = match way {
            Way::Out => (&mut self.out, 0),
            Way::In => (&mut self.back, 1),
        };
        count.packets += u64::from(packet.segments());
        count.bytes += packet.wire_bytes();
        if self.answered.is_none() && way != started {
            self.answered = Some(now.nanos_since(self.first));
        }
        self.fin[side] |= flags.fin;
        self.closed |= flags.rst || self.fin == [true, true];
        self.last = now;
        self.changed = true;
    }

    fn idle_limit(&self) -> u64 {
        if self.closed {
            CLOSED_NS
        } else if self.key.protocol == ip::TCP {
            TCP_IDLE_NS
        } else {
            OTHER_IDLE_NS
        }
    }

    fn metrics(&self, ended: bool) -> FlowMetrics {
        FlowMetrics {
            local: self.key.local,
            remote: self.key.remote,
            peer: 0,
            application: true,
            protocol: self.key.protocol,
            local_port: (self.key.ports >> 16) as u16,
            remote_port: self.key.ports as u16,
            started_here: self.started_here,
            packets_out: self.out.packets,
            bytes_out: self.out.bytes,
            packets_in: self.back.packets,
            bytes_in: self.back.bytes,
            first: self.first,
            last: self.last,
            answered_ns: self.answered,
            ended,
            route: 0,
        }
    }

    fn stats(&self) -> impl Iterator<Item = FlowStats> {
        let (local, remote) = (self.key.local, self.key.remote);
        let (local_port, remote_port) = ((self.key.ports >> 16) as u16, self.key.ports as u16);
        let protocol = self.key.protocol;
        let stats = move |src: IpAddr, dst: IpAddr, src_port, dst_port, count: Count| FlowStats {
            src,
            dst,
            protocol,
            src_port,
            dst_port,
            packets: count.packets,
            bytes: count.bytes,
        };
        let ways = [
            stats(local, remote, local_port, remote_port, self.out),
            stats(remote, local, remote_port, local_port, self.back),
        ];
        ways.into_iter().filter(|flow| flow.packets > 0)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Flows {
    /// Empty until the first packet, then sets of [`WAYS`].
    slots: Vec<Option<Entry>>,
    ended: Vec<FlowMetrics>,
    /// Flows that began at this node and were not taken yet, and how many were told since the last collection.
    begun: Vec<FlowMetrics>,
    told: usize,
    /// Flows of which a part is not recorded: an entry that was replaced, or an end that was not collected in time.
    pub forgotten: u64,
    /// Packets of flows for which there was no entry.
    pub unrecorded: u64,
}

impl Flows {
    /// Counts a packet of a flow.
    pub(crate) fn count(&mut self, now: Instant, way: Way, packet: &Packet) {
        if self.slots.is_empty() {
            self.slots.resize(SLOTS.0, None);
        }
        let key = Key::of(packet, way);
        let flags = TcpFlags::of(packet);
        let set = self.set_of(key);
        if let Some(entry) = self.slots[set..set + WAYS].iter_mut().flatten().find(|entry| entry.key == key) {
            if !(entry.closed && flags.opens) {
                entry.count(now, way, packet, flags);
                return;
            }
            // The same ports again: another flow.
            let old = *entry;
            *entry = begun(now, way, key);
            entry.count(now, way, packet, flags);
            let new = *entry;
            self.end(&old);
            self.tell(&new);
            return;
        }
        let Some(slot) = self.free_slot(now, key) else {
            self.unrecorded += u64::from(packet.segments());
            return;
        };
        let mut entry = begun(now, way, key);
        entry.count(now, way, packet, flags);
        if let Some(old) = self.slots[slot].replace(entry) {
            self.forgotten += u64::from(!old.closed);
            self.end(&old);
        }
        self.tell(&entry);
    }

    /// Notes a flow that began at this node.
    fn tell(&mut self, entry: &Entry) {
        if entry.started_here && self.told < MOST_BEGUN {
            self.told += 1;
            self.begun.push(entry.metrics(false));
        }
    }

    /// Whether flows began that were not taken yet.
    pub(crate) fn has_begun(&self) -> bool {
        !self.begun.is_empty()
    }

    /// The flows that began at this node since the last call.
    pub(crate) fn take_begun(&mut self) -> Vec<FlowMetrics> {
        std::mem::take(&mut self.begun)
    }

    /// The flows that changed or ended since the last call.
    pub(crate) fn collect(&mut self, now: Instant) -> Vec<FlowMetrics> {
        self.told = 0;
        let mut found = std::mem::take(&mut self.ended);
        for slot in &mut self.slots {
            let Some(entry) = slot else { continue };
            let over = now.nanos_since(entry.last) > entry.idle_limit();
            if entry.changed || (over && !entry.closed) {
                entry.changed = false;
                found.push(entry.metrics(entry.closed || over));
            }
            if over {
                *slot = None;
            }
        }
        found
    }

    pub(crate) fn stats(&self) -> Vec<FlowStats> {
        let mut flows: Vec<FlowStats> = self.slots.iter().flatten().flat_map(Entry::stats).collect();
        flows.sort_by_key(|flow| (flow.src, flow.dst, flow.protocol, flow.src_port, flow.dst_port));
        flows
    }

    fn set_of(&self, key: Key) -> usize {
        key.hash() % (self.slots.len() / WAYS) * WAYS
    }

    /// A slot for a new flow: one that is free, of a closed flow, or, in a table of the full size, of the flow that
    /// was unused longest.
    fn free_slot(&mut self, now: Instant, key: Key) -> Option<usize> {
        loop {
            let start = self.set_of(key);
            let ways = start..start + WAYS;
            let usable = |slot: &usize| self.slots[*slot].is_none_or(|entry| entry.closed);
            if let Some(slot) = ways.clone().find(usable) {
                return Some(slot);
            }
            if self.slots.len() >= SLOTS.1 {
                let last = |slot: &usize| self.slots[*slot].map_or(Instant::ZERO, |entry| entry.last);
                return ways.min_by_key(last).filter(|slot| now.nanos_since(last(slot)) > UNUSED_NS);
            }
            self.grow();
        }
    }

    fn grow(&mut self) {
        let more = vec![None; self.slots.len() * 4];
        for entry in std::mem::replace(&mut self.slots, more).into_iter().flatten() {
            let start = self.set_of(entry.key);
            // The number of sets grows by a whole factor, so one set is never the target of two former ones.
            if let Some(slot) = self.slots[start..start + WAYS].iter_mut().find(|slot| slot.is_none()) {
                *slot = Some(entry);
            }
        }
    }

    fn end(&mut self, entry: &Entry) {
        if !entry.changed && entry.closed {
            return; // its end was collected
        }
        if self.ended.len() == MOST_ENDED {
            self.forgotten += 1;
        } else {
            self.ended.push(entry.metrics(true));
        }
    }
}

fn begun(now: Instant, way: Way, key: Key) -> Entry {
    Entry {
        key,
        out: Count::default(),
        back: Count::default(),
        first: now,
        last: now,
        answered: None,
        started_here: way == Way::Out,
        fin: [false; 2],
        closed: false,
        changed: false,
    }
}

#[cfg(test)]
mod tests;
