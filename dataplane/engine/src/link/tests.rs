//! Test link impairments in virtual time: which packets leave, when, in which order, and the counters.

use proptest::prelude::*;

use super::*;
use crate::rng::Rng;
use crate::vnet::{F_NEEDS_CSUM, GSO_UDP_L4};
use crate::wire::checksum;
use crate::{Pool, VnetHeader};

mod adaptive;
mod impaired;
mod measurement;
mod queues;
mod statistics;
mod traces;

/// Payload of one segment; with 28 bytes of headers it makes 1500.
const SEGMENT: usize = 1472;

/// A link, and the packets that have left it.
struct Fixture {
    links: Links,
    io: Io,
    now: Instant,
    sent: u32,
    left: Vec<(Instant, Packet)>,
}

impl Fixture {
    fn new(seed: u64, names: [&str; 2], spec: LinkSpec) -> Self {
        let mut fixture = Self {
            links: Links::default(),
            io: Io::new(Pool::standalone()),
            now: Instant::ZERO,
            sent: 0,
            left: Vec::new(),
        };
        let rng = Rng::new(seed, &names);
        let id = fixture.links.add(Instant::ZERO, 2, rng, spec, &mut fixture.io);
        fixture.links.set_up(Instant::ZERO, id, true, &mut fixture.io);
        fixture
    }

    /// Sends a super-packet of `segments`; its number is the first two bytes of every segment's payload.
    fn send(&mut self, segments: usize) {
        self.send_bytes(segments * SEGMENT);
    }

    /// The same with `payload` bytes of payload.
    fn send_bytes(&mut self, payload: usize) {
        let segments = payload.div_ceil(SEGMENT);
        let mut payload = vec![0u8; payload];
        for chunk in payload.chunks_mut(SEGMENT) {
            chunk[..4].copy_from_slice(&self.sent.to_be_bytes());
            self.sent += 1;
        }
        let mut bytes = vec![0; 28];
        bytes.extend_from_slice(&payload);
        let (len, udp_len) = (bytes.len() as u16, payload.len() as u16 + 8);
        crate::wire::ip::emit(&mut bytes, 0x0a00_0001, 0x0a00_0002, 17, len);
        bytes[24..26].copy_from_slice(&udp_len.to_be_bytes());
        let pseudo = checksum::pseudo_header(0x0a00_0001, 0x0a00_0002, 17, udp_len);
        bytes[26..28].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
        let vnet = VnetHeader {
            flags: F_NEEDS_CSUM,
            gso_type: if segments > 1 { GSO_UDP_L4 } else { 0 },
            hdr_len: 28,
            gso_size: if segments > 1 { SEGMENT as u16 } else { 0 },
            csum_start: 20,
            csum_offset: 6,
        };
        let mut packet = self.io.pool.get();
        packet.fill(&bytes, vnet).expect("a new buffer");
        packet.parse(1500).expect("a valid packet");
        self.links.send(self.now, 0, packet, &mut self.io);
        self.collect();
    }

    fn set(&mut self, spec: LinkSpec) {
        self.links.set(self.now, 0, spec, &mut self.io);
        self.collect();
    }

    /// Advances the time from deadline to deadline up to `end`.
    fn run_until(&mut self, end: Instant) {
        while let Some(at) = self.links.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.links.release(self.now, &mut self.io);
            self.collect();
        }
        self.now = self.now.max(end);
    }

    fn drain(&mut self) {
        while let Some(at) = self.links.deadline() {
            self.run_until(at);
        }
    }

    fn collect(&mut self) {
        let now = self.now;
        self.left.extend(self.io.transmits.drain(..).map(|(_, packet)| (now, packet)));
    }

    /// Numbers of the segments that have left, in order.
    fn numbers(&self) -> Vec<u32> {
        let packets = self.left.iter().map(|(_, packet)| packet.payload().chunks(SEGMENT));
        packets.flatten().map(|part| u32::from_be_bytes([part[0], part[1], part[2], part[3]])).collect()
    }

    fn stats(&self) -> LinkStats {
        self.links.stats().remove(0)
    }

    fn memory(&self) -> u64 {
        self.links.slots[0].shaper.as_ref().map_or(0, |shaper| shaper.backlog().memory)
    }
}

