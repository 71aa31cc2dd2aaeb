//! Test queue limits, schedulers, early drops and marks, in virtual time.

use super::*;
use crate::{ClassKey, Classes, QueueDiscipline, Scheduler};

/// The ECN field of a transport that understands marks, and that of a marked packet.
pub(super) const CAPABLE: u8 = 2;
pub(super) const MARKED: u8 = 3;
const TEN_MBIT: u64 = 10_000_000;

/// A datagram, or a super-packet where the payload exceeds a segment.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub port: u16,
    pub tos: u8,
    pub payload: usize,
}

pub(super) const fn full(port: u16) -> Shape {
    Shape { port, tos: 0, payload: SEGMENT }
}

impl Fixture {
    /// Sends a packet to a port, with numbers like those of [`Fixture::send`].
    pub(super) fn send_shape(&mut self, shape: Shape) {
        let packet = self.packet(shape);
        self.links.send(self.now, 0, packet, &mut self.io);
        self.collect();
    }

    fn packet(&mut self, shape: Shape) -> Packet {
        let mut payload = vec![0u8; shape.payload];
        for chunk in payload.chunks_mut(SEGMENT) {
            chunk[..4].copy_from_slice(&self.sent.to_be_bytes());
            self.sent += 1;
        }
        let mut bytes = vec![0; 28];
        bytes.extend_from_slice(&payload);
        let len = bytes.len() as u16;
        crate::wire::ip::emit(&mut bytes, 0x0a00_0001, 0x0a00_0002, 17, len);
        bytes[1] = shape.tos;
        crate::wire::ip::write_checksum(&mut bytes[..20]);
        bytes[22..24].copy_from_slice(&shape.port.to_be_bytes());
        bytes[24..26].copy_from_slice(&(len - 20).to_be_bytes());
        let large = shape.payload > SEGMENT;
        let vnet = VnetHeader {
            flags: F_NEEDS_CSUM,
            gso_type: if large { GSO_UDP_L4 } else { 0 },
            hdr_len: 28,
            gso_size: if large { SEGMENT as u16 } else { 0 },
            csum_start: 20,
            csum_offset: 6,
        };
        let mut packet = self.io.pool.get();
        packet.fill(&bytes, vnet).expect("a new buffer");
        packet.parse(1500).expect("a valid packet");
        packet
    }

    /// Bytes that have left for a port.
    fn bytes_to(&self, port: u16) -> u64 {
        let to_port = self.left.iter().filter(|(_, packet)| packet.ports().1 == port);
        to_port.map(|(_, packet)| packet.wire_bytes()).sum()
    }

    /// The segments that have left: port, number and type of service.
    fn segments(&self) -> Vec<(u16, u32, u8)> {
        let of = |packet: &Packet| {
            let (port, tos) = (packet.ports().1, packet.bytes()[1]);
            let number = |part: &[u8]| u32::from_be_bytes([part[0], part[1], part[2], part[3]]);
            packet.payload().chunks(SEGMENT).map(|part| (port, number(part), tos)).collect::<Vec<_>>()
        };
        self.left.iter().flat_map(|(_, packet)| of(packet)).collect()
    }
}

fn by_port(weights: &[(u32, u32)]) -> Classes {
    Classes { by: ClassKey::DstPort, weights: weights.iter().copied().collect() }
}

fn scheduled(scheduler: Scheduler) -> LinkSpec {
    LinkSpec { scheduler, ..rate(TEN_MBIT) }
}

fn red(min_bytes: u64, max_bytes: u64, probability: f64) -> QueueDiscipline {
    QueueDiscipline::Red {
        min_bytes: Some(min_bytes),
        max_bytes: Some(max_bytes),
        probability: Some(probability),
    }
}

#[test]
fn deficit_round_robin_shares_the_rate_by_weight_in_bytes() {
    let spec = scheduled(Scheduler::Drr(by_port(&[(1, 1), (2, 2), (3, 4)])));
    let mut fixture = Fixture::new(1, ["a", "b"], spec);
    // Small packets, middle ones, and super-packets; each class has more than it can transmit in the time below.
    for _ in 0..10_000 {
        fixture.send_shape(Shape { payload: 172, ..full(1) });
        fixture.send_shape(Shape { payload: 672, ..full(2) });
    }
    for _ in 0..100 {
        fixture.send_shape(Shape { payload: 40 * SEGMENT, ..full(3) });
    }
    fixture.run_until(Instant(3_000_000_000));
    let total = 3 * TEN_MBIT / 8;
    for (port, weight) in [(1, 1), (2, 2), (3, 4)] {
        let share = fixture.bytes_to(port) as f64 / total as f64;
        assert!((share / (f64::from(weight) / 7.0) - 1.0).abs() < 0.02, "{port}: {share}");
    }
    let longest = fixture.left.iter().map(|(_, packet)| packet.wire_bytes()).max();
    assert!(longest <= Some(6_000), "a super-packet is transmitted in pieces: {longest:?}");
}

