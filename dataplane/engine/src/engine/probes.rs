//! Probe links: the command, and the packets of neighbours.

use super::forward::{accept_datagram, Origin};
use super::Engine;
use crate::probe::OwnAddress;
use crate::{CommandError, CommandOutput, Instant, Io, NodeId, Packet, ProbeOrder};

/// The most bytes of a probe, a second of the fastest link; the same in the controller.
const MOST_BYTES: u64 = 4 << 30;

/// The most time of a probe; the same in the controller.
const MOST_NANOS: u64 = 60 * NANOS_PER_S;

const NANOS_PER_S: u64 = 1_000_000_000;

impl Engine {
    pub(super) fn probe_link(
        &mut self,
        now: Instant,
        remote: NodeId,
        order: ProbeOrder,
        io: &mut Io,
    ) -> Result<CommandOutput, CommandError> {
        let link = self.links.find(remote).ok_or(CommandError::UnknownLink(remote))?;
        if order.nanos == 0 || order.bytes == 0 {
            return Err(CommandError::Invalid("a probe without bytes or time measures nothing".to_owned()));
        }
        if order.bytes > MOST_BYTES || order.nanos > MOST_NANOS {
            let ProbeOrder { bytes, nanos, .. } = order;
            return Err(CommandError::Invalid(format!(
                "a probe of {bytes} bytes and {} s is larger than {MOST_BYTES} bytes or {} s",
                nanos / NANOS_PER_S,
                MOST_NANOS / NANOS_PER_S,
            )));
        }
        if self.paused {
            return Err(CommandError::Invalid("the node is paused".to_owned()));
        }
        let own = OwnAddress { ends: self.ends(remote), mtu: self.config.mtu };
        self.probes.start(now, link, order, own, &mut self.links, io)?;
        Ok(CommandOutput::Done)
    }

    /// Handles a packet on the port of probes; returns one that no neighbour sent for a probe.
    pub(super) fn take_probe(
        &mut self,
        now: Instant,
        mut packet: Packet,
        origin: Origin,
        io: &mut Io,
    ) -> Option<Packet> {
        let Origin::Link(link) = origin else {
            return Some(packet);
        };
        let ends = self.links.terms(link).map(|terms| self.ends(terms.remote));
        let Some(ends) = ends.filter(|&ends| (packet.meta().dst, packet.meta().src) == ends) else {
            return Some(packet);
        };
        if let Err(cause) = accept_datagram(&mut packet) {
            self.drop_packet(now, packet, origin, cause, io);
            return None;
        }
        self.tap_received(now, &packet, io);
        self.probes.handle_packet(now, link, packet, ends, &mut self.links, io)
    }

    /// The addresses of this node and a neighbour.
    fn ends(&self, remote: NodeId) -> (u32, u32) {
        let addresses = &self.config.addresses;
        let addr = |node| u32::from(addresses.node_addr(node));
        (addr(self.config.node_id), addr(remote))
    }
}
