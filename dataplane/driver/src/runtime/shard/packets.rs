//! The packet path of a shard: from any source of packets to any destination.

use nm_engine::{LinkId, Packet};
use nm_kernel::poll::Interest;

use super::node::{Path, Pressure};
use super::timers::Timer;
use super::{Shard, Token, Work, NO_SLOT, RING_PER_TURN, SESSION_PACKETS_PER_TURN};
use crate::runtime::mailbox::{EndAddress, NodeKey};
use crate::runtime::shared::{Handover, RING_HIGH_BYTES};
use crate::runtime::tun::TunRead;

/// Packets read from one device before other sources are handled …
const TUN_PACKETS_PER_TURN: usize = 64;
/// … and bytes: four super-packets, which with their copies still fit a second-level cache of 1 MB.
const TUN_BYTES_PER_TURN: usize = 256 << 10;
/// How long local sources wait for a link that sends nothing before they resume and lose packets instead, so that one
/// dead neighbour does not stop a node's traffic to all others.
const PAUSE_LIMIT_NS: u64 = 20_000_000;

impl Shard {
    /// Reads a batch from a node's device and runs each packet to completion.
    pub(super) fn read_tun(&mut self, slot: u32, queue: u32) {
        self.source = Some(slot);
        let mut bytes = 0;
        for _ in 0..TUN_PACKETS_PER_TURN {
            let Some(node) = self.nodes.at(slot) else {
                break;
            };
            let Some(tun) = &node.tun else { break };
            self.running = slot;
            let packet = match tun.read(queue as usize, &mut self.io.pool) {
                TunRead::Packet(packet) => packet,
                TunRead::Empty => break,
                TunRead::Lost(error) => {
                    self.lose_device(slot, &error.to_string());
                    break;
                }
            };
            self.mailbox.counters.tun_reads.add(1);
            bytes += packet.len();
            node.engine
                .handle_tun(nm_engine::Instant(self.now), packet, &mut self.io);
            self.after_call(slot);
            if bytes >= TUN_BYTES_PER_TURN
                || self.nodes.at(slot).is_none_or(|node| node.paused.is_some())
            {
                break;
            }
            self.now = nm_kernel::thread::monotonic_ns();
        }
        // Settled by node and not by packet: a node's state is then fetched once per batch into the caches that each
        // packet's copy has evicted.
        self.run_work();
        self.settle();
        self.source = None;
    }

    /// Lets sessions send, one super-packet each in round-robin order.
    pub(super) fn run_sessions(&mut self) {
        for _ in 0..SESSION_PACKETS_PER_TURN {
            let Some(slot) = self.busy.pop_front() else {
                return;
            };
            let Some(node) = self.nodes.at(slot) else {
                continue;
            };
            if node.paused.is_some() {
                // It stays marked; the end of the pause puts it back into the list.
                continue;
            }
            self.running = slot;
            let more = node.poll_transmit(nm_engine::Instant(self.now), &mut self.io);
            node.busy = more;
            self.source = Some(slot);
            self.carry_out(slot);
            self.run_work();
            self.arm(slot);
            if more {
                self.busy.push_back(slot);
            }
            self.settle();
            self.source = None;
            self.now = nm_kernel::thread::monotonic_ns();
        }
    }

    /// Takes a batch of packets that other shards handed over.
    pub(super) fn take_from_ring(&mut self) {
        for _ in 0..RING_PER_TURN {
            let Some(Handover { key, link, packet }) = self.mailbox.take_packet() else {
                break;
            };
            self.running = key.slot;
            match self.nodes.get(key) {
                Some(node) => node.engine.handle_link(
                    nm_engine::Instant(self.now),
                    link,
                    packet,
                    &mut self.io,
                ),
                None => {
                    self.io.pool.put(packet);
                    continue;
                }
            }
            self.after_call(key.slot);
            self.run_work();
        }
        self.mailbox.after_batch(&self.shared.mailboxes);
        self.settle();
    }

    /// Runs every packet between nodes of this shard to completion.
    pub(super) fn run_work(&mut self) {
        while let Some(Work { slot, link, packet }) = self.work.pop_front() {
            let Some(node) = self.nodes.at(slot) else {
                self.io.pool.put(packet);
                continue;
            };
            self.running = slot;
            node.engine
                .handle_link(nm_engine::Instant(self.now), link, packet, &mut self.io);
            self.after_call(slot);
        }
    }

    /// To be called after every call into a node's engine: carries out its effects and marks the node to be settled.
    pub(super) fn after_call(&mut self, slot: u32) {
        let Some(node) = self.nodes.at(slot) else {
            return;
        };
        if !node.touched {
            node.touched = true;
            self.touched.push(slot);
        }
        self.carry_out(slot);
        self.running = NO_SLOT;
    }

