//! Test duplication, reordering, corruption, bursts of the rate and tables of jitter, in virtual time.

use std::sync::Arc;

use super::statistics::{delays, mean_and_deviation, COUNT};
use super::*;
use crate::stats::ImpairedCounters;

fn duplicate(share: f64) -> LinkSpec {
    LinkSpec { duplicate: share, ..LinkSpec::default() }
}

fn reorder(share: f64, gap: Option<u32>) -> LinkSpec {
    LinkSpec { reorder: share, reorder_gap: gap, ..LinkSpec::default() }
}

fn corrupt(share: f64) -> LinkSpec {
    LinkSpec { corrupt: share, ..LinkSpec::default() }
}

impl Fixture {
    /// Sends super-packets of `segments`, `gap` nanoseconds apart, and returns the numbers that leave, in order.
    fn numbers_of(&mut self, count: u32, segments: usize, gap: u64) -> Vec<u32> {
        let mut numbers = Vec::new();
        for _ in 0..count as usize / segments {
            self.send(segments);
            self.run_until(self.now.plus_nanos(gap));
            numbers.extend(self.numbers());
            self.left.drain(..).for_each(|(_, packet)| self.io.pool.put(packet));
        }
        self.drain();
        numbers.extend(self.numbers());
        numbers
    }

    /// Whether each segment that left has a flipped bit in its payload.
    fn flipped(&self) -> Vec<bool> {
        let packets = self.left.iter().map(|(_, packet)| {
            // The payload is zero behind the number.
            packet.payload().chunks(SEGMENT).map(|part| part[4..].iter().any(|&byte| byte != 0))
        });
        packets.flatten().collect()
    }

    fn impaired(&self) -> ImpairedCounters {
        self.stats().impaired
    }
}

/// Asserts that `hits` of a million lie in the 95 % binomial interval of a probability.
fn check_share(hits: u64, share: f64) {
    let deviation = (f64::from(COUNT) * share * (1.0 - share)).sqrt();
    let expected = f64::from(COUNT) * share;
    assert!((hits as f64 - expected).abs() < 1.96 * deviation, "{hits} for {expected}");
}

/// The numbers that occur twice, each directly after itself.
fn twice(numbers: &[u32]) -> Vec<u32> {
    numbers.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect()
}

#[test]
fn the_stated_share_is_duplicated_and_copies_follow_their_originals() {
    for (share, segments) in [(0.001, 1), (0.01, 40), (0.5, 40)] {
        let mut fixture = Fixture::new(7, ["a", "b"], duplicate(share));
        let numbers = fixture.numbers_of(COUNT, segments, 0);
        let copies = twice(&numbers);
        check_share(copies.len() as u64, share);
        assert_eq!(
            fixture.impaired(),
            ImpairedCounters { duplicate: copies.len() as u64, ..Default::default() }
        );
        assert!(numbers.is_sorted() && numbers.len() == COUNT as usize + copies.len());
        assert_eq!(fixture.stats().tx.packets, numbers.len() as u64);
    }
}

