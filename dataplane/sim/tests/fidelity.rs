//! Compare what links do, in virtual time, with a stored table: rate, delay, jitter and loss are exact for a seed.
//! `UPDATE_SNAPSHOTS=1 cargo test -p nm-sim --test fidelity` writes a new table.

mod common;

use std::fmt::Write;
use std::path::Path;

use common::{addr, udp};
use nm_engine::{Distribution, LinkSpec, LinkStats, VnetHeader};
use nm_sim::{Lab, Wire};

/// Payload of a full packet of 1500 bytes.
const PAYLOAD: usize = 1472;

/// Sends `count` full packets `gap` nanoseconds apart; returns what the link measured, and for each packet whether
/// it arrived.
fn run(spec: &LinkSpec, count: u32, gap: u64) -> (LinkStats, Vec<bool>) {
    let mut lab = Lab::line(2, 7, &Wire::default());
    lab.shape(1, 2, spec.clone());
    let mut arrived = vec![false; count as usize];
    let mut payload = [0; PAYLOAD];
    for number in 0..count {
        payload[..4].copy_from_slice(&number.to_be_bytes());
        lab.send_ip(1, &udp(1, addr(2), 64, (1, 2), &payload), VnetHeader::default());
        lab.run_for(gap);
        collect(&mut lab, &mut arrived);
    }
    lab.run_for(2_000_000_000);
    collect(&mut lab, &mut arrived);
    let stats = lab.stats(1).links.into_iter().find(|link| link.remote == 2);
    (stats.expect("the link of node 1"), arrived)
}

fn collect(lab: &mut Lab, arrived: &mut [bool]) {
    for packet in lab.take(2).tun {
        let number = u32::from_be_bytes([packet[28], packet[29], packet[30], packet[31]]);
        arrived[number as usize] = true;
    }
}

/// A row of the table: what was measured, a dash where the row says nothing about it.
fn row(name: &str, spec: &LinkSpec, count: u32, gap: u64) -> String {
    let (stats, arrived) = run(spec, count, gap);
    let measured = &stats.measured;
    let released: u64 = measured.delay.buckets().map(|(_, count)| count).sum();
    let mean = measured.delay_sum_us / released as f64;
    let deviation = (measured.delay_squares_us / released as f64 - mean * mean).max(0.0).sqrt();
    let rate = match measured.busy_ns {
        0 => String::from("–"),
        nanos => format!("{:.4}", measured.busy_bytes as f64 * 8e3 / nanos as f64),
    };
    let lost = arrived.iter().filter(|arrived| !**arrived).count();
    let bursts = arrived.windows(2).filter(|pair| pair[0] && !pair[1]).count() + usize::from(!arrived[0]);
    let burst = if bursts == 0 { String::from("–") } else { format!("{:.3}", lost as f64 / bursts as f64) };
    assert_eq!(lost as u64, stats.tx.drops.total(), "{name}: the drops are those that are missing");
    assert!(measured.late.buckets().all(|(nanos, _)| nanos == 0), "{name}: nothing is late in virtual time");
    let mut line = String::new();
    let loss = 100.0 * lost as f64 / f64::from(count);
    let (mean, deviation) = (mean / 1e3, deviation / 1e3);
    writeln!(
        line,
        "{name:<28} {count:>8} {rate:>12} {mean:>11.4} {deviation:>11.4} {loss:>8.4} {burst:>7}"
    )
    .expect("writing to a string succeeds");
    line
}

const HEAD: &str = "requested                     packets       Mbit/s     mean ms  deviation   loss %   burst\n";

#[test]
fn links_do_what_is_requested() {
    let mut table = String::from(HEAD);
    for mbit in [1_u64, 10, 100, 1_000, 5_000] {
        // Packets come faster than they leave, so that the serializer is always busy.
        let spec = LinkSpec {
            rate_bps: Some(mbit * 1_000_000),
            limit_bytes: Some(u64::MAX),
            ..LinkSpec::default()
        };
        let count = u32::try_from(mbit * 20).expect("a small number").clamp(200, 50_000);
        table += &row(&format!("rate {mbit} Mbit"), &spec, count, 1500 * 7_200 / mbit);
    }
    for millis in [1, 10, 100] {
        let spec = LinkSpec { delay_us: millis * 1_000, ..LinkSpec::default() };
        table += &row(&format!("delay {millis} ms"), &spec, 1_000, 2_000_000);
    }
    for shape in [Distribution::Normal, Distribution::Uniform, Distribution::Pareto] {
        let spec = LinkSpec {
            delay_us: 20_000,
            jitter_us: 2_000,
            jitter_distribution: shape,
            ..LinkSpec::default()
        };
        table += &row(&format!("jitter 2 ms, {}", shape.as_str()), &spec, 50_000, 20_000_000);
    }
    for loss in [0.0001, 0.001, 0.01, 0.1] {
        let spec = LinkSpec { loss, ..LinkSpec::default() };
        table += &row(&format!("loss {} %", loss * 100.0), &spec, 100_000, 100_000);
    }
    let spec = LinkSpec { loss: 0.05, loss_burst: Some(5.0), ..LinkSpec::default() };
    table += &row("loss 5 % in bursts of 5", &spec, 100_000, 100_000);
    compare("fidelity.txt", &table);
}

fn compare(name: &str, table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, table).expect("the snapshot can be written");
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(known == table, "behaviour changed; new table:\n{table}");
}