    /// Carries out the effects of one engine.
    fn carry_out(&mut self, slot: u32) {
        if self.io.is_empty() {
            return;
        }
        if !self.io.tapped.is_empty() {
            self.record(slot);
        }
        let mut transmits = std::mem::take(&mut self.io.transmits);
        for (link, packet) in transmits.drain(..) {
            self.transmit(slot, link, packet);
        }
        self.io.transmits = transmits;
        if !self.io.endpoint.is_empty() {
            self.pass_to_endpoint(slot);
        }
        let Some(node) = self.nodes.at(slot) else {
            return;
        };
        for packet in self.io.tun.drain(..) {
            match &mut node.tun {
                Some(tun) => {
                    let keeps = tun.write(
                        packet,
                        &mut self.writes,
                        &mut self.io.pool,
                        &self.mailbox.counters,
                    );
                    if keeps && !node.keeps {
                        node.keeps = true;
                        self.keeping.push(slot);
                    }
                }
                None => self.io.pool.put(packet),
            }
        }
        for delivery in self.io.deliveries.drain(..) {
            let receiver = delivery.receiver;
            if !node.sink.deliver(delivery) {
                node.engine.delivery_refused(receiver);
            }
        }
        for event in self.io.events.drain(..) {
            node.note(&event);
            node.sink.event(event);
        }
    }

    /// Hands records of packets to the captures of a node.
    #[cold]
    fn record(&mut self, slot: u32) {
        let taps = self.nodes.at(slot).map_or(&[][..], |node| &node.taps);
        for tapped in self.io.tapped.drain(..) {
            for tap in taps {
                tap.record(&tapped);
            }
            self.io.pool.put(tapped.packet);
        }
    }

    /// Sends one packet over its link.
    fn transmit(&mut self, slot: u32, link: LinkId, packet: Packet) {
        let Some(node) = self.nodes.at(slot) else {
            return self.io.pool.put(packet);
        };
        let Some(end) = node.links.get_mut(link as usize).and_then(Option::as_mut) else {
            return self.io.pool.put(packet);
        };
        match &mut end.path {
            Path::Here { slot, link } => self.work.push_back(Work {
                slot: *slot,
                link: *link,
                packet,
            }),
            Path::Shard(peer) => {
                let peer = *peer;
                self.hand_over(peer, packet);
            }
            Path::Stream(stream) => {
                stream.push(packet, &mut self.io.pool);
                if !end.congested && stream.is_full() {
                    end.congested = true;
                    self.mailbox.counters.stream_full.add(1);
                    node.engine.set_link_congested(link, true);
                }
                if !end.dirty {
                    end.dirty = true;
                    self.dirty.push((slot, link));
                }
            }
            Path::Idle | Path::Connecting(_) | Path::Handshake(..) => self.io.pool.put(packet),
        }
    }

    fn hand_over(&mut self, peer: EndAddress, packet: Packet) {
        let mailbox = &self.shared.mailboxes[peer.shard];
        match mailbox.hand_over(Handover {
            key: peer.key,
            link: peer.link,
            packet,
        }) {
            Ok(()) => self.mailbox.counters.handed_over.add(1),
            Err(packet) => {
                self.mailbox.counters.ring_full.add(1);
                self.io.pool.put(packet);
            }
        }
        let full = mailbox.ring_bytes() > RING_HIGH_BYTES && !self.stalled_rings[peer.shard];
        if full && self.source.is_some() && mailbox.notify_when_drained(self.index) {
            self.pause_source(Pressure::Ring { shard: peer.shard });
        }
    }

    /// Updates every node that was called since the last time: its device, its next deadline, its sessions, its
    /// sockets.
    pub(super) fn settle(&mut self) {
        while let Some(slot) = self.keeping.pop() {
            let Some(node) = self.nodes.at(slot) else {
                continue;
            };
            node.keeps = false;
            self.running = slot;
            if let Some(tun) = &mut node.tun {
                tun.flush(&mut self.writes, &mut self.io.pool, &self.mailbox.counters);
            }
        }
        // These packets belong to several nodes.
        self.running = NO_SLOT;
        self.writes.flush(&mut self.io.pool, &self.mailbox.counters);
        let now = self.instant();
        while let Some(slot) = self.touched.pop() {
            let Some(node) = self.nodes.at(slot) else {
                continue;
            };
            node.touched = false;
            self.running = slot;
            node.report_flows(now);
            if !node.busy && node.may_transmit() {
                node.busy = true;
                self.busy.push_back(slot);
            }
            self.arm(slot);
        }
        self.running = NO_SLOT;
        self.flush_dirty();
    }

    /// Makes sure that the node's next deadline is in the heap.
    fn arm(&mut self, slot: u32) {
        let Some(node) = self.nodes.at(slot) else {
            return;
        };
        if let Some(deadline) = node.poll_deadline() {
            if node.armed.last().is_none_or(|&armed| deadline.0 < armed) {
                node.armed.push(deadline.0);
                self.timers.add(deadline.0, Timer::Node(node.key));
            }
        }
    }