#[test]
fn a_copy_takes_its_own_time_and_room_in_the_queue() {
    let spec = LinkSpec { limit_packets: Some(10), ..duplicate(1.0) };
    let mut fixture = Fixture::new(1, ["a", "b"], LinkSpec { rate_bps: Some(12_000_000), ..spec });
    fixture.send(40);
    assert_eq!(fixture.stats().queued_packets, 10);
    assert_eq!(fixture.stats().tx.drops.get(DropCause::QueueFull), 70);
    fixture.drain();
    assert_eq!(fixture.numbers(), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
    assert_eq!(fixture.now, Instant(10_000_000));
}

#[test]
fn the_memory_bound_counts_copies() {
    let mut fixture = Fixture::new(1, ["a", "b"], LinkSpec { delay_us: u64::MAX, ..duplicate(1.0) });
    while fixture.stats().tx.drops.get(DropCause::Congested) < 1_000 {
        fixture.send(44);
        assert!(fixture.memory() <= limit::MEMORY);
    }
}

/// The segments that left after a later one, each with the number of those.
fn overtaken(numbers: &[u32]) -> Vec<(u32, usize)> {
    let late = |&at: &usize| at > 0 && numbers[at] < numbers[at - 1];
    let before = |at: usize| numbers[..at].iter().rev().take_while(|&&other| other > numbers[at]).count();
    (0..numbers.len()).filter(late).map(|at| (numbers[at], before(at))).collect()
}

#[test]
fn the_stated_share_is_overtaken_by_as_many_segments_as_stated() {
    for (share, gap, segments, delay_us) in
        [(0.001, None, 1, 0), (0.005, Some(3), 40, 0), (0.005, Some(3), 40, 1_000), (0.01, Some(1), 1, 5_000)]
    {
        let mut fixture = Fixture::new(8, ["a", "b"], LinkSpec { delay_us, ..reorder(share, gap) });
        let numbers = fixture.numbers_of(COUNT, segments, 20_000);
        check_share(fixture.impaired().reorder, share);
        let late = overtaken(&numbers);
        // Two selected segments that follow each other leave together, and look like one here.
        assert!(late.len() as f64 > fixture.impaired().reorder as f64 * 0.97, "{} {gap:?}", late.len());
        let gap = gap.unwrap_or(1) as usize;
        let exact = late.iter().filter(|(_, count)| *count == gap).count();
        assert!(exact as f64 > 0.97 * late.len() as f64, "{exact} of {}", late.len());
        let mut sorted = numbers;
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..COUNT), "every segment arrives once");
    }
}

#[test]
fn a_segment_that_nothing_overtakes_leaves_after_a_bounded_time() {
    let rate = |bps, gap| LinkSpec { rate_bps: Some(bps), ..reorder(1.0, Some(gap)) };
    for (spec, wait) in [
        (reorder(1.0, None), 10_000_000),
        (LinkSpec { delay_us: 2_000, ..reorder(1.0, None) }, 2_000_000 + 10_000_000),
        (LinkSpec { delay_us: 30_000, ..reorder(1.0, None) }, 60_000_000),
        // A millisecond of transmission, and two for the packets that should overtake.
        (rate(12_000_000, 2), 1_000_000 + 10_000_000 + 2_000_000),
        (rate(12_000_000, u32::MAX), 1_000_000 + 10_000_000 + 1_000_000_000),
    ] {
        let mut fixture = Fixture::new(1, ["a", "b"], spec.clone());
        fixture.send(1);
        fixture.drain();
        assert_eq!((fixture.now, fixture.numbers().len()), (Instant(wait), 1), "{spec:?}");
        assert_eq!(fixture.impaired(), ImpairedCounters::default(), "late, but not overtaken");
    }
}

#[test]
fn removed_reordering_releases_what_it_holds() {
    let mut fixture = Fixture::new(1, ["a", "b"], reorder(1.0, None));
    fixture.send(40);
    assert_eq!((fixture.numbers().len(), fixture.stats().queued_packets), (0, 40));
    fixture.set(LinkSpec::default());
    fixture.send(1);
    assert_eq!(fixture.numbers(), (0..=40).collect::<Vec<_>>());
    assert_eq!(fixture.stats().queued_packets, 0);
}

#[test]
fn a_held_segment_keeps_its_copy_behind_it() {
    let spec = LinkSpec { duplicate: 1.0, ..reorder(0.1, Some(2)) };
    let mut fixture = Fixture::new(7, ["a", "b"], spec);
    let numbers = fixture.numbers_of(2_000, 40, 0);
    assert_eq!((numbers.len(), twice(&numbers).len()), (4_000, 2_000));
    assert!(!numbers.is_sorted());
}

