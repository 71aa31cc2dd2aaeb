//! Test segmentation and joining against a simple reference model that works on byte vectors.

use proptest::prelude::*;

use super::*;
use crate::vnet::{F_NEEDS_CSUM, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4};

/// A super-packet as the kernel of an application sends it.
#[derive(Debug, Clone)]
struct Super {
    v6: bool,
    tcp: bool,
    /// Words of IPv4 options, or units of 8 bytes of IPv6 destination options.
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
        if self.v6 {
            40 + 8 * self.ip_options
        } else {
            20 + 4 * self.ip_options
        }
    }

    fn protocol(&self) -> u8 {
        if self.tcp {
            6
        } else {
            17
        }
    }

    /// The addresses as they are in the header.
    fn addresses(&self) -> Vec<u8> {
        let of = |address: u32| address.to_be_bytes().repeat(if self.v6 { 4 } else { 1 });
        [of(self.src), of(self.dst)].concat()
    }

    fn write_header(&self, b: &mut [u8], id: u16) {
        let (len, ihl) = (b.len(), self.ihl());
        if self.v6 {
            b[..4].copy_from_slice(&[0x60, 0, 0, 0]);
            b[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
            b[6] = if self.ip_options > 0 { 60 } else { self.protocol() };
            b[7] = 64;
            b[8..40].copy_from_slice(&self.addresses());
            if self.ip_options > 0 {
                b[40..42].copy_from_slice(&[self.protocol(), self.ip_options as u8 - 1]);
            }
            return;
        }
        b[0] = 0x40 | (ihl / 4) as u8;
        b[1] = 0;
        b[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        b[4..6].copy_from_slice(&id.to_be_bytes());
        b[6..8].copy_from_slice(&[0x40, 0]);
        b[8] = 64;
        b[9] = self.protocol();
        b[10..12].fill(0);
        b[12..20].copy_from_slice(&self.addresses());
        let sum = slow_checksum(&b[..ihl]);
        b[10..12].copy_from_slice(&sum.to_be_bytes());
    }

    fn header(&self) -> usize {
        self.ihl() + if self.tcp { 20 + 4 * self.tcp_options } else { 8 }
    }

    /// The bytes of a packet with this payload and these per-segment fields, with a complete or a partial checksum.
    fn bytes(&self, payload: &[u8], id: u16, seq: u32, flags: u8, whole: bool) -> Vec<u8> {
        let ihl = self.ihl();
        let mut b = vec![1u8; self.header()];
        b.extend_from_slice(payload);
        let len = b.len();
        self.write_header(&mut b, id);
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
        let mut region = self.addresses();
        region.extend_from_slice(&[0, self.protocol()]);
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
            gso_type: match (self.tcp, self.v6) {
                (true, v6) => (if v6 { GSO_TCPV6 } else { GSO_TCPV4 }) | if self.ecn { GSO_ECN } else { 0 },
                (false, _) => GSO_UDP_L4,
            },
            hdr_len: self.header() as u16,
            gso_size: self.gso,
            csum_start: self.ihl() as u16,
            csum_offset: if self.tcp { 16 } else { 6 },
        }
    }

    fn packet(&self, pool: &mut Pool) -> Packet {
        let mut packet = pool.get();
        let bytes = self.bytes(&self.payload, self.id, self.seq, self.flags, false);
        packet.fill(&bytes, self.vnet()).expect("a new buffer");
        packet.parse(1500).expect("a valid packet");
        packet
    }

    /// The segments `first..first+count` as one packet, by the reference model.
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
    let versions = (any::<bool>(), any::<bool>());
    let shape = (versions, 0usize..=10, 0usize..=10, any::<u16>(), any::<u32>(), any::<u8>());
    let load = (
        // A packet has at most 8192 segments, of one byte at the least.
        proptest::collection::vec(any::<u8>(), 1..=8192),
        1u16..1600,
        any::<bool>(),
        any::<u32>(),
        any::<u32>(),
    );
    (shape, load).prop_map(
        |(((tcp, v6), ip_options, tcp_options, id, seq, flags), (payload, gso, ecn, src, dst))| Super {
            v6,
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
    fn every_segment_equals_the_reference_model(sup in supers()) {
        let mut pool = Pool::standalone();
        let packet = sup.packet(&mut pool);
        let count = sup.payload.len().div_ceil(usize::from(sup.gso));
        prop_assert_eq!(packet.segments() as usize, count);
        prop_assert_eq!(packet.wire_bytes() as usize, sup.payload.len() + count * sup.header());
        let mut out = Vec::new();
        segment(packet, &mut pool, |piece, _| out.push(piece));
        prop_assert_eq!(out.len(), count);
        for (index, piece) in out.iter().enumerate() {
            prop_assert_eq!(piece.bytes(), &sup.expected(index, 1, true)[..]);
            prop_assert_eq!(piece.vnet(), VnetHeader::default());
        }
    }

    #[test]
    fn every_segment_of_a_capture_equals_the_reference_model(sup in supers()) {
        let packet = sup.packet(&mut Pool::standalone());
        for index in 0..packet.segments() {
            let mut out = vec![9; 3];
            append_segment(&packet, index, &mut out);
            prop_assert_eq!(&out[3..], &sup.expected(index as usize, 1, true)[..]);
        }
    }

    #[test]
    fn a_run_and_its_segments_equal_the_reference_model(sup in supers(), a in 0usize..100, b in 1usize..100) {
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
        segment(run, &mut pool, |piece, _| out.push(piece));
        for (index, piece) in out.iter().enumerate() {
            prop_assert_eq!(piece.bytes(), &sup.expected(first + index, 1, true)[..]);
        }
    }

    #[test]
    fn the_checksum_equals_the_reference_model(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
        prop_assert_eq!(checksum::of(&bytes), slow_checksum(&bytes));
    }
}

/// A datagram as the kernel of a sender sends it: alone, atomic, with a partial checksum.
fn datagram(pool: &mut Pool, id: u16, payload: &[u8]) -> Packet {
    let sup = Super { payload: payload.to_vec(), ..plain_udp() };
    let mut packet = pool.get_for(payload.len() + 28);
    let vnet = VnetHeader { gso_type: GSO_NONE, gso_size: 0, ..sup.vnet() };
    packet.fill(&sup.bytes(payload, id, 0, 0, false), vnet).expect("a new buffer");
    packet.parse(1500).expect("a valid packet");
    packet
}

fn plain_udp() -> Super {
    Super {
        v6: false,
        tcp: false,
        ip_options: 0,
        tcp_options: 0,
        id: 0,
        seq: 0,
        flags: 0,
        payload: vec![],
        gso: 1,
        ecn: false,
        src: 0x0a00_0001,
        dst: 0x0a00_0002,
    }
}

/// The packets that result from pushing packets into a run until it is full.
fn joined(packets: Vec<Packet>, pool: &mut Pool) -> Vec<Packet> {
    let (mut run, mut out) = (Run::default(), Vec::new());
    for packet in packets {
        let Err(packet) = run.push(packet, pool) else { continue };
        out.extend(run.take());
        if let Err(packet) = run.push(packet, pool) {
            out.push(packet);
        }
    }
    out.extend(run.take());
    assert!(run.is_empty());
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn joined_datagrams_are_segmented_to_the_original_datagrams(
        sizes in proptest::collection::vec(prop_oneof![Just(64usize), Just(1472), 1usize..1473], 1..150),
        id in any::<u16>(),
    ) {
        let mut pool = Pool::standalone();
        let payload = |index: usize| (0..sizes[index]).map(|at| (at * 7 + index * 13) as u8).collect::<Vec<_>>();
        let ids: Vec<u16> = (0..sizes.len()).map(|index| id.wrapping_add(index as u16)).collect();
        let packets = (0..sizes.len()).map(|index| datagram(&mut pool, ids[index], &payload(index))).collect();
        let mut pieces = Vec::new();
        for packet in joined(packets, &mut pool) {
            let reparsed = {
                let mut again = pool.get();
                again.fill(packet.bytes(), packet.vnet()).expect("a new buffer");
                again.parse(1500).map(|()| again.segments())
            };
            prop_assert_eq!(reparsed, Ok(packet.segments()));
            segment(packet, &mut pool, |piece, _| pieces.push(piece));
        }
        prop_assert_eq!(pieces.len(), sizes.len());
        for (index, piece) in pieces.iter().enumerate() {
            let want = plain_udp().bytes(&payload(index), ids[index], 0, 0, true);
            prop_assert_eq!(piece.bytes(), &want[..]);
        }
    }
}

#[test]
fn datagrams_of_equal_size_are_joined_and_a_shorter_one_is_the_last() {
    let mut pool = Pool::standalone();
    let lengths = [1000, 1000, 1000, 400, 1000, 1000];
    let packets = lengths.iter().map(|&len| datagram(&mut pool, 7, &vec![1; len])).collect();
    let out = joined(packets, &mut pool);
    assert_eq!(
        out.iter().map(|p| (p.segments(), p.vnet().gso_size)).collect::<Vec<_>>(),
        [(4, 1000), (2, 1000)]
    );
}

#[test]
fn a_run_ends_at_64_datagrams_and_at_the_longest_packet() {
    let mut pool = Pool::standalone();
    for (len, most) in [(64, 64), (1472, (65_535 - 28) / 1472)] {
        let packets = (0..200).map(|id| datagram(&mut pool, id, &vec![1; len])).collect();
        let out = joined(packets, &mut pool);
        assert_eq!(out.iter().map(|p| p.segments() as usize).max(), Some(most));
        assert_eq!(out.iter().map(Packet::segments).sum::<u32>(), 200);
    }
}

#[test]
fn datagrams_whose_headers_differ_are_not_joined() {
    // Type of service, "don't fragment", TTL, address, port; then a UDP length that leaves padding behind the
    // datagram.
    for at in [1usize, 6, 8, 15, 21, 25] {
        let mut pool = Pool::standalone();
        let first = datagram(&mut pool, 1, &[1; 64]);
        let other = datagram(&mut pool, 2, &[1; 64]);
        let mut bytes = other.bytes().to_vec();
        bytes[at] ^= 0x40;
        let mut second = pool.get();
        second.fill(&bytes, other.vnet()).expect("a new buffer");
        second.parse(1500).expect("a valid packet");
        let third = datagram(&mut pool, 3, &[1; 64]);
        let out = joined(vec![first, second, third], &mut pool);
        assert_eq!(out.len(), 3, "byte {at}");
    }
}

#[test]
fn datagrams_that_are_shared_or_have_complete_checksums_are_not_joined() {
    let mut pool = Pool::standalone();
    let shared = datagram(&mut pool, 1, &[1; 64]);
    let other_holder = shared.clone_ref();
    let mut run = Run::default();
    assert!(run.push(shared, &mut pool).is_err());
    assert_eq!(other_holder.len(), 92);

    let finished = complete_checksum(datagram(&mut pool, 1, &[1; 64]), &mut pool);
    assert!(run.push(finished, &mut pool).is_err());
    assert!(run.push(datagram(&mut pool, 1, &[]), &mut pool).is_err());
    assert!(run.is_empty() && run.take().is_none());
}

#[test]
fn ttl_decrements_are_applied_to_the_joined_packet() {
    let mut pool = Pool::standalone();
    let mut run = Run::default();
    for id in 0..2 {
        let mut packet = datagram(&mut pool, id, &[1; 64]);
        assert!(packet.count_hop(true));
        run.push(packet, &mut pool).expect("they are joined");
    }
    let whole = run.take().expect("two datagrams are joined");
    assert_eq!((whole.bytes()[8], whole.segments()), (63, 2));
}
