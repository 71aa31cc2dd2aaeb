//! ICMP errors that a router sends to the source (RFC 792, RFC 1812 section 4.3).

use std::net::Ipv4Addr;

use crate::wire::{checksum, ip};
use crate::{Instant, Packet, Pool, VnetHeader, HEADROOM, MAX_IP_HEADER};

/// What to tell the sender of a packet that did not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// Type 3 code 0.
    NetUnreachable,
    /// Type 3 code 4 with the MTU that would fit (RFC 1191).
    FragmentationNeeded(u16),
    /// Type 11 code 0.
    TimeExceeded,
}

impl Complaint {
    const fn kind(self) -> (u8, u8) {
        match self {
            Self::NetUnreachable => (3, 0),
            Self::FragmentationNeeded(_) => (3, 4),
            Self::TimeExceeded => (11, 0),
        }
    }
}

/// Bytes of the offender quoted behind its IP header (RFC 792).
const QUOTE: usize = 8;
/// Nanoseconds per complaint in the long run, and how many may come at once: RFC 1812, section 4.3.2.8 asks for a
/// limit; this one leaves room for a traceroute of all pairs.
const INTERVAL_NS: u64 = 200_000;
const BURST_NS: u64 = 256 * INTERVAL_NS;

/// Writes complaints, as many as the limit allows.
#[derive(Debug, Default)]
pub(crate) struct Icmp {
    /// The instant up to which the allowance is used.
    used_until: Instant,
}

impl Icmp {
    /// The complaint about `packet`, from `from` to its source; `None` where none may be sent.
    pub(crate) fn complain(
        &mut self,
        now: Instant,
        from: Ipv4Addr,
        packet: &Packet,
        complaint: Complaint,
        pool: &mut Pool,
    ) -> Option<Packet> {
        if !deserves_answer(packet) || !self.allow(now) {
            return None;
        }
        let mut head = [0; MAX_IP_HEADER];
        let ihl = packet.patched_ip_header(&mut head);
        let quoted = &packet.bytes()[ihl..packet.len().min(ihl + QUOTE)];
        let len = ip::HEADER + 8 + ihl + quoted.len();
        let mut answer = pool.get_for(len);
        let out = &mut answer.storage_mut()?[HEADROOM..HEADROOM + len];
        ip::emit(out, u32::from(from), packet.meta().src, ip::ICMP, len as u16);
        let icmp = &mut out[ip::HEADER..];
        icmp[..8].fill(0);
        (icmp[0], icmp[1]) = complaint.kind();
        if let Complaint::FragmentationNeeded(mtu) = complaint {
            icmp[6..8].copy_from_slice(&mtu.to_be_bytes());
        }
        icmp[8..8 + ihl].copy_from_slice(&head[..ihl]);
        icmp[8 + ihl..].copy_from_slice(quoted);
        let sum = checksum::of(icmp);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        answer.set_frame(HEADROOM, len, VnetHeader::default());
        Some(answer)
    }

    fn allow(&mut self, now: Instant) -> bool {
        if self.used_until.nanos() > now.nanos().saturating_add(BURST_NS) {
            return false;
        }
        self.used_until = self.used_until.max(now).plus_nanos(INTERVAL_NS);
        true
    }
}

/// No answers to ICMP errors, to later fragments, or to anything that was not sent from one host to one host
/// (RFC 1122, section 3.2.2).
fn deserves_answer(packet: &Packet) -> bool {
    let meta = packet.meta();
    let offset = u16::from_be_bytes([packet.bytes()[6], packet.bytes()[7]]) & 0x1fff;
    let (src, dst) = (Ipv4Addr::from(meta.src), Ipv4Addr::from(meta.dst));
    let one_host = |addr: Ipv4Addr| !addr.is_multicast() && !addr.is_broadcast() && !addr.is_unspecified();
    let error = meta.protocol == ip::ICMP
        && packet.bytes().get(usize::from(meta.ihl)).is_none_or(|&kind| {
            // Echo, timestamp, information and address mask messages are the ones that are no errors.
            !matches!(kind, 0 | 8 | 13..=18)
        });
    offset == 0 && one_host(src) && one_host(dst) && !error
}