#[test]
fn the_stated_share_has_one_flipped_bit_and_a_wrong_checksum() {
    for (share, segments) in [(0.001, 1), (0.01, 40)] {
        let mut fixture = Fixture::new(7, ["a", "b"], corrupt(share));
        let mut hits = 0;
        for _ in 0..COUNT as usize / segments {
            fixture.send(segments);
            for (_, mut packet) in std::mem::take(&mut fixture.left) {
                if !packet.vnet().needs_checksum() {
                    hits += 1;
                    check_flipped(&mut packet);
                }
                fixture.io.pool.put(packet);
            }
        }
        check_share(hits, share);
        assert_eq!(fixture.impaired(), ImpairedCounters { corrupt: hits, ..Default::default() });
    }
}

/// Asserts that a segment's checksum is complete and wrong, and right once one bit behind the number, or in it, is
/// flipped back.
fn check_flipped(packet: &mut Packet) {
    assert_eq!((packet.segments(), packet.vnet()), (1, VnetHeader::default()));
    assert!(!crate::segment::has_good_checksum(packet));
    let header = crate::wire::checksum::of(&packet.bytes()[..20]);
    assert_eq!(header, 0, "the IP header is intact");
    let bytes = packet.bytes_mut().expect("a buffer of its own");
    if let Some(at) = bytes[32..].iter().position(|&byte| byte != 0).map(|at| at + 32) {
        assert_eq!(bytes[at].count_ones(), 1);
        bytes[at] = 0;
        assert!(crate::segment::has_good_checksum(packet));
    }
}

#[test]
fn a_shared_buffer_is_not_flipped() {
    let mut fixture = Fixture::new(1, ["a", "b"], LinkSpec::default());
    for segments in [1, 40] {
        fixture.set(LinkSpec::default());
        fixture.left.clear();
        fixture.send(segments);
        let original = fixture.left.remove(0).1;
        let before = original.bytes().to_vec();
        fixture.set(corrupt(1.0));
        fixture.links.send(Instant::ZERO, 0, original.clone_ref(), &mut fixture.io);
        fixture.collect();
        assert_eq!(fixture.left.len(), segments);
        assert_eq!(original.bytes(), before);
    }
}

#[test]
fn a_copy_of_a_corrupted_segment_is_corrupted_too() {
    let mut fixture = Fixture::new(1, ["a", "b"], LinkSpec { corrupt: 1.0, ..duplicate(1.0) });
    fixture.send(40);
    assert_eq!(fixture.left.len(), 80);
    for pair in fixture.left.chunks(2) {
        assert_eq!(pair[0].1.bytes(), pair[1].1.bytes());
    }
}

#[test]
fn a_packet_without_payload_gets_a_wrong_checksum() {
    let mut pool = Pool::standalone();
    for (protocol, header, offset) in [(6, 20, Some(16)), (17, 8, Some(6)), (1, 8, Some(2)), (47, 0, None)] {
        let mut bytes = vec![0; 20 + header];
        crate::wire::ip::emit(&mut bytes, 0x0a00_0001, 0x0a00_0002, protocol, 20 + header as u16);
        if protocol == 6 {
            bytes[32] = 0x50;
        }
        for choice in [0, 1, 0xffff_ffff] {
            let mut packet = pool.get();
            packet.fill(&bytes, VnetHeader::default()).expect("a new buffer");
            packet.parse(1500).expect("a valid packet");
            let flipped = crate::segment::flip_bit(packet, choice, &mut pool);
            let changed: Vec<usize> =
                (0..bytes.len()).filter(|&at| flipped.bytes()[at] != bytes[at]).collect();
            let checksum = offset.map_or(0..0, |offset| 20 + offset..22 + offset);
            assert_eq!(changed.len(), usize::from(offset.is_some()));
            assert!(changed.iter().all(|at| checksum.contains(at)), "{protocol}: {changed:?}");
        }
    }
}

