//! The fast cutter against a slow, obvious one that works on whole byte vectors.

use proptest::prelude::*;

use super::*;
use crate::vnet::{F_NEEDS_CSUM, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_UDP_L4};

/// A super-packet as an application's kernel would hand it over.
#[derive(Debug, Clone)]
struct Super {
    tcp: bool,
    ip_options: usize,
    tcp_options: usize,
    id: u16,
    seq: u32,
    flags: u8,
    payload: Vec<u8>,
    gso: u16,
    ecn: bool,
    src: u32,
    dst: u32,
}

impl Super {
    fn ihl(&self) -> usize {
        20 + 4 * self.ip_options
    }

    fn header(&self) -> usize {
        self.ihl() + if self.tcp { 20 + 4 * self.tcp_options } else { 8 }
    }

    /// The bytes of a packet with this payload and these per-segment fields, with a whole checksum or with the
    /// pseudo-header's sum only.
    fn bytes(&self, payload: &[u8], id: u16, seq: u32, flags: u8, whole: bool) -> Vec<u8> {
        let ihl = self.ihl();
        let mut b = vec![1u8; self.header()];
        b.extend_from_slice(payload);
        let len = b.len();
        b[0] = 0x40 | (ihl / 4) as u8;
        b[1] = 0;
        b[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        b[4..6].copy_from_slice(&id.to_be_bytes());
        b[6..8].copy_from_slice(&[0x40, 0]);
        b[8] = 64;
        b[9] = if self.tcp { 6 } else { 17 };
        b[10..12].fill(0);
        b[12..16].copy_from_slice(&self.src.to_be_bytes());
        b[16..20].copy_from_slice(&self.dst.to_be_bytes());
        let sum = slow_checksum(&b[..ihl]);
        b[10..12].copy_from_slice(&sum.to_be_bytes());
        let t = ihl;
        b[t..t + 4].copy_from_slice(&[0x9c, 0x40, 0xc3, 0x50]);
        let at = if self.tcp {
            b[t + 4..t + 8].copy_from_slice(&seq.to_be_bytes());
            b[t + 12] = (((20 + 4 * self.tcp_options) / 4) as u8) << 4;
            b[t + 13] = flags;
            t + 16
        } else {
            b[t + 4..t + 6].copy_from_slice(&((len - t) as u16).to_be_bytes());
            t + 6
        };
        b[at..at + 2].fill(0);
        let mut region = Vec::new();
        region.extend_from_slice(&self.src.to_be_bytes());
        region.extend_from_slice(&self.dst.to_be_bytes());
        region.extend_from_slice(&[0, if self.tcp { 6 } else { 17 }]);
        region.extend_from_slice(&((len - t) as u16).to_be_bytes());
        let value = if whole {
            region.extend_from_slice(&b[t..]);
            match slow_checksum(&region) {
                0 if !self.tcp => 0xffff,
                value => value,
            }
        } else {
            !slow_checksum(&region)
        };
        b[at..at + 2].copy_from_slice(&value.to_be_bytes());
        b
    }

    fn vnet(&self) -> VnetHeader {
        VnetHeader {
            flags: F_NEEDS_CSUM,
            gso_type: if self.tcp { GSO_TCPV4 | if self.ecn { GSO_ECN } else { 0 } } else { GSO_UDP_L4 },
            hdr_len: self.header() as u16,
            gso_size: self.gso,
            csum_start: self.ihl() as u16,
            csum_offset: if self.tcp { 16 } else { 6 },
        }
    }

    fn packet(&self, pool: &mut Pool) -> Packet {
        let mut packet = pool.get();
        let bytes = self.bytes(&self.payload, self.id, self.seq, self.flags, false);
        packet.fill(&bytes, self.vnet()).expect("a fresh buffer");
        packet.parse(1500).expect("a good packet");
        packet
    }

    /// The segments `first..first+count` as one packet, the slow way.
    fn expected(&self, first: usize, count: usize, whole: bool) -> Vec<u8> {
        let gso = usize::from(self.gso);
        let end = self.payload.len().min((first + count) * gso);
        let mut flags = self.flags;
        if end < self.payload.len() {
            flags &= !0x09;
        }
        if first > 0 {
            flags &= !0x80;
        }
        let seq = self.seq.wrapping_add((first * gso) as u32);
        self.bytes(&self.payload[first * gso..end], self.id.wrapping_add(first as u16), seq, flags, whole)
    }
}

fn slow_checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u64;
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn supers() -> impl Strategy<Value = Super> {
    let shape = (any::<bool>(), 0usize..=10, 0usize..=10, any::<u16>(), any::<u32>(), any::<u8>());
    let load = (
        proptest::collection::vec(any::<u8>(), 1..9000),
        1u16..1600,
        any::<bool>(),
        any::<u32>(),
        any::<u32>(),
    );
    (shape, load).prop_map(
        |((tcp, ip_options, tcp_options, id, seq, flags), (payload, gso, ecn, src, dst))| Super {
            tcp,
            ip_options,
            tcp_options,
            id,
            seq,
            flags,
            payload,
            gso,
            ecn,
            src,
            dst,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_segment_equals_the_slow_reference(sup in supers()) {
        let mut pool = Pool::standalone();
        let packet = sup.packet(&mut pool);
        let count = sup.payload.len().div_ceil(usize::from(sup.gso));
        prop_assert_eq!(packet.segments() as usize, count);
        prop_assert_eq!(packet.wire_bytes() as usize, sup.payload.len() + count * sup.header());
        let mut out = Vec::new();
        segment(packet, &mut pool, &mut out);
        prop_assert_eq!(out.len(), count);
        for (index, piece) in out.iter().enumerate() {
            prop_assert_eq!(piece.bytes(), &sup.expected(index, 1, true)[..]);
            prop_assert_eq!(piece.vnet(), VnetHeader::default());
        }
    }

    #[test]
    fn a_run_equals_the_slow_reference_and_its_segments_too(sup in supers(), a in 0usize..100, b in 1usize..100) {
        let mut pool = Pool::standalone();
        let packet = sup.packet(&mut pool);
        let total = packet.segments() as usize;
        let first = a % total;
        let count = 1 + b % (total - first);
        let run = cut(&packet, first as u32, count as u32, &mut pool);
        prop_assert_eq!(run.bytes(), &sup.expected(first, count, false)[..]);
        prop_assert_eq!(run.segments() as usize, count);
        prop_assert_eq!(run.vnet().kind() == GSO_NONE, count == 1);
        let mut out = Vec::new();
        segment(run, &mut pool, &mut out);
        for (index, piece) in out.iter().enumerate() {
            prop_assert_eq!(piece.bytes(), &sup.expected(first + index, 1, true)[..]);
        }
    }

    #[test]
    fn the_fast_sum_equals_the_slow_sum(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
        prop_assert_eq!(checksum::of(&bytes), slow_checksum(&bytes));
    }
}
