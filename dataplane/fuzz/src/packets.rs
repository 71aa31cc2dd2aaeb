//! Fuzz the packet path: packets with virtio headers from the node's device and its neighbours, through links with
//! every impairment, to neighbours, the device, receivers and ICMP replies.

use std::net::Ipv4Addr;

use nm_engine::segment::{self, Run};
use nm_engine::vnet::{F_NEEDS_CSUM, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4};
use nm_engine::{
    AddressPlan, Command, Depot, Engine, Event, FlowFilter, Instant, Io, LinkId, LinkSpec,
    NodeConfig, Packet, Pool, TtlMode, VnetHeader, MAX_IP_HEADER,
};

use crate::input::Input;
use crate::reference::{self, Shape};
use crate::setup::{self, GROUP};
use crate::specs;

const NODE: u32 = 1;
const NEIGHBOURS: [u32; 2] = [2, 3];
/// The destination of the node's receiver.
const PORTS: [u16; 2] = [7, 9];
/// Packets of one input: enough to fill any of the limits below.
const STEPS: usize = 24;
/// Segments of one packet, and of its copies for two neighbours, a receiver and a reply, on links that duplicate.
const MOST_PACKETS: usize = 2 * 2 * 8_192;
/// Largest number of fragments of one packet: 8 bytes each, at an MTU of 68 behind the longest IP header.
const MOST_FRAGMENTS: u64 = 65_535 / 8;

/// Runs the packets that the bytes describe through an engine.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let depot = Depot::new(4096);
    let mut io = Io::new(Pool::new(depot.clone(), 64));
    let mut node = Node::new(&mut input, &mut io);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        node.step(&mut input, &mut io);
    }
    // Queued packets leave when they are due, or are lost with their link; none is left over.
    for _ in 0..3 {
        node.now = Instant(node.now.nanos().saturating_add(1 << 40));
        node.engine.handle_timeout(node.now, &mut io);
        node.take_effects(&mut Input::new(&[]), &mut io);
    }
    for link in std::mem::take(&mut node.links) {
        node.engine
            .handle_link_state(node.now, link, false, &mut io);
    }
    for link in node.engine.stats().links {
        assert_eq!((link.queued_packets, link.queued_bytes), (0, 0), "{link:?}");
    }
}

struct Node {
    engine: Engine,
    links: Vec<LinkId>,
    /// Segments and bytes that each link held when its specification was last changed.
    before: [(u64, u64); 2],
    now: Instant,
}

impl Node {
    fn new(input: &mut Input<'_>, io: &mut Io) -> Self {
        let mut config = NodeConfig::new(NODE);
        config.mtu = input.one_of(&[1500, 576, 9000, 68, u16::MAX]);
        config.ttl_mode = input.one_of(&[TtlMode::Uniform, TtlMode::Pipe]);
        config.addresses = AddressPlan {
            base_addr6: Some(reference::BASE6.into()),
            user_base_addr: input.flag().then_some(Ipv4Addr::new(10, 2, 0, 0)),
            ..AddressPlan::default()
        };
        let mut node = Self {
            engine: Engine::new(config),
            links: Vec::new(),
            before: [(0, 0); 2],
            now: Instant(1),
        };
        for remote in NEIGHBOURS {
            let link = setup::add_link(&mut node.engine, node.now, remote, io);
            node.links.push(link);
        }
        let table = vec![0, 0, 2, 3, 2];
        setup::install(&mut node.engine, node.now, table, 2, &NEIGHBOURS, io);
        for command in [receiver(None), receiver(Some(GROUP))] {
            node.engine
                .handle_command(node.now, command, io)
                .expect("a valid command");
        }
        io.events.clear();
        node
    }

