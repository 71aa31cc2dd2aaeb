//! Test traces in virtual time: what leaves at which time of the trace.

use std::collections::BTreeMap;

use super::*;
use crate::{ClassKey, Classes, QueueDiscipline, Scheduler};

const MS: u64 = 1_000_000;

/// Opportunities at milliseconds, encoded.
fn opportunities(list: &[(u64, u64)]) -> Vec<u8> {
    let mut bytes = vec![1];
    let mut before = 0;
    for (at, count) in list {
        put(&mut bytes, at - before);
        put(&mut bytes, *count);
        before = *at;
    }
    bytes
}

/// Rows of milliseconds and the numbers of the columns, encoded.
fn steps(columns: u8, rows: &[(u64, &[u64])]) -> Vec<u8> {
    let mut bytes = vec![2, columns];
    let mut before = 0;
    for (at, numbers) in rows {
        put(&mut bytes, (at - before) * 1_000);
        numbers.iter().for_each(|number| put(&mut bytes, *number));
        before = *at;
    }
    bytes
}

fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn trace(bytes: &[u8], looped: bool, scale: f64, shift_us: u64) -> LinkSpec {
    let trace = Trace::decode(bytes, looped, scale, shift_us).expect("a valid trace");
    LinkSpec { trace: Some(trace), limit_bytes: Some(u64::MAX), ..LinkSpec::default() }
}

/// The times in milliseconds at which segments have left.
fn times(fixture: &Fixture) -> Vec<f64> {
    let each = fixture.left.iter();
    each.flat_map(|(at, packet)| vec![at.nanos() as f64 / 1e6; packet.segments() as usize]).collect()
}

/// The time at which a segment has left that is number `index` of a long queue: when the opportunities before suffice
/// for all bytes up to it.
fn expected(opportunities: impl Iterator<Item = u64>, bytes: f64, segments: usize) -> Vec<f64> {
    let mut capacity = 0.0;
    let mut found = Vec::new();
    for at in opportunities {
        capacity += bytes;
        while capacity + 1e-6 >= 1500.0 * (found.len() + 1) as f64 {
            found.push(at as f64);
            if found.len() == segments {
                return found;
            }
        }
    }
    found
}

#[test]
fn a_long_queue_leaves_exactly_at_the_opportunities() {
    let list = [(0, 1), (3, 2), (4, 1), (40, 130), (100, 1)];
    let one_round = || list.iter().flat_map(|&(at, count)| vec![at; count as usize]).collect::<Vec<_>>();
    let rounds = (0..).flat_map(|round| one_round().into_iter().map(move |at| round * 100 + at));
    for (scale, segments) in [(1.0, 1), (1.0, 44), (0.5, 1), (0.5, 44), (3.7, 44), (0.013, 1)] {
        let mut fixture = Fixture::new(1, ["a", "b"], trace(&opportunities(&list), true, scale, 0));
        let count = 352 / segments;
        (0..count).for_each(|_| fixture.send(segments));
        fixture.drain();
        let wanted = expected(rounds.clone(), 1504.0 * scale, count * segments);
        assert_eq!(times(&fixture), wanted, "scale {scale}, {segments} segments");
        assert_eq!(fixture.numbers(), (0..(count * segments) as u32).collect::<Vec<_>>());
    }
}

#[test]
fn opportunities_without_a_packet_are_lost() {
    let spec = trace(&opportunities(&[(10, 3), (20, 1)]), true, 1.0, 0);
    let mut fixture = Fixture::new(1, ["a", "b"], spec);
    for (at, send) in [(9 * MS, 1), (10 * MS + 1, 2), (3_000 * MS, 2)] {
        fixture.run_until(Instant(at));
        fixture.send(send);
    }
    fixture.drain();
    // The second packet comes after the three of 10 ms, its first segment leaves at 20 ms. The third one comes at the
    // end of a repetition, whose opportunity it uses.
    assert_eq!(times(&fixture), [10.0, 20.0, 30.0, 3_000.0, 3_010.0]);
}

#[test]
fn a_shift_starts_within_the_trace_and_its_end_is_final_without_repetition() {
    let list = opportunities(&[(10, 1), (20, 1), (50, 1)]);
    let mut fixture = Fixture::new(1, ["a", "b"], trace(&list, false, 1.0, 15_000));
    (0..3).for_each(|_| fixture.send(1));
    fixture.drain();
    assert_eq!(times(&fixture), [5.0, 35.0]);
    assert_eq!(fixture.stats().queued_packets, 1);
    fixture.run_until(Instant(60 * MS));
    fixture.set(rate(12_000_000));
    fixture.drain();
    // The rest of the segment: 8 of its bytes were transmitted with the two before it.
    assert_eq!(fixture.left[2].0.nanos(), 60 * MS + 1_492 * 8 * 1_000_000_000 / 12_000_000);

    let mut fixture = Fixture::new(1, ["a", "b"], trace(&list, true, 1.0, 115_000));
    (0..3).for_each(|_| fixture.send(1));
    fixture.drain();
    assert_eq!(times(&fixture), [5.0, 35.0, 45.0], "the shift is taken modulo the length");
}