    pub(super) fn serve_node_deadline(&mut self, key: NodeKey, at: u64) {
        let now = self.instant();
        let Some(node) = self.nodes.get(key) else {
            return;
        };
        if node.armed.last() != Some(&at) {
            return;
        }
        node.armed.pop();
        match node.poll_deadline() {
            Some(deadline) if deadline <= now => {
                let late = now.nanos_since(deadline);
                self.running = key.slot;
                node.handle_timeout(now, &mut self.io);
                let counters = &self.mailbox.counters;
                counters.timeouts.add(1);
                counters.late_ns.add(late);
                counters
                    .late_max_ns
                    .set(counters.late_max_ns.get().max(late));
                self.after_call(key.slot);
                self.run_work();
            }
            _ => self.arm(key.slot),
        }
    }

    /// Pauses the node that the current work came from until a full link has room.
    pub(super) fn pause_source(&mut self, pressure: Pressure) {
        let Some(slot) = self.source else { return };
        let Some(node) = self.nodes.at(slot).filter(|node| node.paused.is_none()) else {
            return;
        };
        let until = self.now + PAUSE_LIMIT_NS;
        node.paused = Some((pressure, until));
        let key = node.key;
        if let Some(waiters) = self.waiters_of(pressure) {
            waiters.push(key);
        }
        self.watch_devices(slot, Interest::NONE);
        self.mailbox.counters.pauses.add(1);
        self.timers.add(until, Timer::Pause(key));
    }

    /// The nodes that wait for a queue; `None` when the queue was removed.
    fn waiters_of(&mut self, pressure: Pressure) -> Option<&mut Vec<NodeKey>> {
        match pressure {
            Pressure::Ring { shard } => self.ring_waiters.get_mut(shard),
            Pressure::Stream { slot, link } => Some(&mut self.nodes.at(slot)?.end(link)?.waiters),
        }
    }

    /// Resumes the nodes that wait for this queue, and no others.
    pub(super) fn resume(&mut self, pressure: Pressure) {
        let Some(waiters) = self.waiters_of(pressure) else {
            return;
        };
        let mut resumed = std::mem::take(waiters);
        self.resume_nodes(pressure, &mut resumed);
        if let Some(waiters) = self.waiters_of(pressure).filter(|list| list.is_empty()) {
            // The list's memory is reused.
            *waiters = resumed;
        }
    }

    /// The same for a queue that was removed.
    pub(super) fn resume_nodes(&mut self, pressure: Pressure, waiters: &mut Vec<NodeKey>) {
        for key in waiters.drain(..) {
            let Some(node) = self.nodes.get(key) else {
                continue;
            };
            if node.paused.is_none_or(|(reason, _)| reason != pressure) {
                continue;
            }
            node.paused = None;
            if node.busy {
                self.busy.push_back(key.slot);
            }
            self.watch_devices(key.slot, Interest::READ);
        }
    }

    /// Rings of other shards that were full have room again.
    pub(super) fn rings_have_room(&mut self) {
        for shard in 0..self.ring_waiters.len() {
            if self.mailbox.take_resumed_by(shard) {
                self.stalled_rings[shard] = false;
                self.resume(Pressure::Ring { shard });
            }
        }
    }

    /// A waiting node is about to be removed: deletes its key from the lists of waiters.
    pub(super) fn remove_waiter(&mut self, key: NodeKey) {
        let pause = self.nodes.get(key).and_then(|node| node.paused.take());
        if let Some(waiters) = pause.and_then(|(pressure, _)| self.waiters_of(pressure)) {
            waiters.retain(|waiter| *waiter != key);
        }
    }

    /// A node has waited until its time limit: its queue is no reason to wait until it sends again.
    pub(super) fn end_pause(&mut self, key: NodeKey, at: u64) {
        let pause = self.nodes.get(key).and_then(|node| node.paused);
        // Another pause may have begun since.
        let Some((pressure, _)) = pause.filter(|&(_, until)| until == at) else {
            return;
        };
        match pressure {
            Pressure::Ring { shard } => self.stalled_rings[shard] = true,
            Pressure::Stream { slot, link } => {
                if let Some(end) = self.nodes.at(slot).and_then(|node| node.end(link)) {
                    end.stalled = true;
                }
            }
        }
        self.resume(pressure);
    }

    pub(super) fn watch_devices(&mut self, slot: u32, interest: Interest) {
        let Some(tun) = self.nodes.at(slot).and_then(|node| node.tun.as_ref()) else {
            return;
        };
        for (queue, fd) in tun.queues().enumerate() {
            let token = Token::Tun {
                slot,
                queue: queue as u32,
            };
            // The only failure is a descriptor that is not in the set, which then needs no change either.
            let _ = self.epoll.modify(fd, token.encode(), interest);
        }
    }

    /// The device was removed by another process, for instance with its namespace.
    fn lose_device(&mut self, slot: u32, reason: &str) {
        let Some(node) = self.nodes.at(slot) else {
            return;
        };
        node.tun = None;
        self.running = slot;
        node.sink.device_lost(reason);
    }
}
