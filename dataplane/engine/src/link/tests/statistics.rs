//! Test the statistics of jitter and of loss in bursts over a million packets, in virtual time.

use super::*;

pub(super) const COUNT: u32 = 1_000_000;

/// One-way delays in nanoseconds of packets sent `gap` apart.
pub(super) fn delays(spec: &LinkSpec, count: u32, gap: u64) -> Vec<u64> {
    let mut fixture = Fixture::new(7, ["a", "b"], spec.clone());
    let mut delays = vec![0; count as usize];
    for number in 0..count {
        fixture.run_until(Instant(u64::from(number) * gap));
        fixture.send(1);
        take(&mut fixture, gap, &mut delays);
    }
    fixture.drain();
    take(&mut fixture, gap, &mut delays);
    delays
}

fn take(fixture: &mut Fixture, gap: u64, delays: &mut [u64]) {
    let numbers = fixture.numbers();
    for ((at, packet), number) in fixture.left.drain(..).zip(numbers) {
        delays[number as usize] = at.nanos() - u64::from(number) * gap;
        fixture.io.pool.put(packet);
    }
}

pub(super) fn mean_and_deviation(values: &[u64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().map(|&value| value as f64).sum::<f64>() / count;
    let square = values.iter().map(|&value| (value as f64 - mean).powi(2)).sum::<f64>() / count;
    (mean, square.sqrt())
}

fn jitter(distribution: Distribution, jitter_us: u64) -> LinkSpec {
    LinkSpec { delay_us: 20_000, jitter_us, jitter_distribution: distribution, ..LinkSpec::default() }
}

const DISTRIBUTIONS: [Distribution; 3] = [Distribution::Normal, Distribution::Uniform, Distribution::Pareto];

#[test]
fn jitter_has_the_stated_deviation_and_reorders_nothing() {
    // The gaps are 20, 4, 1 and 0.05 standard deviations. The densest stream has so few delays of its own that those
    // of the Pareto distribution deviate by chance.
    for (gap, count, share) in [
        (40_000_000, 100_000, 1.0),
        (8_000_000, 200_000, 1.0),
        (2_000_000, 300_000, 1.0),
        (100_000, COUNT, 1.6),
    ] {
        for distribution in DISTRIBUTIONS {
            let tolerance = if distribution == Distribution::Pareto { 0.05 * share } else { 0.05 };
            check_jitter(distribution, count, gap, tolerance);
        }
    }
    check_jitter(Distribution::Normal, COUNT, 8_000_000, 0.01);
}

fn check_jitter(distribution: Distribution, count: u32, gap: u64, tolerance: f64) {
    let times = delays(&jitter(distribution, 2_000), count, gap);
    let arrivals = times.iter().enumerate().map(|(number, delay)| number as u64 * gap + delay);
    assert!(arrivals.is_sorted(), "{distribution:?} {gap}: reordered");
    let (mean, deviation) = mean_and_deviation(&times);
    println!("{distribution:?} gap {gap}: mean {mean} deviation {deviation}");
    assert!((deviation / 2e6 - 1.0).abs() < tolerance, "{distribution:?} {gap}: {deviation}");
    assert!((mean - 20e6).abs() < 0.08 * 2e6, "{distribution:?} {gap}: {mean}");
}

#[test]
fn jitter_as_large_as_the_delay_keeps_mean_and_deviation() {
    for distribution in DISTRIBUTIONS {
        let (mean, deviation) =
            mean_and_deviation(&delays(&jitter(distribution, 20_000), COUNT / 5, 400_000_000));
        println!("{distribution:?}: mean {mean} deviation {deviation}");
        assert!((deviation / 20e6 - 1.0).abs() < 0.05, "{distribution:?}: {deviation}");
        assert!((mean / 20e6 - 1.0).abs() < 0.02, "{distribution:?}: {mean}");
    }
}

#[test]
fn jitter_with_reordering_draws_for_every_packet() {
    let spec = LinkSpec { jitter_reorder: true, ..jitter(Distribution::Normal, 2_000) };
    let times = delays(&spec, COUNT / 5, 1_000_000);
    let arrivals = times.iter().enumerate().map(|(number, delay)| number as u64 * 1_000_000 + delay);
    assert!(!arrivals.is_sorted());
    let (mean, deviation) = mean_and_deviation(&times);
    assert!((deviation / 2e6 - 1.0).abs() < 0.01 && (mean / 20e6 - 1.0).abs() < 0.001, "{mean} {deviation}");
    let mut fixture = Fixture::new(7, ["a", "b"], spec);
    fixture.send(40);
    fixture.drain();
    let mut numbers = fixture.numbers();
    assert!(!numbers.is_sorted(), "segments of a super-packet are reordered too");
    numbers.sort_unstable();
    assert_eq!(numbers, (0..40).collect::<Vec<_>>());
}

/// The lengths of the runs of lost segments of a million.
fn bursts(spec: &LinkSpec, seed: u64, segments: usize) -> Vec<u32> {
    let mut fixture = Fixture::new(seed, ["a", "b"], spec.clone());
    let (mut runs, mut next) = (Vec::new(), 0);
    for _ in 0..COUNT as usize / segments {
        fixture.send(segments);
        for number in fixture.numbers() {
            if number > next {
                runs.push(number - next);
            }
            next = number + 1;
        }
        fixture.left.clear();
    }
    runs
}

#[test]
fn bursts_have_the_stated_mean_loss_and_mean_length() {
    for (loss, burst, segments) in
        [(0.1, 5.0, 1), (0.1, 5.0, 40), (0.05, 2.0, 40), (0.3, 10.0, 40), (0.5, 1.0, 40)]
    {
        let spec = LinkSpec { loss, loss_burst: Some(burst), ..LinkSpec::default() };
        let runs = bursts(&spec, 7, segments);
        let lost = f64::from(runs.iter().sum::<u32>());
        let (mean, length) = (lost / f64::from(COUNT), lost / runs.len() as f64);
        println!("{loss} {burst} {segments}: {mean} {length}");
        assert!((mean / loss - 1.0).abs() < 0.03, "{loss} {burst}: {mean}");
        assert!((length / burst - 1.0).abs() < 0.03, "{loss} {burst}: {length}");
    }
}

#[test]
fn rare_bursts_have_the_stated_mean_over_several_links() {
    // A million segments have about 2000 bursts; their number alone varies by 2 %.
    let spec = LinkSpec { loss: 0.01, loss_burst: Some(5.0), ..LinkSpec::default() };
    let runs: Vec<u32> = (0..8).flat_map(|seed| bursts(&spec, seed, 40)).collect();
    let lost = f64::from(runs.iter().sum::<u32>());
    let (mean, length) = (lost / (8.0 * f64::from(COUNT)), lost / runs.len() as f64);
    assert!((mean / 0.01 - 1.0).abs() < 0.03, "{mean}");
    assert!((length / 5.0 - 1.0).abs() < 0.03, "{length}");
}

#[test]
fn bursts_and_delays_depend_only_on_seed_and_names() {
    let spec = LinkSpec { loss: 0.2, loss_burst: Some(3.0), ..jitter(Distribution::Pareto, 1_000) };
    let run = |seed, names| {
        let mut fixture = Fixture::new(seed, names, spec.clone());
        (0..200).for_each(|_| {
            fixture.send(10);
            fixture.run_until(fixture.now.plus_nanos(5_000_000));
        });
        fixture.drain();
        let times: Vec<Instant> = fixture.left.iter().map(|(at, _)| *at).collect();
        (fixture.numbers(), times)
    };
    assert_eq!(run(1, ["a", "b"]), run(1, ["a", "b"]));
    assert_ne!(run(1, ["a", "b"]), run(1, ["b", "a"]));
    assert_ne!(run(1, ["a", "b"]), run(2, ["a", "b"]));
}

#[test]
fn jitter_does_not_change_which_segments_are_lost() {
    let lost = |spec: LinkSpec| {
        let mut fixture = Fixture::new(1, ["a", "b"], spec);
        (0..100).for_each(|_| fixture.send(20));
        fixture.drain();
        fixture.numbers()
    };
    let independent = LinkSpec { loss: 0.1, ..LinkSpec::default() };
    assert_eq!(lost(independent.clone()), lost(LinkSpec { loss: 0.1, ..jitter(Distribution::Normal, 500) }));
    // The draws of independent loss stay those of earlier versions.
    let arrived = lost(independent);
    let first: Vec<u32> = (0..100).filter(|number| !arrived.contains(number)).collect();
    assert_eq!(first, [4, 21, 30, 40, 44, 50, 54, 58, 73, 81, 82, 93, 94, 97]);
}

#[test]
fn jitter_set_and_removed_live_loses_and_reorders_nothing() {
    let plain = LinkSpec { delay_us: 20_000, ..LinkSpec::default() };
    let specs = [
        plain,
        jitter(Distribution::Normal, 5_000),
        jitter(Distribution::Pareto, 20_000),
        LinkSpec::default(),
    ];
    let mut fixture = Fixture::new(1, ["a", "b"], LinkSpec::default());
    for number in 0..4_000 {
        if number % 50 == 0 {
            fixture.set(specs[number / 50 % specs.len()].clone());
        }
        fixture.send(2);
        fixture.run_until(fixture.now.plus_nanos(100_000));
    }
    fixture.drain();
    assert_eq!(fixture.numbers(), (0..8_000).collect::<Vec<_>>());
    let stats = fixture.stats();
    assert_eq!((stats.tx.drops.total(), stats.queued_packets, stats.queued_bytes), (0, 0, 0));
    fixture.set(LinkSpec { jitter_us: 0, delay_us: 1_000, ..LinkSpec::default() });
    fixture.send(1);
    let sent = fixture.now;
    fixture.drain();
    assert_eq!(fixture.left.last().map(|(at, _)| *at), Some(sent.plus_nanos(1_000_000)), "zero is zero");
}

#[test]
fn impossible_values_are_refused() {
    let bursts = |loss, burst| LinkSpec { loss, loss_burst: Some(burst), ..LinkSpec::default() };
    for good in [bursts(0.0, 5.0), bursts(0.5, 1.0), bursts(0.9, 9.0), jitter(Distribution::Normal, 20_000)] {
        assert_eq!(good.check(), Ok(()), "{good:?}");
    }
    for bad in [
        bursts(0.1, 0.5),
        bursts(0.9, 5.0),
        bursts(1.0, 5.0),
        bursts(0.1, f64::INFINITY),
        bursts(0.1, f64::NAN),
        jitter(Distribution::Normal, 20_001),
        LinkSpec { jitter_reorder: true, ..jitter(Distribution::Normal, 60_001) },
        LinkSpec { loss: 1.5, ..LinkSpec::default() },
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
    }
}