    fn step(&mut self, input: &mut Input<'_>, io: &mut Io) {
        match input.u8() % 8 {
            0 => {
                let pause = u64::from(input.u16()) << (input.u8() % 32);
                self.now = Instant(self.now.nanos().saturating_add(pause));
                self.engine.handle_timeout(self.now, io);
            }
            1 => self.change_link(input, io),
            2 => {
                let link = input.one_of(&self.links);
                match input.u8() % 4 {
                    0 => self.engine.handle_link_state(self.now, link, false, io),
                    1 => self.engine.set_link_congested(link, input.flag()),
                    _ => self.engine.handle_link_state(self.now, link, true, io),
                }
            }
            3..=4 => {
                let packet = packet(input, io);
                self.engine.handle_tun(self.now, packet, io);
            }
            _ => {
                let link = input.one_of(&[self.links[0], self.links[1], LinkId::MAX]);
                let packet = packet(input, io);
                self.engine.handle_link(self.now, link, packet, io);
            }
        }
        self.take_effects(input, io);
        self.check_limits();
    }

    fn change_link(&mut self, input: &mut Input<'_>, io: &mut Io) {
        let byte = usize::from(input.u8());
        let which = byte % NEIGHBOURS.len();
        let some =
            |input: &mut Input<'_>, values: &[u64]| Some(input.one_of(values)).filter(|&v| v > 0);
        let spec = LinkSpec {
            rate_bps: some(input, &[0, 1_000_000, 1_000_000_000, 1, u64::MAX]),
            delay_us: input.one_of(&[0, 1, 10_000, u64::MAX]),
            loss: input.one_of(&[0.0, 0.1, 0.5, 1.0]),
            limit_bytes: some(input, &[0, 1_500, 20_000, u64::MAX]),
            limit_packets: some(input, &[0, 1, 30, u64::MAX]),
            mtu: Some(input.one_of(&[0, 1500, 576, 20])).filter(|&mtu| mtu > 0),
            ..LinkSpec::default()
        };
        let spec = specs::damaged(specs::impaired(spec, byte / NEIGHBOURS.len()), byte, input);
        let spec = specs::queued(spec, input);
        let held = &self.engine.stats().links[which];
        self.before[which] = (held.queued_packets, held.queued_bytes);
        let set = Command::SetLink {
            remote: NEIGHBOURS[which],
            spec,
        };
        self.engine
            .handle_command(self.now, set, io)
            .expect("a valid specification");
    }

    /// The queue of a link without a rate and reordering is within the limit, apart from what was queued before the limit was set,
    /// and from one packet that cannot be segmented and found an empty queue.
    fn check_limits(&self) {
        for (link, before) in self.engine.stats().links.iter().zip(&self.before) {
            let LinkSpec {
                rate_bps: None,
                limit_bytes,
                limit_packets,
                reorder: 0.0,
                ..
            } = link.spec
            else {
                continue;
            };
            let bound = |limit: Option<u64>, before: u64, one: u64| {
                limit.unwrap_or(u64::MAX).max(before).max(one)
            };
            let bytes = bound(limit_bytes, before.1, MOST_FRAGMENTS * 60 + 65_535);
            let packets = bound(limit_packets, before.0, MOST_FRAGMENTS);
            assert!(
                link.queued_bytes <= bytes && link.queued_packets <= packets,
                "{before:?} {link:?}"
            );
        }
    }

    fn take_effects(&mut self, input: &mut Input<'_>, io: &mut Io) {
        assert!(
            io.transmits.len() <= 24 * MOST_PACKETS && io.tun.len() <= 8,
            "one packet, many effects"
        );
        for (link, packet) in std::mem::take(&mut io.transmits) {
            assert!(self.links.contains(&link));
            check_packet(packet, input, &mut io.pool);
        }
        let mut run = Run::default();
        for packet in std::mem::take(&mut io.tun) {
            check_joining(&mut run, packet, &mut io.pool);
        }
        for delivery in io.deliveries.drain(..) {
            assert_eq!([delivery.src_port, delivery.dst_port], PORTS);
            assert_eq!(delivery.payload().len(), delivery.payload_len as usize);
        }
        // Commands change links and the node; a packet causes no event.
        for event in io.events.drain(..) {
            assert!(
                matches!(event, Event::LinkCarries { .. } | Event::NodePaused { .. }),
                "{event:?}"
            );
        }
    }
}

fn receiver(group: Option<Ipv4Addr>) -> Command {
    let filter = FlowFilter {
        src_node: 2,
        group,
        src_port: PORTS[0],
        dst_port: PORTS[1],
    };
    Command::RegisterReceiver { filter }
}