#[test]
fn rates_of_rows_hold_from_their_times_on() {
    // 12 Mbit/s transmit a segment in 1 ms: 10 in the first 10 ms, none up to 15 ms, then 10 per ms.
    let rows: [(u64, &[u64]); 3] = [(0, &[12_000_000]), (10, &[0]), (15, &[120_000_000])];
    for segments in [1, 30] {
        let mut fixture = Fixture::new(1, ["a", "b"], trace(&steps(1, &rows), false, 1.0, 0));
        (0..30 / segments).for_each(|_| fixture.send(segments));
        fixture.drain();
        let last = fixture.left.last().expect("a packet has left").0;
        assert_eq!(last.nanos(), 17 * MS);
        assert_eq!(times(&fixture).iter().filter(|at| **at <= 10.0).count(), 10);
        assert!(!times(&fixture).iter().any(|at| *at > 10.0 && *at < 15.0));
    }
}

#[test]
fn rows_apply_at_their_times_even_if_the_timer_is_late() {
    let rows: [(u64, &[u64]); 3] = [(0, &[12_000_000]), (10, &[0]), (15, &[120_000_000])];
    let mut fixture = Fixture::new(1, ["a", "b"], trace(&steps(1, &rows), false, 1.0, 0));
    (0..100).for_each(|_| fixture.send(1));
    fixture.now = Instant(16 * MS);
    fixture.links.release(fixture.now, &mut fixture.io);
    fixture.collect();
    assert_eq!(fixture.numbers().len(), 20);
}

#[test]
fn rows_of_rate_delay_and_loss_repeat_scaled_and_shifted() {
    let rows: [(u64, &[u64]); 4] = [
        (0, &[6_000_000, 5_000, 0]),
        (100, &[6_000_000, 7_000, 0]),
        (200, &[6_000_000, 0, 1_000_000_000]),
        (300, &[1, 1, 1]), // the end of the repetition
    ];
    let mut fixture = Fixture::new(1, ["a", "b"], trace(&steps(7, &rows), true, 2.0, 50_000));
    // The trace is at 60, 160, 260, 300, 400 and 500 ms then.
    for at in [10, 110, 210, 250, 350, 450] {
        fixture.run_until(Instant(at * MS));
        fixture.send(1);
    }
    fixture.drain();
    assert_eq!(times(&fixture), [16.0, 118.0, 256.0, 358.0]);
    assert_eq!(fixture.stats().tx.drops.get(DropCause::Loss), 2);
}

#[test]
fn a_live_change_to_and_from_a_trace_keeps_the_queue() {
    let mut fixture = Fixture::new(1, ["a", "b"], rate(12_000_000));
    fixture.send(40);
    fixture.run_until(Instant(10 * MS + MS / 2));
    let spec = trace(&opportunities(&[(1, 1)]), true, 1.0, 0);
    fixture.set(spec.clone());
    fixture.run_until(Instant(20 * MS + MS / 2));
    // 750 bytes of the segment in transmission are left, and ten opportunities of 1504 bytes transmit 9 more.
    assert_eq!(fixture.numbers().len(), 20);
    assert_eq!(fixture.left[10].0.nanos(), 11 * MS + MS / 2);
    fixture.set(LinkSpec { delay_us: 1_000, ..spec });
    fixture.run_until(Instant(30 * MS + MS / 2));
    assert_eq!(fixture.numbers().len(), 29, "the trace plays on; one segment is in the delay");
    fixture.set(LinkSpec { delay_us: 1_000, ..rate(1_200_000_000) });
    fixture.drain();
    assert_eq!(fixture.numbers(), (0..40).collect::<Vec<_>>());
    assert_eq!(fixture.stats().tx.drops.total(), 0);
}

#[test]
fn a_trace_starts_again_when_the_link_comes_up_and_not_with_other_changes() {
    let spec = trace(&opportunities(&[(70, 1), (100, 1)]), true, 1.0, 0);
    let mut fixture = Fixture::new(1, ["a", "b"], spec.clone());
    fixture.run_until(Instant(30 * MS));
    let again = trace(&opportunities(&[(70, 1), (100, 1)]), true, 1.0, 0);
    fixture.set(LinkSpec { limit_packets: Some(5), ..again });
    fixture.send(1);
    fixture.drain();
    fixture.run_until(Instant(90 * MS));
    fixture.links.set_up(fixture.now, 0, false, &mut fixture.io);
    fixture.run_until(Instant(110 * MS));
    fixture.links.set_up(fixture.now, 0, true, &mut fixture.io);
    fixture.send(1);
    fixture.drain();
    let other = trace(&opportunities(&[(70, 1), (100, 1)]), true, 2.0, 0);
    fixture.set(other);
    fixture.send(1);
    fixture.drain();
    assert_eq!(times(&fixture), [70.0, 180.0, 250.0]);
}

