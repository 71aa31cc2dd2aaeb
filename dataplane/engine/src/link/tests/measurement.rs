//! What a link measures of itself.

use super::*;

fn total(buckets: impl Iterator<Item = (u64, u64)>) -> u64 {
    buckets.map(|(_, count)| count).sum()
}

#[test]
fn a_punctual_link_measures_what_was_requested() {
    let spec = LinkSpec { delay_us: 20_000, ..rate(10_000_000) };
    let mut fixture = Fixture::new(7, ["a", "b"], spec);
    for _ in 0..20 {
        fixture.send(40);
    }
    fixture.drain();
    let stats = fixture.stats();
    let (measured, sent) = (&stats.measured, stats.tx.packets);
    assert_eq!((measured.offered, total(measured.delay.buckets()), sent), (800, 800, 800));
    assert!(measured.delay.buckets().all(|(nanos, _)| nanos.abs_diff(20_000_000) <= 20_000_000 / 128));
    assert!((measured.delay_sum_us / 800.0 - 20_000.0).abs() < 1e-3);
    assert_eq!(measured.late.buckets().collect::<Vec<_>>(), [(0, 800)]);
    let bps = measured.busy_bytes as f64 * 8e9 / measured.busy_ns as f64;
    assert!((bps / 1e7 - 1.0).abs() < 1e-6, "{bps}");
}

#[test]
fn a_late_release_is_measured_as_lateness_and_as_delay() {
    let spec = LinkSpec { delay_us: 1_000, ..LinkSpec::default() };
    let mut fixture = Fixture::new(7, ["a", "b"], spec);
    fixture.send(1);
    fixture.now = fixture.now.plus_nanos(3_000_000);
    fixture.links.release(fixture.now, &mut fixture.io);
    let measured = fixture.stats().measured;
    assert!((measured.late_sum_us - 2_000.0).abs() < 1e-6, "{measured:?}");
    assert!((measured.delay_sum_us - 3_000.0).abs() < 1e-6, "{measured:?}");
}

#[test]
fn short_busy_periods_say_nothing_about_the_rate() {
    let mut fixture = Fixture::new(7, ["a", "b"], rate(10_000_000));
    for _ in 0..100 {
        fixture.send(40); // 48 ms
        fixture.drain();
    }
    assert_eq!(fixture.stats().measured.busy_ns, 0);
}

#[test]
fn a_changed_specification_is_counted_and_an_equal_one_is_not() {
    let mut fixture = Fixture::new(7, ["a", "b"], rate(10_000_000));
    fixture.send(1);
    fixture.links.set(fixture.now, 0, rate(10_000_000), &mut fixture.io);
    assert_eq!(fixture.stats().measured.changes, 0);
    fixture.links.set(fixture.now, 0, rate(20_000_000), &mut fixture.io);
    assert_eq!(fixture.stats().measured.changes, 1);
}
