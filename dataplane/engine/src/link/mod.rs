//! Links to neighbours: state, counters, and impairments of outgoing packets.

mod clock;
mod corrupt;
mod delay;
mod distribution;
mod duplicate;
mod impairment;
mod jitter;
mod limit;
mod loss;
mod meter;
mod piece;
mod probing;
mod queue;
mod rate;
mod reorder;
mod selection;
mod shaper;
#[cfg(test)]
mod tests;
mod trace;

use std::collections::BTreeMap;

use crate::address::AddressMap;
use crate::rng::Rng;
use crate::stats::{DropCause, ImpairedCounters, Traffic};
use crate::tap::{TapPoint, Tapped};
use crate::{Instant, Io, LinkId, LinkMetrics, LinkSpec, LinkStats, NodeId, Packet};
pub use distribution::Distribution;
use meter::Meter;
pub use meter::{Histogram, LinkMeasurement};
pub(crate) use piece::Piece;
pub(crate) use probing::LinkTerms;
use shaper::Shaper;
pub use trace::Trace;

/// Represents the absence of a link in tables.
pub(crate) const NO_LINK: LinkId = LinkId::MAX;

/// One neighbour. Created when a route or a link first names it.
#[derive(Debug)]
pub(crate) struct Link {
    remote: NodeId,
    /// Whether the link was added (and not removed).
    known: bool,
    up: bool,
    congested: bool,
    spec: LinkSpec,
    shaper: Option<Box<Shaper>>,
    /// The random stream of this direction; moved into the impairments while there are any.
    rng: Rng,
    meter: Meter,
    pub tx: Traffic,
    impaired: ImpairedCounters,
    pub rx: Traffic,
    /// Whether its packets are recorded.
    tapped: bool,
}

impl Link {
    fn new(remote: NodeId) -> Self {
        Self {
            remote,
            known: false,
            up: false,
            congested: false,
            spec: LinkSpec::default(),
            shaper: None,
            rng: Rng::new(0, &[]),
            meter: Meter::default(),
            tx: Traffic::default(),
            impaired: ImpairedCounters::default(),
            rx: Traffic::default(),
            tapped: false,
        }
    }

    fn blocked(&self) -> Option<DropCause> {
        if !self.known || !self.up || self.spec.down {
            Some(DropCause::LinkDown)
        } else if self.congested {
            Some(DropCause::Congested)
        } else {
            None
        }
    }

    /// Counts a packet that is dropped before it reaches the impairments.
    fn refuse(&mut self, now: Instant, packet: &Packet, cause: DropCause, io: &mut Io) {
        self.tx.drops.add(cause, u64::from(packet.segments()));
        if self.tapped {
            io.tap(now, TapPoint::Dropped(self.remote, cause), packet);
        }
    }
}

/// The result of sending a packet on a link.
#[derive(Debug)]
pub(crate) enum Sent {
    Taken,
    Dropped,
    /// The packet exceeds the MTU of the link, in bytes, which is given. Counted as dropped, and returned for an ICMP
    /// error.
    TooLong(Packet, u16),
    /// The same for a packet that is to be fragmented. Not counted.
    ToFragment(Packet, u16),
}

/// All links of a node.
#[derive(Debug, Default)]
pub(crate) struct Links {
    slots: Vec<Link>,
    by_node: BTreeMap<NodeId, LinkId>,
    /// Links that have impairments.
    shaped: Vec<LinkId>,
    map: AddressMap,
    paused: bool,
}

impl Links {
    pub(crate) fn new(map: AddressMap) -> Self {
        Self { map, ..Self::default() }
    }

    /// Sets the address plan of links that get impairments from now on: it comes before the first link.
    pub(crate) fn set_addresses(&mut self, map: AddressMap) {
        self.map = map;
    }

    /// The slot of a neighbour, created if it has none.
    pub(crate) fn slot_for(&mut self, remote: NodeId) -> LinkId {
        *self.by_node.entry(remote).or_insert_with(|| {
            self.slots.push(Link::new(remote));
            (self.slots.len() - 1) as LinkId
        })
    }

    /// The slot of a neighbour whose link was added.
    pub(crate) fn find(&self, remote: NodeId) -> Option<LinkId> {
        self.by_node.get(&remote).copied().filter(|&id| self.slots[id as usize].known)
    }

    /// The neighbour of a link that carries packets.
    pub(crate) fn neighbour(&self, id: LinkId) -> Option<NodeId> {
        let link = self.slots.get(id as usize)?;
        (link.known && link.up && !link.spec.down).then_some(link.remote)
    }

    /// The neighbour of a link, whatever its state.
    pub(crate) fn remote(&self, id: LinkId) -> Option<NodeId> {
        Some(self.slots.get(id as usize)?.remote)
    }