#[test]
fn the_default_limit_follows_the_mean_rate_of_the_trace() {
    // 120.32 Mbit/s: 50 ms of it are 752,000 bytes.
    let traces = [opportunities(&[(100, 1_000)]), steps(1, &[(0, &[0]), (50, &[240_640_000]), (100, &[9])])];
    for bytes in traces {
        let spec = LinkSpec { limit_bytes: None, ..trace(&bytes, true, 1.0, 0) };
        let mut fixture = Fixture::new(1, ["a", "b"], spec);
        (0..1_000).for_each(|_| fixture.send(1));
        assert_eq!(fixture.stats().queued_packets, 501);
    }
}

#[test]
fn what_is_no_trace_is_refused() {
    let good = opportunities(&[(0, 1), (5, 2)]);
    assert!(Trace::decode(&good, true, 1.0, 0).is_ok());
    for bad in
        [&[][..], &[1], &[3, 0, 1], &[1, 0], &[1, 0, 0], &[1, 0, 0x80], &[1, 0, 1, 0, 1], &[2, 1], &[2, 0, 0]]
    {
        assert!(Trace::decode(bad, false, 1.0, 0).is_err(), "{bad:?}");
    }
    assert!(
        Trace::decode(&[2, 4, 0, 0x81, 0x94, 0xeb, 0xdc, 0x03], false, 1.0, 0).is_err(),
        "a loss above 1"
    );
    assert!(Trace::decode(&opportunities(&[(0, 1)]), true, 1.0, 0).is_err(), "no end");
    assert!(Trace::decode(&good, false, 1.0, 5_001).is_err(), "a shift beyond the end");
    for scale in [0.0, -1.0, f64::NAN, 1e9] {
        assert!(Trace::decode(&good, true, scale, 0).is_err(), "{scale}");
    }
    let spec = LinkSpec { rate_bps: Some(1), ..trace(&good, true, 1.0, 0) };
    assert!(spec.check().expect_err("two rates").contains("rate"));
}

#[test]
fn a_queue_that_waits_for_ever_survives_the_end_of_its_trace() {
    let list = opportunities(&[(1, 1)]);
    let spec = LinkSpec { delay_us: 1_000, ..trace(&list, false, 1.0, 0) };
    let mut fixture = Fixture::new(1, ["a", "b"], spec);
    (0..4).for_each(|_| fixture.send(1));
    fixture.run_until(Instant(50 * MS));
    // Jitter takes the place of the delay while packets wait for a serializer that is not needed any more.
    fixture.set(LinkSpec { delay_us: 1_000, jitter_us: 100, ..LinkSpec::default() });
    fixture.drain();
    assert_eq!(fixture.numbers(), [0, 1, 2, 3]);
    assert_eq!(fixture.stats().tx.drops.total(), 0);
}

#[test]
fn queues_of_a_trace_have_disciplines_schedulers_and_limits_in_time() {
    // 12.032 Mbit/s, and at once 10 opportunities in 10 ms; a limit of 20 ms of the mean are 30,080 bytes.
    let codel = QueueDiscipline::Codel { target_us: 2_000, interval_us: 50_000 };
    let classes = Classes { by: ClassKey::Flow, weights: BTreeMap::new() };
    let steps = steps(1, &[(0, &[0]), (10, &[24_064_000]), (20, &[0])]);
    for list in [opportunities(&[(10, 10)]), steps] {
        let spec = LinkSpec {
            limit_bytes: None,
            limit_us: Some(20_000),
            queue: codel.clone(),
            scheduler: Scheduler::Drr(classes.clone()),
            ..trace(&list, true, 1.0, 0)
        };
        assert_eq!(spec.check(), Ok(()));
        let mut fixture = Fixture::new(1, ["a", "b"], spec);
        fixture.send(44);
        assert_eq!(fixture.stats().queued_bytes, 30_000);
        assert_eq!(fixture.stats().tx.drops.get(DropCause::QueueFull), 24);
        for at in 1..400 {
            fixture.run_until(Instant(at * 5 * MS));
            fixture.send(10);
        }
        let early = fixture.stats().tx.drops.get(DropCause::QueueEarly);
        let left = fixture.numbers().len();
        assert!(early > 5, "{early} dropped early of {left}");
        assert!((1_900..=2_010).contains(&left), "{left} segments in 2 s");
    }
}
