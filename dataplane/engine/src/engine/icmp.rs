//! ICMP errors that a router sends to the source (RFC 792, RFC 1812 section 4.3; RFC 4443 for IPv6).

use std::net::Ipv4Addr;

use crate::wire::{checksum, ip, ip6};
use crate::{AddressPlan, Instant, NodeId, Packet, Pool, VnetHeader, HEADROOM, MAX_IP_HEADER};

/// The ICMP error about a packet that was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IcmpError {
    /// Type 3, code 0: network unreachable. In IPv6 type 1, code 0: no route to destination.
    NetUnreachable,
    /// Type 3, code 4: fragmentation needed, with the MTU of the next link in bytes (RFC 1191). In IPv6 type 2: packet
    /// too big (RFC 8201).
    PacketTooBig(u16),
    /// Type 11, code 0: time to live exceeded in transit. In IPv6 type 3, code 0: hop limit exceeded in transit.
    TimeExceeded,
}

impl IcmpError {
    const fn kind(self) -> (u8, u8) {
        match self {
            Self::NetUnreachable => (3, 0),
            Self::PacketTooBig(_) => (3, 4),
            Self::TimeExceeded => (11, 0),
        }
    }

    const fn kind6(self) -> (u8, u8) {
        match self {
            Self::NetUnreachable => (1, 0),
            Self::PacketTooBig(_) => (2, 0),
            Self::TimeExceeded => (3, 0),
        }
    }

    /// The last four bytes of the message's header.
    const fn word(self) -> [u8; 4] {
        match self {
            Self::PacketTooBig(mtu) => (mtu as u32).to_be_bytes(),
            _ => [0; 4],
        }
    }
}

/// Bytes of the dropped packet that are quoted behind its IP header (RFC 792).
const QUOTE: usize = 8;
/// Bytes of the dropped packet that are quoted in IPv6: as many as fit into the least MTU (RFC 4443, section 2.4).
const QUOTE6: usize = ip6::MIN_MTU as usize - ip6::HEADER - ICMP_HEADER;
/// Bytes of the header of an error, in both versions.
const ICMP_HEADER: usize = 8;
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
    /// The ICMP error about `packet`, from node `from` to the packet's source; `None` where none may be sent.
    ///
    /// An IPv4 error for this node's own kernel (`local`) comes from the destination of the packet instead, because
    /// kernels take no IPv4 packet from an address of their own.
    pub(crate) fn error_about(
        &mut self,
        now: Instant,
        (addresses, from, local): (&AddressPlan, NodeId, bool),
        packet: &Packet,
        error: IcmpError,
        pool: &mut Pool,
    ) -> Option<Packet> {
        if !may_send_error(packet) || !self.allow(now) {
            return None;
        }
        let meta = packet.meta();
        if meta.v6 {
            return error_about6(addresses.node_addr6(from)?.to_bits(), packet, error, pool);
        }
        let from = if local { meta.dst } else { u32::from(addresses.node_addr(from)) };
        let ihl = usize::from(meta.ihl);
        build(packet, ihl + QUOTE, error.kind(), error.word(), ip::HEADER, pool, |out| {
            let len = out.len() as u16;
            ip::emit(out, from, meta.src, ip::ICMP, len);
            0
        })
    }

    fn allow(&mut self, now: Instant) -> bool {
        if self.used_until.nanos() > now.nanos().saturating_add(BURST_NS) {
            return false;
        }
        self.used_until = self.used_until.max(now).plus_nanos(INTERVAL_NS);
        true
    }
}

fn error_about6(from: u128, packet: &Packet, error: IcmpError, pool: &mut Pool) -> Option<Packet> {
    let to = ip6::source(packet.bytes());
    build(packet, QUOTE6, error.kind6(), error.word(), ip6::HEADER, pool, |out| {
        let len = (out.len() - ip6::HEADER) as u16;
        ip6::emit(out, from, to, ip6::ICMP, len);
        checksum::pseudo_header_of(out, ip6::ICMP, len)
    })
}

/// Builds an error that quotes at most `quote` bytes of a packet, behind an IP header of `header` bytes. `emit` writes
/// that header and returns the sum with which the checksum of the message begins.
fn build(
    packet: &Packet,
    quote: usize,
    kind: (u8, u8),
    word: [u8; 4],
    header: usize,
    pool: &mut Pool,
    emit: impl FnOnce(&mut [u8]) -> u32,
) -> Option<Packet> {
    let mut head = [0; MAX_IP_HEADER];
    let patched = packet.patched_ip_header(&mut head);
    let rest = &packet.bytes()[patched..packet.len().min(quote)];
    let len = header + ICMP_HEADER + patched + rest.len();
    let mut answer = pool.get_for(len);
    let out = &mut answer.storage_mut()?[HEADROOM..HEADROOM + len];
    let start = emit(out);
    let icmp = &mut out[header..];
    icmp[..4].copy_from_slice(&[kind.0, kind.1, 0, 0]);
    icmp[4..ICMP_HEADER].copy_from_slice(&word);
    icmp[ICMP_HEADER..ICMP_HEADER + patched].copy_from_slice(&head[..patched]);
    icmp[ICMP_HEADER + patched..].copy_from_slice(rest);
    let sum = checksum::finish(checksum::sum(icmp, start));
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    answer.set_frame(HEADROOM, len, VnetHeader::default());
    Some(answer)
}

/// No ICMP error is sent about ICMP errors, IPv4 fragments other than the first, or packets that were not sent from
/// one host to one host (RFC 1122, section 3.2.2; RFC 4443, section 2.4).
fn may_send_error(packet: &Packet) -> bool {
    let (meta, bytes) = (packet.meta(), packet.bytes());
    let kind = bytes.get(usize::from(meta.ihl));
    if meta.v6 {
        // Types from 128 on are informational. A fragment may be one of an error, of which only the first would tell.
        let error = meta.protocol == ip6::ICMP && (meta.fragment || kind.is_none_or(|&kind| kind < 128));
        let (src, dst) = (ip6::source(bytes), ip6::destination(bytes));
        return src != 0 && !ip6::is_multicast(src) && !ip6::is_multicast(dst) && !error;
    }
    let offset = u16::from_be_bytes([bytes[6], bytes[7]]) & 0x1fff;
    let (src, dst) = (Ipv4Addr::from(meta.src), Ipv4Addr::from(meta.dst));
    let one_host = |addr: Ipv4Addr| !addr.is_multicast() && !addr.is_broadcast() && !addr.is_unspecified();
    let error = meta.protocol == ip::ICMP
        && kind.is_none_or(|&kind| {
            // Echo, timestamp, information and address mask messages are no errors.
            !matches!(kind, 0 | 8 | 13..=18)
        });
    offset == 0 && one_host(src) && one_host(dst) && !error
}