#[test]
fn flows_share_a_link_equally_and_a_class_without_packets_costs_nothing() {
    let mut fixture = Fixture::new(1, ["a", "b"], scheduled(Scheduler::Drr(Classes::default())));
    for _ in 0..500 {
        fixture.send_shape(full(1));
        fixture.send_shape(Shape { payload: 100, ..full(2) });
    }
    fixture.drain();
    let end = fixture.left.last().expect("packets").0.nanos();
    let ideal = 500 * (1_500 + 128) * 8 * 100;
    assert!(end.abs_diff(ideal) < 10, "the link is never idle: {end}, {ideal}");
    let half = fixture.left.iter().filter(|(_, packet)| packet.ports().1 == 2);
    let last = half.map(|(at, _)| at.nanos()).max().expect("packets");
    // 64,000 bytes of each class, and up to one quantum of both.
    let bytes = last * TEN_MBIT / 8_000_000_000;
    assert!(bytes.abs_diff(2 * 64_000) <= 3_000, "{bytes}");
}

#[test]
fn a_higher_priority_is_transmitted_first() {
    let spec = scheduled(Scheduler::Priority(by_port(&[(9, 7), (5, 3)])));
    let mut fixture = Fixture::new(1, ["a", "b"], spec);
    for port in [1, 5, 2, 9, 1, 5, 9] {
        fixture.send_shape(full(port));
    }
    fixture.drain();
    let ports: Vec<u16> = fixture.segments().iter().map(|segment| segment.0).collect();
    // The first packet was in transmission when the others came; 1 and 2 have the same priority.
    assert_eq!(ports, [1, 9, 9, 5, 5, 2, 1]);
}

#[test]
fn a_full_queue_with_classes_drops_from_the_longest() {
    for scheduler in [Scheduler::Drr(by_port(&[])), Scheduler::Priority(by_port(&[(2, 5)]))] {
        let spec = LinkSpec { limit_bytes: None, limit_packets: Some(20), ..scheduled(scheduler) };
        let mut fixture = Fixture::new(1, ["a", "b"], spec);
        for _ in 0..4 {
            fixture.send_shape(Shape { payload: 44 * SEGMENT, ..full(1) });
            assert_eq!(fixture.stats().queued_packets, 20);
        }
        for _ in 0..5 {
            fixture.send_shape(full(2));
            assert_eq!(fixture.stats().queued_packets, 20);
        }
        fixture.drain();
        let to = |port| fixture.segments().iter().filter(|segment| segment.0 == port).count();
        assert_eq!((to(1), to(2)), (15, 5));
        let numbers: Vec<u32> = fixture.segments().iter().filter(|s| s.0 == 1).map(|s| s.1).collect();
        assert_eq!(numbers, (0..15).collect::<Vec<_>>(), "the tail is dropped, segment by segment");
        assert_eq!(fixture.stats().tx.drops.get(DropCause::QueueFull), 4 * 44 + 5 - 20);
    }
}

#[test]
fn a_full_queue_with_priorities_keeps_the_higher_one() {
    let priorities = Scheduler::Priority(by_port(&[(1, 5)]));
    let spec = LinkSpec { limit_bytes: None, limit_packets: Some(20), ..scheduled(priorities) };
    let mut fixture = Fixture::new(1, ["a", "b"], spec);
    for port in [1; 20].into_iter().chain([2; 5]) {
        fixture.send_shape(full(port));
    }
    fixture.drain();
    assert!(fixture.segments().iter().all(|segment| segment.0 == 1));
    assert_eq!(fixture.segments().len(), 20);
}