    pub(crate) fn get_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        self.slots.get_mut(id as usize)
    }

    /// Counts a packet of a link that could not be fragmented.
    pub(crate) fn refuse_fragments(&mut self, id: LinkId, packets: u32) {
        if let Some(link) = self.slots.get_mut(id as usize) {
            link.tx.drops.add(DropCause::Mtu, u64::from(packets));
        }
    }

    pub(crate) fn add(
        &mut self,
        now: Instant,
        remote: NodeId,
        rng: Rng,
        spec: LinkSpec,
        io: &mut Io,
    ) -> LinkId {
        let id = self.slot_for(remote);
        let link = &mut self.slots[id as usize];
        if !link.known {
            link.known = true;
            link.rng = rng;
            if link.meter.is_unused() {
                link.spec = spec.clone(); // its first specification is not a change
            }
        }
        self.set(now, id, spec, io);
        id
    }

    pub(crate) fn set(&mut self, now: Instant, id: LinkId, spec: LinkSpec, io: &mut Io) {
        let link = &mut self.slots[id as usize];
        let mut spec = spec;
        if let Some(trace) = &mut spec.trace {
            trace.start(now, link.spec.trace.as_ref());
        }
        link.meter.change(&link.spec, &spec);
        link.spec = spec;
        match &mut link.shaper {
            Some(shaper) => {
                shaper.change(now, &link.spec, &mut link.meter);
            }
            None if link.spec.is_plain() => return,
            None => {
                link.shaper = Some(Box::new(Shaper::new(&link.spec, link.rng.fork(), self.map.clone())));
                self.shaped.push(id);
            }
        }
        if self.paused {
            return; // what passed the impairments leaves when the node is resumed
        }
        self.emit(now, id, io);
        self.retire_idle_shaper(id);
    }

    /// Records the packets of the links to these neighbours, whether they exist yet or not, and of no other ones.
    pub(crate) fn set_taps(&mut self, remotes: &[NodeId]) {
        self.slots.iter_mut().for_each(|link| link.tapped = false);
        for &remote in remotes {
            let id = self.slot_for(remote);
            self.slots[id as usize].tapped = true;
        }
    }

    /// The node was paused, or resumed: packets that were held meanwhile do not count as late.
    pub(crate) fn set_paused(&mut self, now: Instant, paused: bool) {
        self.paused = paused;
        for link in &mut self.slots {
            link.meter.set_paused(now, paused);
        }
    }

    pub(crate) fn remove(&mut self, now: Instant, id: LinkId, io: &mut Io) {
        self.set_up(now, id, false, io);
        self.slots[id as usize].known = false;
    }

    pub(crate) fn set_up(&mut self, now: Instant, id: LinkId, up: bool, io: &mut Io) {
        let Some(link) = self.slots.get_mut(id as usize) else {
            return;
        };
        let comes_up = up && !link.up;
        link.up = up;
        link.congested = false;
        if let Some(trace) = link.spec.trace.as_mut().filter(|_| comes_up) {
            // The queue is empty: it was emptied when the link went down.
            trace.start(now, None);
            if let Some(shaper) = &mut link.shaper {
                shaper.change(now, &link.spec, &mut link.meter);
            }
        }
        if up || link.shaper.is_none() {
            return;
        }
        // Queued packets are lost with the link, and the impairments start empty.
        if let Some(mut shaper) = link.shaper.take() {
            link.meter.end_period();
            link.tx.drops.add(DropCause::LinkDown, shaper.backlog().packets);
            if link.tapped {
                let point = TapPoint::Dropped(link.remote, DropCause::LinkDown);
                io.tapped.extend(shaper.drain().map(|piece| Tapped::of_piece(now, point, piece)));
            }
            link.shaper = Some(Box::new(Shaper::new(&link.spec, link.rng.fork(), self.map.clone())));
        }
        self.retire_idle_shaper(id);
    }

    pub(crate) fn set_congested(&mut self, id: LinkId, congested: bool) {
        if let Some(link) = self.slots.get_mut(id as usize) {
            link.congested = congested;
        }
    }

    /// Whether the link carries packets, or would if its transport were not full.
    pub(crate) fn carries(&self, id: LinkId) -> bool {
        self.slots.get(id as usize).is_some_and(|link| link.blocked() != Some(DropCause::LinkDown))
    }

    /// Whether the link is up but its transport is full.
    pub(crate) fn is_congested(&self, id: LinkId) -> bool {
        self.slots.get(id as usize).is_some_and(|link| link.blocked() == Some(DropCause::Congested))
    }

    /// Sends a packet on a link. Without impairments it is added to the transmits directly.
    #[inline]
    pub(crate) fn send(&mut self, now: Instant, id: LinkId, packet: Packet, io: &mut Io) -> Sent {
        let Some(link) = self.slots.get_mut(id as usize) else {
            io.pool.put(packet);
            return Sent::Dropped;
        };
        let too_long = link.spec.mtu.and_then(|mtu| packet.exceeds(mtu));
        if let Some(mtu) = too_long.filter(|_| packet.may_be_fragmented()) {
            return Sent::ToFragment(packet, mtu);
        }
        if link.tapped {
            io.tap(now, TapPoint::Offered(link.remote), &packet);
        }
        if let Some(cause) = link.blocked() {
            link.refuse(now, &packet, cause, io);
            io.pool.put(packet);
            return Sent::Dropped;
        }
        if let Some(mtu) = too_long {
            link.refuse(now, &packet, DropCause::Mtu, io);
            return Sent::TooLong(packet, mtu);
        }
        let Some(shaper) = &mut link.shaper else {
            link.tx.count(packet.segments(), packet.wire_bytes());
            if link.tapped {
                io.tap(now, TapPoint::Passed(link.remote), &packet);
            }
            io.transmits.push((id, packet));
            return Sent::Taken;
        };
        shaper.push(now, packet, &mut io.pool, &mut link.meter);
        self.emit(now, id, io);
        Sent::Taken
    }

    /// Processes the impairments of every link.
    pub(crate) fn release(&mut self, now: Instant, io: &mut Io) {
        let mut index = 0;
        while let Some(&id) = self.shaped.get(index) {
            let link = &mut self.slots[id as usize];
            if let Some(shaper) = &mut link.shaper {
                shaper.release(now, &mut link.meter);
            }
            self.emit(now, id, io);
            if !self.retire_idle_shaper(id) {
                index += 1;
            }
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.shaped.iter().filter_map(|&id| self.slots[id as usize].shaper.as_ref()?.deadline()).min()
    }

    pub(crate) fn metrics(&self) -> Vec<LinkMetrics> {
        let used = self.slots.iter().filter(|link| link.known || link.tx.frames + link.rx.frames > 0);
        used.map(|link| {
            let held = link.shaper.as_ref().map(|shaper| shaper.backlog()).unwrap_or_default();
            LinkMetrics {
                remote: link.remote,
                tx: link.tx.clone(),
                rx: link.rx.clone(),
                queued_packets: held.packets,
                queued_bytes: held.bytes,
            }
        })
        .collect()
    }

    pub(crate) fn stats(&self) -> Vec<LinkStats> {
        let known = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, link)| link.known || link.tx.frames + link.rx.frames > 0);
        known
            .map(|(index, link)| {
                let held = link.shaper.as_ref().map(|shaper| shaper.backlog()).unwrap_or_default();
                LinkStats {
                    link: index as LinkId,
                    remote: link.remote,
                    up: link.known && link.up,
                    congested: link.congested,
                    spec: link.spec.clone(),
                    tx: link.tx.clone(),
                    impaired: link.impaired,
                    rx: link.rx.clone(),
                    measured: link.meter.snapshot(),
                    queued_packets: held.packets,
                    queued_bytes: held.bytes,
                }
            })
            .collect()
    }

    /// Transmits the packets that passed a link's impairments and counts those that were dropped.
    fn emit(&mut self, now: Instant, id: LinkId, io: &mut Io) {
        let link = &mut self.slots[id as usize];
        let Some(shaper) = &mut link.shaper else {
            return;
        };
        for (due, piece) in shaper.ready() {
            link.meter.released(now, due, &piece);
            link.tx.count(piece.count, piece.wire_bytes());
            link.impaired.ecn += if piece.marked { u64::from(piece.count) } else { 0 };
            let packet = piece.into_packet(&mut io.pool);
            if link.tapped {
                io.tap(now, TapPoint::Passed(link.remote), &packet);
            }
            io.transmits.push((id, packet));
        }
        let counted = shaper.counted();
        for (cause, piece) in counted.waste.drain(..) {
            if link.tapped {
                let point = TapPoint::Dropped(link.remote, cause);
                io.tapped.push(Tapped::of_piece(now, point, piece));
            } else {
                io.pool.put(piece.packet);
            }
        }
        link.tx.drops.take(&mut counted.drops);
        link.impaired.take(&mut counted.impaired);
    }

    /// Removes impairments that are empty and have no effect. True when it did.
    fn retire_idle_shaper(&mut self, id: LinkId) -> bool {
        let link = &mut self.slots[id as usize];
        let idle =
            link.spec.is_plain() && link.shaper.as_ref().is_some_and(|shaper| shaper.deadline().is_none());
        if idle {
            link.shaper = None;
            self.shaped.retain(|&shaped| shaped != id);
        }
        idle
    }
}
