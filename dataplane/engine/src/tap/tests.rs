//! Test what is recorded: every packet at its points, every drop with its cause, nothing without taps.

use crate::vnet::{F_NEEDS_CSUM, GSO_UDP_L4};
use crate::wire::{checksum, ip};
use crate::{
    Command, DropCause, Engine, Instant, Io, LinkSpec, NodeConfig, Pool, TapPoint, Tapped, Taps, VnetHeader,
};

/// Payload of one segment; with 28 bytes of headers it makes 1500.
const SEGMENT: usize = 1472;

struct Fixture {
    engine: Engine,
    io: Io,
}

impl Fixture {
    /// Node 1 with a link to node 2, at which everything is recorded.
    fn new(spec: LinkSpec) -> Self {
        let mut fixture = Self { engine: Engine::new(NodeConfig::new(1)), io: Io::new(Pool::standalone()) };
        fixture.engine.set_taps(&Taps { node: true, links: vec![2] });
        fixture.command(Command::AddLink { remote: 2, remote_name: "n2".into(), spec });
        fixture.engine.handle_link_state(Instant::ZERO, 0, true, &mut fixture.io);
        let table = Some(vec![0, 0, 2, 2]);
        fixture.command(Command::InstallRoutes { table, routes: vec![], removed: vec![] });
        fixture
    }

    fn command(&mut self, command: Command) {
        self.engine.handle_command(Instant::ZERO, command, &mut self.io).expect("accepted");
    }

    /// Sends a super-packet of datagrams to a node.
    fn send(&mut self, segments: usize, to: u8) {
        let (src, dst) = (0x0a00_0001, 0x0a00_0000 + u32::from(to));
        let mut bytes = vec![7; 28 + segments * SEGMENT];
        let (len, udp_len) = (bytes.len() as u16, (segments * SEGMENT) as u16 + 8);
        ip::emit(&mut bytes, src, dst, ip::UDP, len);
        bytes[20..24].copy_from_slice(&[1, 2, 3, 4]);
        bytes[24..26].copy_from_slice(&udp_len.to_be_bytes());
        let pseudo = checksum::pseudo_header(src, dst, ip::UDP, udp_len);
        bytes[26..28].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
        let gso = segments > 1;
        let vnet = VnetHeader {
            flags: F_NEEDS_CSUM,
            gso_type: if gso { GSO_UDP_L4 } else { 0 },
            hdr_len: 28,
            gso_size: if gso { SEGMENT as u16 } else { 0 },
            csum_start: 20,
            csum_offset: 6,
        };
        let mut packet = self.io.pool.get();
        packet.fill(&bytes, vnet).expect("a new buffer");
        self.engine.handle_tun(Instant::ZERO, packet, &mut self.io);
    }

    /// The records since the last call: their points with the numbers of segments.
    fn seen(&mut self) -> Vec<(TapPoint, u32)> {
        self.io.tapped.drain(..).map(|record| (record.point, record.count)).collect()
    }
}

fn count(seen: &[(TapPoint, u32)], point: TapPoint) -> u32 {
    seen.iter().filter(|(at, _)| *at == point).map(|(_, count)| count).sum()
}

#[test]
fn a_packet_is_recorded_before_and_after_the_impairments_of_its_link() {
    let mut fixture = Fixture::new(LinkSpec { delay_us: 1_000, ..LinkSpec::default() });
    fixture.send(3, 2);
    assert_eq!(fixture.seen(), [(TapPoint::Sent, 3), (TapPoint::Offered(2), 3)]);
    fixture.engine.handle_timeout(Instant(1_000_000), &mut fixture.io);
    let passed: Vec<Tapped> = fixture.io.tapped.drain(..).collect();
    assert_eq!(passed[0].point, TapPoint::Passed(2));
    assert_eq!((passed[0].at, passed[0].count), (Instant(1_000_000), 3));
}

#[test]
fn lost_segments_are_recorded_with_their_cause_and_the_rest_passes() {
    let mut fixture = Fixture::new(LinkSpec { loss: 0.2, ..LinkSpec::default() });
    for _ in 0..50 {
        fixture.send(40, 2);
    }
    let seen = fixture.seen();
    let stats = fixture.engine.stats().links.remove(0);
    let lost = count(&seen, TapPoint::Dropped(2, DropCause::Loss));
    assert!(lost > 200, "{lost} of 2000");
    assert_eq!(u64::from(lost), stats.tx.drops.get(DropCause::Loss));
    assert_eq!(u64::from(count(&seen, TapPoint::Passed(2))), stats.tx.packets);
    assert_eq!(count(&seen, TapPoint::Offered(2)), 2_000);
}

#[test]
fn packets_in_every_queue_of_a_link_that_goes_down_are_recorded() {
    let spec = LinkSpec {
        rate_bps: Some(1_000_000),
        limit_bytes: Some(u64::MAX),
        delay_us: 50_000,
        reorder: 0.5,
        ..LinkSpec::default()
    };
    let mut fixture = Fixture::new(spec);
    for _ in 0..20 {
        fixture.send(4, 2);
    }
    fixture.engine.handle_timeout(Instant(100_000_000), &mut fixture.io);
    fixture.engine.handle_link_state(Instant(100_000_000), 0, false, &mut fixture.io);
    let seen = fixture.seen();
    let passed = count(&seen, TapPoint::Passed(2));
    let down = count(&seen, TapPoint::Dropped(2, DropCause::LinkDown));
    assert!(passed > 0 && down > 0, "{passed} {down}");
    assert_eq!(passed + down, 80);
    let counted = fixture.engine.stats().links.remove(0).tx.drops.get(DropCause::LinkDown);
    assert_eq!(u64::from(down), counted);
}

#[test]
fn what_the_node_or_a_link_refuses_is_recorded_with_its_cause() {
    let mut fixture = Fixture::new(LinkSpec { down: true, ..LinkSpec::default() });
    fixture.send(1, 2);
    fixture.send(1, 9);
    let seen = fixture.seen();
    assert_eq!(count(&seen, TapPoint::Dropped(2, DropCause::LinkDown)), 1);
    assert_eq!(count(&seen, TapPoint::Refused(DropCause::NoRoute)), 1);
}

#[test]
fn nothing_is_recorded_without_taps() {
    let mut fixture = Fixture::new(LinkSpec { loss: 0.5, ..LinkSpec::default() });
    fixture.engine.set_taps(&Taps::default());
    fixture.send(40, 2);
    fixture.send(1, 9);
    assert!(fixture.io.tapped.is_empty());
}

#[test]
fn a_recorded_segment_is_what_the_kernel_would_make_of_it() {
    let mut fixture = Fixture::new(LinkSpec::default());
    fixture.send(3, 2);
    let record = fixture.io.tapped.pop().expect("a record");
    let mut pool = Pool::standalone();
    let mut expected = Vec::new();
    crate::segment::segment(record.packet.clone_ref(), &mut pool, |packet, pool| {
        expected.push(packet.bytes().to_vec());
        pool.put(packet);
    });
    let appended: Vec<Vec<u8>> = (0..3)
        .map(|index| {
            let mut out = Vec::new();
            crate::segment::append_segment(&record.packet, index, &mut out);
            out
        })
        .collect();
    assert_eq!(appended, expected);
    assert_eq!(appended.iter().map(Vec::len).sum::<usize>() as u64, record.packet.wire_bytes());
}