fn rate(bps: u64) -> LinkSpec {
    LinkSpec { rate_bps: Some(bps), limit_bytes: Some(u64::MAX), ..LinkSpec::default() }
}

#[test]
fn loss_lies_in_its_binomial_interval_and_hits_segments_not_super_packets() {
    let mut fixture = Fixture::new(7, ["a", "b"], LinkSpec { loss: 0.01, ..LinkSpec::default() });
    for _ in 0..2500 {
        fixture.send(40);
    }
    let lost = fixture.stats().tx.drops.get(DropCause::Loss);
    let sigma = (1e5_f64 * 0.01 * 0.99).sqrt();
    assert!((lost as f64 - 1000.0).abs() < 1.96 * sigma, "{lost} of 100000");
    assert_eq!(fixture.numbers().len() as u64, 100_000 - lost);
    assert!(fixture.numbers().is_sorted());
    let pieces = fixture.left.len() as u64;
    assert!(pieces <= 2500 + lost, "{pieces} pieces: runs between losses stay whole");
}

#[test]
fn losses_depend_only_on_seed_and_names() {
    let lost = |seed, names| {
        let mut fixture = Fixture::new(seed, names, LinkSpec { loss: 0.1, ..LinkSpec::default() });
        (0..50).for_each(|_| fixture.send(20));
        fixture.numbers()
    };
    assert_eq!(lost(1, ["a", "b"]), lost(1, ["a", "b"]));
    assert_ne!(lost(1, ["a", "b"]), lost(1, ["b", "a"]));
    assert_ne!(lost(1, ["a", "b"]), lost(2, ["a", "b"]));
}

#[test]
fn loss_one_drops_every_segment_and_loss_zero_none() {
    let mut fixture = Fixture::new(1, ["a", "b"], LinkSpec { loss: 1.0, ..LinkSpec::default() });
    fixture.send(40);
    assert!(fixture.numbers().is_empty());
    fixture.set(LinkSpec::default());
    fixture.send(40);
    assert_eq!(fixture.numbers(), (40..80).collect::<Vec<_>>());
}

#[test]
fn a_link_has_only_the_impairments_of_its_specification() {
    let delay = LinkSpec { delay_us: 1_000, ..LinkSpec::default() };
    let mut fixture = Fixture::new(1, ["a", "b"], LinkSpec { loss: 0.5, ..delay.clone() });
    let lost = |fixture: &mut Fixture| {
        let first = fixture.sent;
        fixture.left.clear();
        fixture.send(40);
        fixture.drain();
        let arrived = fixture.numbers();
        (first..first + 40).filter(|number| !arrived.contains(number)).map(|n| n - first).collect::<Vec<_>>()
    };
    let before = lost(&mut fixture);
    fixture.set(delay.clone());
    assert_eq!(lost(&mut fixture), []);
    let names = format!("{:?}", fixture.links.slots[0].shaper);
    assert!(names.contains("Delay") && !names.contains("Loss {"), "{names}");
    fixture.set(LinkSpec { loss: 0.5, ..delay });
    assert_ne!(lost(&mut fixture), before, "the stream of random numbers continues");
}

#[test]
fn a_rate_is_exact_with_headers_of_every_segment() {
    for bps in [10_000_000, 100_000_000, 1_000_000_000, 7_777_777_777] {
        let mut fixture = Fixture::new(1, ["a", "b"], rate(bps));
        for _ in 0..100 {
            fixture.send(40);
        }
        fixture.drain();
        let ideal = 100.0 * 40.0 * 1500.0 * 8.0 * 1e9 / bps as f64;
        let last = fixture.left.last().expect("a packet has left").0;
        assert!((last.nanos() as f64 - ideal).abs() < 2.0, "{bps}: {last:?} for {ideal}");
        let largest =
            fixture.left.iter().map(|(_, packet)| packet.wire_bytes()).max().expect("a packet has left");
        assert!(largest <= (bps / 8000).clamp(1500, 60_000), "{bps}: {largest} bytes in one piece");
    }
}