/// What happened to the segments of a link: those lost, those that occur twice, those overtaken, those corrupted.
fn fates(spec: LinkSpec, seed: u64) -> [Vec<u32>; 4] {
    let mut fixture = Fixture::new(seed, ["a", "b"], spec);
    (0..100).for_each(|_| fixture.send(20));
    fixture.drain();
    let numbers = fixture.numbers();
    let flipped = numbers.iter().zip(fixture.flipped()).filter(|(_, flipped)| *flipped);
    let mut flipped: Vec<u32> = flipped.map(|(&number, _)| number).collect();
    flipped.sort_unstable();
    flipped.dedup();
    let late = overtaken(&numbers).into_iter().map(|(number, _)| number).collect();
    let lost = (0..2_000).filter(|number| !numbers.contains(number)).collect();
    [lost, twice(&numbers), late, flipped]
}

#[test]
fn draws_depend_on_the_seed_and_not_on_other_impairments() {
    let all = LinkSpec { loss: 0.05, duplicate: 0.05, corrupt: 0.05, ..LinkSpec::default() };
    let mixed = LinkSpec { jitter_us: 500, delay_us: 1_000, rate_bps: Some(1_000_000_000), ..all.clone() };
    let [lost, copied, _, flipped] = fates(mixed.clone(), 1);
    assert_eq!(fates(mixed.clone(), 1), fates(mixed.clone(), 1));
    assert_ne!(fates(mixed.clone(), 1), fates(mixed, 2));
    assert_eq!(fates(LinkSpec { loss: 0.05, ..LinkSpec::default() }, 1)[0], lost);
    // The others are the same apart from what loss takes.
    let survive = |numbers: Vec<u32>| numbers.into_iter().filter(|n| !lost.contains(n)).collect::<Vec<_>>();
    assert_eq!(survive(fates(duplicate(0.05), 1)[1].clone()), copied);
    assert_eq!(survive(fates(corrupt(0.05), 1)[3].clone()), flipped);
    assert!(copied.len() > 60 && flipped.len() > 60 && copied != flipped);
    let selected = fates(reorder(0.05, None), 1)[2].clone();
    let with_loss = fates(LinkSpec { loss: 0.05, ..reorder(0.05, None) }, 1)[2].clone();
    let common = with_loss.iter().filter(|number| selected.contains(number)).count();
    assert!(common * 100 > with_loss.len() * 95, "{common} of {}", with_loss.len());
}

#[test]
fn a_burst_leaves_at_once_and_the_rate_holds_afterwards() {
    for bps in [64_000, 12_000_000, 1_000_000_000, 40_000_000_000, 400_000_000_000] {
        let spec = LinkSpec { rate_burst_bytes: Some(15_000), ..rate(bps) };
        let mut fixture = Fixture::new(1, ["a", "b"], spec);
        for _ in 0..100 {
            fixture.send(1);
        }
        fixture.run_until(fixture.now);
        // The bytes of the bucket but those of the packet whose transmission has begun.
        assert_eq!(fixture.left.len(), 9, "{bps}");
        fixture.drain();
        let ideal = 91 * 12_000 * 1_000_000_000 / u128::from(bps);
        assert!(u128::from(fixture.now.nanos()).abs_diff(ideal) <= 1, "{bps}: {:?} for {ideal}", fixture.now);
        // An idle time of five packets fills half of the bucket.
        let idle = u64::try_from(5 * 12_000 * 1_000_000_000 / u128::from(bps)).expect("a short time");
        let start = fixture.now.plus_nanos(idle + 1);
        fixture.run_until(start);
        fixture.left.clear();
        (0..20).for_each(|_| fixture.send(1));
        fixture.run_until(start);
        assert_eq!(fixture.left.len(), 5, "{bps}");
    }
}

#[test]
fn a_burst_of_one_packet_is_the_default() {
    let times = |rate_burst_bytes| {
        let mut fixture = Fixture::new(1, ["a", "b"], LinkSpec { rate_burst_bytes, ..rate(7_777_777) });
        for step in 0..50 {
            fixture.send(1 + step % 7);
            fixture.run_until(fixture.now.plus_nanos(step as u64 * 400_000));
        }
        fixture.set(LinkSpec { rate_burst_bytes, ..rate(77_777_777) });
        fixture.drain();
        fixture.left.iter().map(|(at, packet)| (*at, packet.wire_bytes())).collect::<Vec<_>>()
    };
    assert_eq!(times(None), times(Some(1_500)));
    assert_ne!(times(None), times(Some(3_000)));
}