#[test]
fn every_property_of_a_packet_can_be_its_class() {
    // The second packet differs in this property and goes first, because of its priority.
    let cases = [
        (ClassKey::DstPort, 7u32, Shape { port: 7, ..full(1) }),
        (ClassKey::Dscp, 46, Shape { tos: 46 << 2 | CAPABLE, ..full(1) }),
    ];
    for (by, class, special) in cases {
        let classes = Classes { by, weights: [(class, 9)].into() };
        let mut fixture = Fixture::new(1, ["a", "b"], scheduled(Scheduler::Priority(classes)));
        for shape in [full(1), full(1), special] {
            fixture.send_shape(shape);
        }
        fixture.drain();
        assert_eq!(fixture.numbers(), [0, 2, 1], "{by:?}");
    }
    let key = |by, class| {
        let classes = Classes { by, weights: [(class, 9)].into() };
        let mut fixture = Fixture::new(1, ["a", "b"], scheduled(Scheduler::Drr(classes)));
        (0..3).for_each(|_| fixture.send_shape(Shape { payload: 10 * SEGMENT, ..full(1) }));
        fixture.drain();
        fixture.left.len()
    };
    // With weight 9 a turn has 9 full segments, but 1 ms has no more than 1; without it too.
    assert_eq!(key(ClassKey::Source, 1), 30);
    assert_eq!(key(ClassKey::Destination, 2), 30);
}

#[test]
fn the_limit_in_time_follows_the_rate() {
    let spec = LinkSpec { rate_bps: Some(12_000_000), limit_us: Some(10_000), ..LinkSpec::default() };
    assert_eq!(spec.queue_limit_bytes(), Some(15_000));
    let mut fixture = Fixture::new(1, ["a", "b"], spec.clone());
    (0..20).for_each(|_| fixture.send(10));
    assert_eq!(fixture.stats().queued_packets, 10);
    fixture.set(LinkSpec { rate_bps: Some(120_000_000), ..spec.clone() });
    (0..20).for_each(|_| fixture.send(10));
    assert_eq!(fixture.stats().queued_packets, 100);
    fixture.set(spec);
    assert_eq!(fixture.stats().queued_packets, 100, "a lower limit drops nothing that is queued");
    fixture.send(1);
    assert_eq!(fixture.stats().queued_packets, 100);
}

/// The same table is checked by the Python code: `tests/test_impairment.py`.
#[test]
fn the_effective_limit_is_that_of_the_shared_table() {
    let table = include_str!("../../../../../tests/vectors/queue_limits.csv");
    let lines = table.lines().filter(|line| !line.starts_with('#')).skip(1);
    let mut count = 0;
    for line in lines {
        let values: Vec<Option<u64>> = line.split(',').map(|field| field.parse().ok()).collect();
        let spec = LinkSpec {
            rate_bps: values[0],
            delay_us: values[1].unwrap_or(0),
            limit_bytes: values[2],
            limit_packets: values[3],
            limit_us: values[4],
            ..LinkSpec::default()
        };
        assert_eq!(spec.queue_limit_bytes(), values[5], "{line}");
        count += 1;
    }
    assert!(count >= 10);
}

#[test]
fn an_early_drop_of_an_ecn_capable_packet_is_a_mark() {
    // The average exceeds the minimum after about 20 packets and never the maximum: every drop may be a mark.
    let spec = |ecn| LinkSpec { queue: red(1_000, 100_000_000, 1.0), ecn, ..rate(TEN_MBIT) };
    let run = |ecn, tos| {
        let mut fixture = Fixture::new(1, ["a", "b"], spec(ecn));
        (0..40).for_each(|_| fixture.send_shape(Shape { tos, payload: 40 * SEGMENT, ..full(1) }));
        fixture.drain();
        let stats = fixture.stats();
        let marked = fixture.segments().iter().filter(|segment| segment.2 == MARKED).count() as u64;
        assert_eq!(marked, stats.impaired.ecn);
        assert_eq!(stats.tx.drops.total(), stats.tx.drops.get(DropCause::QueueEarly));
        assert!(fixture.numbers().is_sorted());
        for (_, packet) in &fixture.left {
            let alone = packet.bytes()[1] != MARKED || packet.segments() == 1;
            assert!(alone, "a marked segment is cut out of its super-packet");
            assert_eq!(crate::wire::checksum::of(&packet.bytes()[..20]), 0, "{:?}", &packet.bytes()[..20]);
        }
        (stats.tx.packets, marked, stats.tx.drops.total())
    };
    let (sent, marked, dropped) = run(true, CAPABLE);
    assert!(marked > 10 && dropped == 0 && sent == 1_600, "{marked} {dropped}");
    for (ecn, tos) in [(false, CAPABLE), (true, 0)] {
        let (sent, marked, dropped) = run(ecn, tos);
        assert!(marked == 0 && dropped > 10 && sent + dropped == 1_600, "{marked} {dropped}");
    }
}