#[test]
fn every_packet_is_delayed_independently() {
    let mut fixture = Fixture::new(1, ["a", "b"], LinkSpec { delay_us: 20_000, ..LinkSpec::default() });
    for at in 0..10 {
        fixture.run_until(Instant(at * 1_000_000));
        fixture.send(3);
    }
    fixture.drain();
    let times: Vec<u64> = fixture.left.iter().map(|(at, _)| at.nanos()).collect();
    assert_eq!(times, (0..10).map(|at| at * 1_000_000 + 20_000_000).collect::<Vec<_>>());
    assert_eq!(fixture.left[0].1.segments(), 3);
}

#[test]
fn a_full_queue_drops_the_tail_segment_by_segment() {
    let spec = LinkSpec { rate_bps: Some(12_000_000), limit_packets: Some(10), ..LinkSpec::default() };
    let mut fixture = Fixture::new(1, ["a", "b"], spec);
    fixture.send(40);
    fixture.drain();
    assert_eq!(fixture.numbers(), (0..10).collect::<Vec<_>>());
    assert_eq!(fixture.stats().tx.drops.get(DropCause::QueueFull), 30);
    fixture.set(LinkSpec { rate_bps: Some(12_000_000), limit_bytes: Some(100), ..LinkSpec::default() });
    fixture.send(1);
    fixture.send(1);
    fixture.drain();
    assert_eq!(fixture.numbers().len(), 11, "an empty queue accepts one packet for any limit");
}

#[test]
fn a_queue_limit_applies_without_a_rate() {
    let delay = LinkSpec { delay_us: 50_000, ..LinkSpec::default() };
    let limits = [
        LinkSpec { limit_packets: Some(100), ..delay.clone() },
        LinkSpec { limit_bytes: Some(150_000), ..delay.clone() },
        LinkSpec { limit_packets: Some(100), limit_bytes: Some(u64::MAX), loss: 0.1, ..delay },
    ];
    for spec in limits {
        let mut fixture = Fixture::new(1, ["a", "b"], spec.clone());
        for _ in 0..1_000 {
            fixture.send(1);
            fixture.send(40);
            let held = fixture.stats();
            assert!(held.queued_packets <= 100 && held.queued_bytes <= 150_000, "{spec:?}: {held:?}");
        }
        let full = fixture.stats();
        assert_eq!((full.queued_packets, full.queued_bytes), (100, 150_000), "{spec:?}");
        let lost = full.tx.drops.get(DropCause::Loss);
        assert_eq!(full.tx.drops.get(DropCause::QueueFull), 41_000 - 100 - lost);
        fixture.drain();
        assert_eq!(fixture.numbers().len(), 100, "queued packets arrive, and the delay queue is empty again");
        fixture.send(40);
        assert_eq!(fixture.stats().queued_packets + fixture.stats().tx.drops.get(DropCause::Loss) - lost, 40);
    }
}

#[test]
fn a_limit_counts_the_bytes_of_the_segments_that_fit() {
    // Full segments have 1500 bytes and the last one 100, so that a mean would let one too many in.
    let spec = LinkSpec { delay_us: 1_000, limit_bytes: Some(1_550), ..LinkSpec::default() };
    let mut fixture = Fixture::new(1, ["a", "b"], spec);
    fixture.send_bytes(SEGMENT + 72);
    assert_eq!((fixture.stats().queued_packets, fixture.stats().queued_bytes), (1, 1_500));
}

#[test]
fn the_memory_of_one_direction_is_bounded() {
    // For any packet sizes and specifications; packets above the bound are dropped as overload.
    let specs = [
        LinkSpec { delay_us: u64::MAX, ..LinkSpec::default() },
        LinkSpec { delay_us: 600_000_000, loss: 0.5, limit_bytes: Some(u64::MAX), ..LinkSpec::default() },
        LinkSpec { rate_bps: Some(1), limit_packets: Some(u64::MAX), ..LinkSpec::default() },
        LinkSpec { rate_bps: Some(u64::MAX), delay_us: u64::MAX, ..LinkSpec::default() },
    ];
    for (spec, segments) in specs.into_iter().flat_map(|spec| [(spec.clone(), 1), (spec, 44)]) {
        let mut fixture = Fixture::new(1, ["a", "b"], spec.clone());
        let mut packets = 0;
        while fixture.stats().tx.drops.get(DropCause::Congested) < 1_000 {
            fixture.send(segments);
            fixture.left.clear();
            packets += 1;
            assert!(packets < 400_000, "{spec:?} has no bound");
        }
        let held = fixture.memory();
        assert!(held <= limit::MEMORY, "{spec:?}: {held}");
        assert_eq!(fixture.stats().tx.drops.get(DropCause::QueueFull), 0, "{spec:?}");
        assert!(fixture.io.pool.allocated() * 2_048 <= held + (40 << 20), "{spec:?}");
    }
}