/// A valid packet apart from what the input corrupts, or arbitrary bytes of the input.
fn packet(input: &mut Input<'_>, io: &mut Io) -> Packet {
    let mut packet = io.pool.get();
    let kind = input.u8();
    if kind.is_multiple_of(8) {
        let vnet = VnetHeader::from_bytes(&input.array());
        let length = usize::from(input.u8());
        packet
            .fill(input.bytes(length), vnet)
            .expect("a large buffer");
        return packet;
    }
    let shape = Shape {
        v6: kind & 0x0e == 0x0e,
        ..shape(input)
    };
    let mut bytes = shape.build();
    let mut vnet = offload(input, kind, &shape);
    for _ in 0..(kind >> 6) {
        corrupt(input, &mut bytes, &mut vnet);
    }
    packet.fill(&bytes, vnet).expect("a large buffer");
    packet.set_hops(input.one_of(&[0, 0, 4_094, u16::MAX]));
    packet
}

fn shape(input: &mut Input<'_>) -> Shape {
    Shape {
        v6: false,
        src: input.one_of(&[
            [10, 0, 0, 2],
            [10, 0, 0, 1],
            [10, 2, 0, 2],
            [127, 0, 0, 1],
            [255; 4],
            [0; 4],
        ]),
        dst: input.one_of(&[
            [10, 0, 0, 3],
            [10, 0, 0, 2],
            [10, 0, 0, 1],
            [239, 255, 0, 1],
            [10, 2, 0, 1],
            [10, 2, 0, 4],
            [10, 0, 200, 9],
            [8, 8, 8, 8],
        ]),
        protocol: input.one_of(&[17, 6, 1, 47]),
        ttl: input.one_of(&[64, 1, 0, 2, 255]),
        ip_options: usize::from(input.u8() % 16).min(10),
        tcp_options: usize::from(input.u8() % 16).min(10),
        flags_and_offset: input.one_of(&[0, 0x4000, 0x2000, 0x2001, 1]),
        ports: input.one_of(&[PORTS, [80, 81], PORTS]),
        // Long packets are slow to check; most errors occur on short ones too.
        payload: usize::from(input.u16() & input.one_of(&[0x3ff, 0xfff, 0xff, 0xffff])),
    }
}

/// The virtio header of a packet: a partial checksum and segmentation, each if a bit of `kind` says so.
fn offload(input: &mut Input<'_>, kind: u8, shape: &Shape) -> VnetHeader {
    let (tcp, udp) = (shape.protocol == 6, shape.protocol == 17);
    let mut vnet = VnetHeader::default();
    if !tcp && !udp {
        return vnet;
    }
    if kind & 0x10 != 0 {
        vnet.flags = F_NEEDS_CSUM;
        vnet.csum_start = shape.header() as u16;
        vnet.csum_offset = if tcp { 16 } else { 6 };
    }
    if kind & 0x20 != 0 {
        vnet.gso_type = match (tcp, shape.v6) {
            (true, false) => GSO_TCPV4,
            (true, true) => GSO_TCPV6,
            (false, _) => GSO_UDP_L4,
        };
        vnet.gso_size = input.one_of(&[1448, 536, 8, 100, 1]);
    }
    vnet
}

/// Changes one field or byte.
fn corrupt(input: &mut Input<'_>, bytes: &mut Vec<u8>, vnet: &mut VnetHeader) {
    let value = input.u16();
    match input.u8() % 10 {
        0 => vnet.flags = value as u8,
        1 => vnet.gso_type = value as u8,
        2 => vnet.gso_size = value,
        3 => vnet.csum_start = value,
        4 => vnet.csum_offset = value,
        5 => vnet.hdr_len = value,
        6 => bytes.truncate(usize::from(value)),
        7 => {
            let longer = (bytes.len() + usize::from(value & 63)).min(65_535);
            bytes.resize(longer, 0xee);
        }
        _ => {
            let at = usize::from(input.u8() % 64);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value as u8;
            }
        }
    }
}