#[test]
fn a_mark_does_not_change_other_copies_of_the_packet() {
    let spec = LinkSpec { queue: red(0, 100_000_000, 1.0), ecn: true, ..rate(TEN_MBIT) };
    let mut fixture = Fixture::new(1, ["a", "b"], spec);
    let mut copies = Vec::new();
    for _ in 0..3_000 {
        let packet = fixture.packet(Shape { tos: CAPABLE, ..full(1) });
        copies.push(packet.clone_ref());
        fixture.links.send(fixture.now, 0, packet, &mut fixture.io);
    }
    fixture.drain();
    assert!(fixture.stats().impaired.ecn > 0);
    assert!(copies.iter().all(|packet| packet.bytes()[1] == CAPABLE));
}

#[test]
fn a_full_queue_never_marks() {
    let spec = LinkSpec {
        limit_bytes: Some(15_000),
        queue: QueueDiscipline::Codel { target_us: 5_000, interval_us: 100_000 },
        ecn: true,
        ..rate(TEN_MBIT)
    };
    let mut fixture = Fixture::new(1, ["a", "b"], spec);
    (0..100).for_each(|_| fixture.send_shape(Shape { tos: CAPABLE, ..full(1) }));
    fixture.drain();
    let stats = fixture.stats();
    assert_eq!((stats.tx.drops.get(DropCause::QueueFull), stats.tx.packets, stats.impaired.ecn), (90, 10, 0));
}

#[test]
fn codel_decides_about_the_segments_of_a_super_packet_as_about_single_packets() {
    let spec = LinkSpec {
        queue: QueueDiscipline::Codel { target_us: 5_000, interval_us: 100_000 },
        ..rate(10 * TEN_MBIT)
    };
    let run = |segments: usize| {
        let mut fixture = Fixture::new(1, ["a", "b"], spec.clone());
        // 200 Mbit/s for half a second over 100 Mbit/s.
        for step in 0..200 {
            fixture.run_until(Instant(step * 2_400_000));
            (0..40 / segments).for_each(|_| fixture.send(segments));
        }
        fixture.drain();
        fixture.numbers()
    };
    let single = run(1);
    assert!((7_000..7_990).contains(&single.len()), "{}", single.len());
    assert_eq!(single, run(40));
}

