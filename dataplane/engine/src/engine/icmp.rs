//! ICMP errors that a router sends to the source (RFC 792, RFC 1812 section 4.3).

use std::net::Ipv4Addr;

use crate::wire::{checksum, ip};
use crate::{Instant, Packet, Pool, VnetHeader, HEADROOM, MAX_IP_HEADER};

/// The ICMP error about a packet that was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IcmpError {
    /// Type 3, code 0: network unreachable.
    NetUnreachable,
    /// Type 3, code 4: fragmentation needed, with the MTU of the next link in bytes (RFC 1191).
    FragmentationNeeded(u16),
    /// Type 11, code 0: time to live exceeded in transit.
    TimeExceeded,
}

impl IcmpError {
    const fn kind(self) -> (u8, u8) {
        match self {
            Self::NetUnreachable => (3, 0),
            Self::FragmentationNeeded(_) => (3, 4),
            Self::TimeExceeded => (11, 0),
        }
    }
}

/// Bytes of the dropped packet that are quoted behind its IP header (RFC 792).
const QUOTE: usize = 8;
/// Rate limit: nanoseconds per ICMP error, and the burst. RFC 1812, section 4.3.2.8, requires a limit; this one
/// permits a traceroute of all pairs.
const INTERVAL_NS: u64 = 200_000;
const BURST_NS: u64 = 256 * INTERVAL_NS;

/// Builds ICMP errors within the rate limit.
#[derive(Debug, Default)]
pub(crate) struct Icmp {
    /// The instant up to which the rate limit is used (a token bucket as virtual time).
    used_until: Instant,
}

impl Icmp {
    /// The ICMP error about `packet`, from address `from` to its source; `None` where none may be sent.
    pub(crate) fn error_about(
        &mut self,
        now: Instant,
        from: Ipv4Addr,
        packet: &Packet,
        error: IcmpError,
        pool: &mut Pool,
    ) -> Option<Packet> {
        if !may_send_error(packet) || !self.allow(now) {
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
        (icmp[0], icmp[1]) = error.kind();
        if let IcmpError::FragmentationNeeded(mtu) = error {
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

/// No ICMP error is sent about ICMP errors, fragments other than the first, or packets that were not sent from one
/// host to one host (RFC 1122, section 3.2.2).
fn may_send_error(packet: &Packet) -> bool {
    let meta = packet.meta();
    let offset = u16::from_be_bytes([packet.bytes()[6], packet.bytes()[7]]) & 0x1fff;
    let (src, dst) = (Ipv4Addr::from(meta.src), Ipv4Addr::from(meta.dst));
    let one_host = |addr: Ipv4Addr| !addr.is_multicast() && !addr.is_broadcast() && !addr.is_unspecified();
    let error = meta.protocol == ip::ICMP
        && packet.bytes().get(usize::from(meta.ihl)).is_none_or(|&kind| {
            // Echo, timestamp, information and address mask messages are no errors.
            !matches!(kind, 0 | 8 | 13..=18)
        });
    offset == 0 && one_host(src) && one_host(dst) && !error
}