#[test]
fn a_link_with_a_large_bandwidth_delay_product_and_no_rate_drops_nothing() {
    // 1 Gbit/s over 100 ms and 10 Gbit/s over 50 ms, in super-packets and in packets of 9000 bytes.
    for (bps, delay_us, segments) in
        [(1e9, 100_000, 44), (1e10, 50_000, 44), (1e9, 100_000, 1), (1e10, 50_000, 6)]
    {
        let mut fixture = Fixture::new(1, ["a", "b"], LinkSpec { delay_us, ..LinkSpec::default() });
        let gap = (segments as f64 * 1500.0 * 8.0 * 1e9 / bps) as u64;
        let end = Instant(3 * delay_us * 1_000);
        while fixture.now < end {
            fixture.send(segments);
            fixture.left.clear();
            fixture.run_until(fixture.now.plus_nanos(gap));
        }
        let stats = fixture.stats();
        assert_eq!(stats.tx.drops.total(), 0);
        let ideal = bps * delay_us as f64 / 8e6;
        assert!((stats.queued_bytes as f64 / ideal - 1.0).abs() < 0.01, "{} of {ideal}", stats.queued_bytes);
    }
}

#[test]
fn a_new_rate_applies_immediately_to_queued_packets() {
    let mut fixture = Fixture::new(1, ["a", "b"], rate(12_000_000));
    fixture.send(40);
    fixture.run_until(Instant(10_500_000));
    assert_eq!(fixture.numbers().len(), 10);
    fixture.set(rate(120_000_000));
    fixture.drain();
    // The second half of a segment at the old rate takes a twentieth of the time at the new one; 29 segments follow.
    let last = fixture.left.last().expect("a packet has left").0;
    assert_eq!(last.nanos(), 10_500_000 + 50_000 + 29 * 100_000);
}

#[test]
fn an_empty_shaper_without_impairments_is_removed() {
    let mut fixture = Fixture::new(1, ["a", "b"], LinkSpec { delay_us: 1_000, ..LinkSpec::default() });
    fixture.send(2);
    fixture.set(LinkSpec::default());
    fixture.send(2);
    assert!(fixture.numbers().is_empty(), "the second must not overtake the first");
    fixture.run_until(Instant(1_000_000));
    assert_eq!(fixture.numbers(), [0, 1, 2, 3]);
    fixture.send(1);
    assert_eq!(fixture.numbers().len(), 5);
    assert!(fixture.links.shaped.is_empty() && fixture.links.deadline().is_none());
}

#[test]
fn a_link_that_goes_down_drops_its_queued_packets() {
    let mut fixture = Fixture::new(1, ["a", "b"], LinkSpec { delay_us: 1_000, ..LinkSpec::default() });
    fixture.send(5);
    fixture.links.set_up(fixture.now, 0, false, &mut fixture.io);
    fixture.send(2);
    fixture.drain();
    assert!(fixture.numbers().is_empty());
    assert_eq!(fixture.stats().tx.drops.get(DropCause::LinkDown), 7);
    fixture.links.set_up(fixture.now, 0, true, &mut fixture.io);
    fixture.send(1);
    fixture.drain();
    assert_eq!(fixture.numbers(), [7]);
}

#[test]
fn a_direction_that_is_down_drops_new_packets_as_link_down_and_delivers_queued_ones() {
    let delayed = LinkSpec { delay_us: 1_000, ..LinkSpec::default() };
    let mut fixture = Fixture::new(1, ["a", "b"], delayed.clone());
    fixture.send(3);
    fixture.set(LinkSpec { down: true, ..delayed.clone() });
    fixture.send(2);
    fixture.drain();
    assert_eq!(fixture.numbers(), [0, 1, 2]);
    let drops = fixture.stats().tx.drops;
    assert_eq!((drops.get(DropCause::LinkDown), drops.get(DropCause::Loss)), (2, 0));
    fixture.set(delayed);
    fixture.send(1);
    fixture.drain();
    assert_eq!(fixture.numbers(), [0, 1, 2, 5]);
}