#[test]
fn contradictions_about_the_queue_are_refused() {
    let ten = rate(TEN_MBIT);
    let drr = |by, weights: &[(u32, u32)]| {
        Scheduler::Drr(Classes { by, weights: weights.iter().copied().collect() })
    };
    let many: Vec<(u32, u32)> = (0..1_025).map(|class| (class, 1)).collect();
    let codel = |target_us, interval_us| QueueDiscipline::Codel { target_us, interval_us };
    let port = ClassKey::DstPort;
    let cases = [
        (LinkSpec { queue: codel(5, 100), rate_bps: None, ..ten.clone() }, "a queue discipline needs a rate"),
        (LinkSpec { scheduler: drr(port, &[]), rate_bps: None, ..ten.clone() }, "a scheduler needs a rate"),
        (LinkSpec { limit_us: Some(5), rate_bps: None, ..ten.clone() }, "a queue limit in time needs a rate"),
        (LinkSpec { ecn: true, rate_bps: None, ..ten.clone() }, "ecn needs a rate"),
        (LinkSpec { ecn: true, ..ten.clone() }, "ecn needs red or codel"),
        (LinkSpec { queue: codel(100, 100), ..ten.clone() }, "not less than the interval"),
        (
            LinkSpec { queue: red(5_000, 5_000, 0.1), ..ten.clone() },
            "5000 bytes is not less than the maximum",
        ),
        (LinkSpec { queue: red(1, 2, 1.5), ..ten.clone() }, "1.5 is not between 0 and 1"),
        (LinkSpec { queue: red(1, 2, f64::NAN), ..ten.clone() }, "not between 0 and 1"),
        (LinkSpec { scheduler: drr(port, &[(1, 0)]), ..ten.clone() }, "class 1 has a weight of 0"),
        (LinkSpec { scheduler: drr(port, &many), ..ten.clone() }, "1025 weights are more than 1024"),
        (LinkSpec { scheduler: drr(port, &[(65_536, 1)]), ..ten.clone() }, "the largest is 65535"),
        (LinkSpec { scheduler: drr(ClassKey::Dscp, &[(64, 1)]), ..ten.clone() }, "the largest is 63"),
        (LinkSpec { scheduler: drr(ClassKey::Flow, &[(1, 1)]), ..ten.clone() }, "flows have no numbers"),
        (LinkSpec { scheduler: Scheduler::Priority(by_port(&[])), ..ten.clone() }, "needs the priority"),
    ];
    for (spec, expected) in cases {
        let error = spec.check().expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
    let good = LinkSpec { queue: codel(5, 100), ecn: true, scheduler: drr(port, &[(1, 2)]), ..ten };
    assert_eq!(good.check(), Ok(()));
}

fn disciplines() -> impl Strategy<Value = QueueDiscipline> {
    prop_oneof![
        Just(QueueDiscipline::TailDrop),
        (0u64..20_000, 1u64..60_000, 0.0..=1.0f64).prop_map(|(min, more, probability)| red(
            min,
            min + more,
            probability
        )),
        Just(QueueDiscipline::Red { min_bytes: None, max_bytes: None, probability: None }),
        (0u64..2_000, 1u64..3_000).prop_map(|(target_us, more)| QueueDiscipline::Codel {
            target_us,
            interval_us: target_us + more
        }),
    ]
}

fn schedulers() -> impl Strategy<Value = Scheduler> {
    let weights = proptest::collection::btree_map(0u32..4, 1u32..5, 1..4);
    (0..4, weights).prop_map(|(kind, weights)| match kind {
        0 => Scheduler::Fifo,
        1 => Scheduler::Drr(Classes::default()),
        2 => Scheduler::Drr(Classes { by: ClassKey::DstPort, weights }),
        _ => Scheduler::Priority(Classes { by: ClassKey::DstPort, weights }),
    })
}

fn queue_specs() -> impl Strategy<Value = LinkSpec> {
    let limits = prop_oneof![Just(None), (1u64..100).prop_map(Some)];
    (1_000_000u64..1_000_000_000, limits, disciplines(), any::<bool>(), schedulers(), 0u64..10).prop_map(
        |(rate, limit_packets, queue, ecn, scheduler, plain)| LinkSpec {
            rate_bps: (plain > 0).then_some(rate),
            ecn: plain > 0 && ecn && queue != QueueDiscipline::TailDrop,
            queue: if plain > 0 { queue } else { QueueDiscipline::TailDrop },
            scheduler: if plain > 0 { scheduler } else { Scheduler::Fifo },
            limit_packets,
            ..LinkSpec::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn live_changes_of_the_queue_keep_the_order_of_every_flow_and_account_for_every_segment(
        steps in proptest::collection::vec(
            (queue_specs(), 0u64..3_000_000, proptest::collection::vec((0u16..4, 1usize..44, any::<bool>()), 1..8)),
            1..20,
        ),
    ) {
        let mut fixture = Fixture::new(3, ["a", "b"], LinkSpec::default());
        for (spec, pause, packets) in steps {
            prop_assert_eq!(spec.check(), Ok(()));
            let before = fixture.stats();
            fixture.set(spec);
            let now = fixture.stats();
            prop_assert_eq!(before.tx.drops.get(DropCause::QueueFull), now.tx.drops.get(DropCause::QueueFull));
            for (port, segments, capable) in packets {
                let tos = if capable { CAPABLE } else { 0 };
                fixture.send_shape(Shape { port, tos, payload: segments * SEGMENT - 8 });
            }
            fixture.run_until(fixture.now.plus_nanos(pause));
            let stats = fixture.stats();
            let seen = stats.tx.packets + stats.tx.drops.total() + stats.queued_packets;
            prop_assert_eq!(seen, u64::from(fixture.sent));
        }
        fixture.drain();
        for port in 0..4 {
            let numbers: Vec<u32> =
                fixture.segments().iter().filter(|segment| segment.0 == port).map(|segment| segment.1).collect();
            prop_assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", numbers);
        }
        let stats = fixture.stats();
        prop_assert_eq!(stats.tx.packets + stats.tx.drops.total(), u64::from(fixture.sent));
        prop_assert_eq!((stats.queued_packets, stats.queued_bytes), (0, 0));
        prop_assert_eq!(fixture.memory(), 0);
    }
}