#[test]
fn a_changed_burst_and_rate_keep_order_and_bytes() {
    let mut fixture = Fixture::new(1, ["a", "b"], rate(12_000_000));
    fixture.send(40);
    fixture.set(LinkSpec { rate_burst_bytes: Some(15_000), ..rate(12_000_000) });
    assert_eq!(fixture.left.len(), 9, "the new bucket is full");
    fixture.set(rate(12_000_000));
    fixture.drain();
    assert_eq!(fixture.numbers(), (0..40).collect::<Vec<_>>());
    assert_eq!(fixture.now, Instant(40_000_000), "bytes sent early are paid for");
}

/// An exponential distribution as a table, standardised.
fn exponential() -> Arc<[f64]> {
    let values: Vec<f64> = (0..100).map(|i| -(1.0 - f64::from(i) / 100.0_f64).ln()).collect();
    let (mean, deviation) = Distribution::table_moments(&values);
    values.iter().map(|value| (value - mean) / deviation).collect()
}

#[test]
fn jitter_follows_a_table() {
    let spec = LinkSpec {
        delay_us: 20_000,
        jitter_us: 2_000,
        jitter_table: Some(exponential()),
        jitter_reorder: true,
        ..LinkSpec::default()
    };
    let mut times = delays(&spec, COUNT / 5, 1_000_000);
    let (mean, deviation) = mean_and_deviation(&times);
    assert!((deviation / 2e6 - 1.0).abs() < 0.01 && (mean / 20e6 - 1.0).abs() < 0.001, "{mean} {deviation}");
    times.sort_unstable();
    for (share, value) in exponential().iter().enumerate().step_by(9) {
        let index = (share * times.len() / 99).min(times.len() - 1);
        let expected = 20e6 + 2e6 * value;
        assert!((times[index] as f64 - expected).abs() < 60_000.0, "{share}: {} {expected}", times[index]);
    }
    let ordered = LinkSpec { jitter_reorder: false, ..spec };
    let times = delays(&ordered, COUNT / 5, 8_000_000);
    let (_, deviation) = mean_and_deviation(&times);
    assert!((deviation / 2e6 - 1.0).abs() < 0.05, "{deviation}");
}

#[test]
fn impossible_values_are_refused() {
    let table = |values: &[f64]| LinkSpec { jitter_table: Some(values.into()), ..LinkSpec::default() };
    let burst = |bytes, mtu| LinkSpec { rate_burst_bytes: Some(bytes), mtu, ..rate(1_000_000) };
    let uniform = 3.0_f64.sqrt();
    for good in [
        duplicate(1.0),
        reorder(0.1, None),
        reorder(0.1, Some(1)),
        corrupt(1e-12),
        burst(1_500, None),
        burst(576, Some(576)),
        table(&[-uniform, uniform]),
        LinkSpec { jitter_table: Some(exponential()), ..LinkSpec::default() },
    ] {
        assert_eq!(good.check(), Ok(()), "{good:?}");
    }
    for bad in [
        duplicate(1.1),
        duplicate(f64::NAN),
        reorder(-0.1, None),
        reorder(0.1, Some(0)),
        reorder(0.0, Some(1)),
        corrupt(f64::INFINITY),
        burst(1_499, None),
        burst(1_500, Some(9_000)),
        table(&[]),
        table(&[0.0]),
        table(&[uniform, -uniform]),
        table(&[-uniform, f64::NAN, uniform]),
        table(&[-uniform, f64::INFINITY]),
        table(&[0.0, 2.0 * uniform]),
        table(&[-1.0, 1.0]),
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
    }
}