fn specs() -> impl Strategy<Value = LinkSpec> {
    let rates = prop_oneof![Just(None), (1_000_000u64..10_000_000_000).prop_map(Some)];
    let limits = prop_oneof![Just(None), (1u64..200).prop_map(Some)];
    let loss = prop_oneof![Just(0.0), 0.0..0.5f64];
    let bursts = prop_oneof![Just(None), (1.0..10.0f64).prop_map(Some)];
    let jitters = prop_oneof![Just(0), 0u64..5_000];
    let delays = (0u64..5_000, jitters);
    // One opportunity in 3 ms on average, or 1 and 100 Mbit/s in turn.
    let recordings: [&[u8]; 2] =
        [&[1, 1, 1, 5, 1], &[2, 1, 0, 0xc0, 0x84, 0x3d, 100, 0x80, 0xc2, 0xd7, 0x2f, 100, 1]];
    let traces = prop_oneof![
        Just(None),
        (0..2usize).prop_map(move |index| {
            Some(Trace::decode(recordings[index], true, 1.0, 0).expect("a valid trace"))
        })
    ];
    let all = (rates, delays, loss, bursts, limits, traces);
    all.prop_map(|(rate_bps, delays, loss, loss_burst, limit_packets, trace)| LinkSpec {
        rate_bps: rate_bps.filter(|_| trace.is_none()),
        trace,
        delay_us: delays.0,
        jitter_us: delays.1.min(delays.0),
        loss,
        loss_burst,
        limit_packets,
        ..LinkSpec::default()
    })
}

/// The same, sometimes with duplication and corruption, and a burst of the rate.
fn impaired_specs() -> impl Strategy<Value = LinkSpec> {
    let share = || prop_oneof![Just(0.0), 0.0..0.5f64, Just(1.0)];
    let bursts = prop_oneof![Just(None), (1_500u64..100_000).prop_map(Some)];
    (specs(), share(), share(), bursts).prop_map(|(spec, duplicate, corrupt, rate_burst_bytes)| LinkSpec {
        duplicate,
        corrupt,
        rate_burst_bytes,
        ..spec
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn live_changes_never_reorder_and_every_segment_is_accounted_for(
        steps in proptest::collection::vec((impaired_specs(), 0u64..3_000_000, 1usize..44), 1..20),
        reorder in prop_oneof![Just(0.0), 0.0..0.9f64],
    ) {
        let mut fixture = Fixture::new(3, ["a", "b"], LinkSpec::default());
        for (index, (spec, pause, segments)) in steps.into_iter().enumerate() {
            let reorder = if index % 3 == 1 { reorder } else { 0.0 };
            fixture.set(LinkSpec { reorder, ..spec });
            fixture.send(segments);
            fixture.run_until(fixture.now.plus_nanos(pause));
            let stats = fixture.stats();
            let seen = stats.tx.packets + stats.tx.drops.total() + stats.queued_packets;
            prop_assert_eq!(seen, u64::from(fixture.sent) + stats.impaired.duplicate);
        }
        fixture.drain();
        let stats = fixture.stats();
        let numbers = fixture.numbers();
        if stats.impaired.corrupt == 0 {
            let late = numbers.windows(2).filter(|pair| pair[0] > pair[1]).count() as u64;
            prop_assert!(late <= stats.impaired.reorder);
            let copies = numbers.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64;
            prop_assert!(copies <= stats.impaired.duplicate);
        }
        let sent = u64::from(fixture.sent) + stats.impaired.duplicate;
        prop_assert_eq!(stats.tx.packets + stats.tx.drops.total(), sent);
        prop_assert_eq!((stats.queued_packets, stats.queued_bytes), (0, 0));
        prop_assert_eq!(stats.tx.bytes, stats.tx.packets * 1500);
    }
}