/// A packet for a neighbour can be parsed by it, and is segmented as by the slow reference.
fn check_packet(packet: Packet, input: &mut Input<'_>, pool: &mut Pool) {
    let vnet = packet.vnet();
    let expected = reference::segments(packet.bytes(), vnet);
    let mut again = pool.get();
    again.fill(packet.bytes(), vnet).expect("a large buffer");
    assert_eq!(
        again.parse(1500),
        Ok(()),
        "a sent packet is refused: {vnet:?}"
    );
    assert_eq!((again.len(), again.vnet()), (packet.len(), vnet));
    if vnet.is_super() {
        assert_eq!(packet.segments() as usize, expected.len());
        let wire: usize = expected.iter().map(Vec::len).sum();
        assert_eq!(packet.wire_bytes(), wire as u64);
        let first = u32::from(input.u16()) % packet.segments();
        let count = 1 + u32::from(input.u16()) % (packet.segments() - first);
        let run = segment::cut(&packet, first, count, pool);
        assert_eq!(run.segments(), count);
        check_pieces(
            run,
            &expected[first as usize..(first + count) as usize],
            pool,
        );
    }
    pool.put(again);
    check_pieces(packet, &expected, pool);
}

fn check_pieces(packet: Packet, expected: &[Vec<u8>], pool: &mut Pool) {
    let mut expected = expected.iter();
    segment::segment(packet, pool, |mut piece, pool| {
        let want = expected.next().expect("no more segments");
        assert_eq!(piece.bytes(), &want[..]);
        assert_eq!(piece.vnet().flags & F_NEEDS_CSUM, 0);
        check_ttl(&mut piece, want);
        pool.put(piece);
    });
    assert!(expected.next().is_none(), "segments are missing");
}

/// The outgoing header differs from the incoming one in TTL and checksum only, and the checksum is correct if it was
/// before.
fn check_ttl(piece: &mut Packet, before: &[u8]) {
    let mut header = [0; MAX_IP_HEADER];
    let len = piece.patched_ip_header(&mut header);
    if reference::is_v6(before) {
        assert_eq!(len, 40);
        assert!(header[7] <= before[7]);
        header[7] = before[7];
        assert_eq!(header[..len], before[..len]);
        return;
    }
    assert_eq!(len, usize::from(before[0] & 15) * 4);
    let good = reference::sum(&before[..len]) == 0xffff;
    assert_eq!(
        reference::sum(&header[..len]) == 0xffff,
        good,
        "{before:?} {header:?}"
    );
    assert!(header[8] <= before[8]);
    (header[8], header[10], header[11]) = (before[8], before[10], before[11]);
    assert_eq!(header[..len], before[..len]);
}

/// Packets for the device are segmented to the same datagrams, whether they were joined with others or not.
fn check_joining(run: &mut Run, packet: Packet, pool: &mut Pool) {
    let mut expected = reference::segments(packet.bytes(), packet.vnet());
    let was_super = packet.vnet().is_super();
    let copied = pool.copy(&packet);
    let mut out: Vec<Packet> = Vec::new();
    for packet in [packet, copied] {
        if let Err(packet) = run.push(packet, pool) {
            out.extend(run.take());
            if let Err(packet) = run.push(packet, pool) {
                out.push(packet);
            }
        }
    }
    out.extend(run.take());
    let joined = out.len() == 1 && !was_super;
    let mut pieces = Vec::new();
    for packet in out {
        segment::segment(packet, pool, |mut piece, pool| {
            piece.apply_ttl();
            pieces.push(piece.bytes().to_vec());
            pool.put(piece);
        });
    }
    expected.extend_from_within(..);
    assert_eq!(pieces.len(), expected.len());
    for (got, mut want) in pieces.into_iter().zip(expected) {
        // Joined datagrams get new identifications, which changes nothing for an atomic datagram (RFC 6864); the TTL
        // was taken above.
        let changed: &[usize] = match reference::is_v6(&want) {
            true => &[7],
            false => &[4, 5, 8, 10, 11],
        };
        for &at in changed {
            want[at] = got[at];
        }
        if joined {
            // It is then computed from the headers, whatever partial sum the sender had set.
            assert!(reference::is_checksum_right(&got), "{got:?}");
            (want[26], want[27]) = (got[26], got[27]);
        }
        assert_eq!(got, want);
    }
}
