//! What probes need of a link: its limits, and a way past its impairments.

use super::{Links, Sent};
use crate::stats::DropCause;
use crate::{Instant, Io, LinkId, NodeId, Packet};

/// The properties of a link that the packets of a probe depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkTerms {
    pub remote: NodeId,
    /// The MTU that the link sets, in bytes, if it is smaller than that of the nodes.
    pub mtu: Option<u16>,
    /// The rate of this direction in bits per second, if it is limited.
    pub rate_bps: Option<u64>,
}

impl Links {
    /// The properties of a link that was added.
    pub(crate) fn terms(&self, id: LinkId) -> Option<LinkTerms> {
        let link = self.slots.get(id as usize).filter(|link| link.known)?;
        let rate_bps = link.spec.nominal_rate_bps();
        Some(LinkTerms { remote: link.remote, mtu: link.spec.mtu, rate_bps })
    }

    /// Why packets cannot be sent on a link now, with its impairments or below them.
    pub(crate) fn refusal(&self, id: LinkId, below: bool) -> Option<DropCause> {
        let Some(link) = self.slots.get(id as usize) else {
            return Some(DropCause::LinkDown);
        };
        match link.blocked() {
            Some(DropCause::LinkDown) if below && link.known && link.up => {
                link.congested.then_some(DropCause::Congested)
            }
            other => other,
        }
    }

    /// Sends a packet on the transport of a link, past its impairments, also when the link is set to be down.
    fn send_below(&self, id: LinkId, packet: Packet, io: &mut Io) {
        if self.refusal(id, true).is_some() {
            io.pool.put(packet);
        } else {
            io.transmits.push((id, packet));
        }
    }

    /// Sends a packet of a probe, through the impairments of the link or below them.
    pub(crate) fn send_probe(&mut self, now: Instant, id: LinkId, packet: Packet, below: bool, io: &mut Io) {
        if below {
            self.send_below(id, packet, io);
        } else if let Sent::TooLong(packet, _) = self.send(now, id, packet, io) {
            io.pool.put(packet);
        }
    }
}
