//! Test lossless transfers under loss, shaping, delay and faults: single, consecutive and concurrent.

use nm_engine::{Distribution, DropCause, LinkSpec, SessionReport};
use nm_sim::{pattern, Lab, Wire};
use proptest::prelude::*;

/// Moves `len` bytes from node 1 to the receivers and checks every byte.
fn transfer(lab: &mut Lab, receivers: &[u32], len: usize) -> SessionReport {
    let group = lab.group(1, 1, receivers);
    let data = pattern(len, 99);
    let incoming = lab.receive_all(group, 1, receivers, len);
    let outgoing = lab.send(group, 1, receivers, data.clone());
    assert!(lab.run_until_finished(1, outgoing), "the session hangs: {:?}", lab.report(1, outgoing));
    for (&node, &session) in receivers.iter().zip(&incoming) {
        assert!(*lab.data(node, session) == data, "node {node} has other bytes");
    }
    let report = lab.report(1, outgoing);
    assert!(report.complete(), "{report:?}");
    assert!(report.peers.iter().all(|peer| peer.bytes == len as u64));
    report
}

#[test]
fn without_loss_a_sender_sends_few_bytes_besides_the_data() {
    for (mut lab, degree) in
        [(Lab::ring(4, 1, &Wire::default()), 2.0), (Lab::star(9, 1, &Wire::default()), 8.0)]
    {
        let receivers: Vec<u32> = (2..=if degree > 2.0 { 9 } else { 4 }).collect();
        let report = transfer(&mut lab, &receivers, 10_000_000);
        let budget = 1.03 * 10_000_000.0 * degree;
        assert!((lab.sent_bytes(1) as f64) < budget, "{} of {budget}", lab.sent_bytes(1));
        assert_eq!(report.bytes_sent, lab.sent_bytes(1), "the report is what the links counted");
        assert_eq!((report.repair_bytes, report.repair_rounds), (0, 0));
    }
}

#[test]
fn links_with_a_smaller_mtu_carry_a_transfer() {
    let mut lab = Lab::line(4, 1, &Wire::default());
    lab.shape(2, 3, LinkSpec { mtu: Some(576), ..LinkSpec::default() });
    let report = transfer(&mut lab, &[2, 4], 1_000_000);
    assert_eq!(report.repair_bytes, 0);
}

#[test]
fn the_queue_of_a_shaped_link_overflows_at_most_once_during_start_up() {
    let mut lab = Lab::line(3, 1, &Wire::default());
    lab.shape_all(&LinkSpec { rate_bps: Some(50_000_000), delay_us: 10_000, ..LinkSpec::default() });
    let report = transfer(&mut lab, &[2, 3], 10_000_000);
    assert!((report.bytes_sent as f64) < 1.15 * 10_000_000.0, "{}", report.bytes_sent);
    let ideal = 10_000_000.0 * 8.0 * 1500.0 / 1460.0 / 50e6;
    assert!(report.seconds < 1.15 * ideal, "{} s of {ideal} s", report.seconds);
}

#[test]
fn five_percent_loss_on_every_link_costs_little_more_than_the_lost_bytes() {
    let mut lab = Lab::line(4, 3, &Wire::default());
    let spec = LinkSpec { rate_bps: Some(100_000_000), delay_us: 5_000, loss: 0.05, ..LinkSpec::default() };
    lab.shape_all(&spec);
    let report = transfer(&mut lab, &[4], 20_000_000);
    let ideal = 20_000_000.0 * 8.0 * 1500.0 / 1460.0 / (100e6 * 0.95_f64.powi(3));
    assert!(report.seconds < 1.5 * ideal, "{} s of {ideal} s", report.seconds);
}

#[test]
fn jitter_and_bursts_of_loss_are_survived_and_repeat_with_the_seed() {
    for jitter_reorder in [false, true] {
        let run = |seed| {
            let mut lab = Lab::line(3, seed, &Wire::default());
            lab.shape_all(&LinkSpec {
                rate_bps: Some(100_000_000),
                delay_us: 5_000,
                jitter_us: 1_000,
                jitter_distribution: Distribution::Pareto,
                jitter_reorder,
                loss: 0.02,
                loss_burst: Some(4.0),
                ..LinkSpec::default()
            });
            transfer(&mut lab, &[2, 3], 5_000_000)
        };
        let report = run(3);
        assert_eq!(report, run(3));
        assert_ne!(report, run(4));
        let ideal = 5_000_000.0 * 8.0 * 1500.0 / 1460.0 / (100e6 * 0.98_f64.powi(2));
        assert!(report.seconds < 3.0 * ideal, "{} s of {ideal} s", report.seconds);
    }
}

#[test]
fn duplicated_reordered_and_corrupted_segments_are_survived() {
    let run = |seed| {
        let mut lab = Lab::line(3, seed, &Wire::default());
        lab.shape_all(&LinkSpec {
            rate_bps: Some(100_000_000),
            delay_us: 5_000,
            duplicate: 0.05,
            reorder: 0.05,
            reorder_gap: Some(3),
            corrupt: 0.03,
            loss: 0.01,
            ..LinkSpec::default()
        });
        let report = transfer(&mut lab, &[2, 3], 5_000_000);
        let refused = |node| {
            let links = lab.stats(node).links;
            links.iter().map(|link| link.rx.drops.get(DropCause::Checksum)).sum::<u64>()
        };
        assert!(refused(2) > 50 && refused(3) > 50, "damaged segments are found by their checksums");
        report
    };
    let report = run(3);
    assert_eq!(report, run(3));
    let ideal = 5_000_000.0 * 8.0 * 1500.0 / 1460.0 / (100e6 * 0.96_f64.powi(2) / 1.05);
    assert!(report.seconds < 3.0 * ideal, "{} s of {ideal} s", report.seconds);
}

#[test]
fn the_slowest_branch_limits_the_rate_with_few_retransmissions() {
    let mut lab = Lab::star(4, 1, &Wire::default());
    lab.shape(1, 3, LinkSpec { rate_bps: Some(20_000_000), delay_us: 2_000, ..LinkSpec::default() });
    let report = transfer(&mut lab, &[2, 3, 4], 5_000_000);
    let ideal = 5_000_000.0 * 8.0 * 1500.0 / 1460.0 / 20e6;
    assert!(report.seconds < 1.2 * ideal, "{} s of {ideal} s", report.seconds);
    let repair = report.repair_bytes as f64 / 5_000_000.0;
    assert!(repair < 0.1, "{repair} of the data was sent again");
}

#[test]
fn a_growing_delay_does_not_reduce_the_throughput() {
    let mut lab = Lab::line(2, 1, &Wire { delay_ns: 300_000, ..Wire::default() });
    lab.shape_all(&LinkSpec { rate_bps: Some(1_000_000_000), ..LinkSpec::default() });
    let group = lab.group(1, 1, &[2]);
    let data = pattern(100_000_000, 1);
    let incoming = lab.receive(group, 1, 2, data.len());
    let outgoing = lab.send(group, 1, &[2], data.clone());
    lab.run_for(200_000_000);
    lab.set_wire(1, 2, Wire { delay_ns: 15_000_000, ..Wire::default() });
    assert!(lab.run_until_finished(1, outgoing));
    assert!(*lab.data(2, incoming) == data);
    let seconds = lab.report(1, outgoing).seconds;
    assert!(seconds < 1.7, "{seconds} s instead of 0.82 s");
}

#[test]
fn a_queue_of_a_few_packets_suffices() {
    let mut lab = Lab::line(2, 1, &Wire::default());
    let spec = LinkSpec { rate_bps: Some(100_000_000), limit_packets: Some(16), ..LinkSpec::default() };
    lab.shape_all(&spec);
    let report = transfer(&mut lab, &[2], 10_000_000);
    let ideal = 10_000_000.0 * 8.0 * 1500.0 / 1460.0 / 100e6;
    assert!(report.seconds < 1.3 * ideal, "{} s of {ideal} s", report.seconds);
}

#[test]
fn consecutive_and_concurrent_transfers_are_kept_apart() {
    let mut lab = Lab::ring(5, 1, &Wire::lossy(0.03));
    let members = [2, 3, 4, 5];
    let (one, two) = (lab.group(1, 1, &members), lab.group(2, 1, &members));
    let back = lab.group(3, 3, &[1, 2]);
    let mut all = Vec::new();
    for round in 0..3u64 {
        for (dest, source, receivers) in
            [(one, 1, &members[..]), (two, 1, &[2, 4]), (one, 1, &[3]), (back, 3, &[1, 2])]
        {
            let data = pattern(300_000 + 1000 * round as usize, all.len() as u64);
            let incoming = lab.receive_all(dest, source, receivers, data.len());
            let outgoing = lab.send(dest, source, receivers, data.clone());
            all.push((source, outgoing, receivers.to_vec(), incoming, data));
        }
        if round == 1 {
            lab.run_for(30_000_000);
        }
    }
    for (source, outgoing, receivers, incoming, data) in all {
        assert!(lab.report(source, outgoing).state.is_final() || lab.run_until_finished(source, outgoing));
        for (node, session) in receivers.into_iter().zip(incoming) {
            assert!(*lab.data(node, session) == data);
        }
    }
}

#[test]
fn unicast_transfers_are_forwarded_by_other_nodes() {
    let mut lab = Lab::ring(5, 1, &Wire::lossy(0.02));
    let data = pattern(1_000_000, 3);
    let dest = [10, 0, 0, 4].into();
    let incoming = lab.receive(dest, 2, 4, data.len() + 1000);
    let outgoing = lab.send(dest, 2, &[4], data.clone());
    assert!(lab.run_until_finished(2, outgoing));
    assert_eq!(*lab.data(4, incoming), data);
}

#[test]
fn a_transfer_of_one_byte_completes() {
    let mut lab = Lab::line(2, 1, &Wire::default());
    transfer(&mut lab, &[2], 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_byte_arrives_despite_any_faults_of_wires(
        seed in any::<u64>(),
        shape in 0..4,
        nodes in 2u32..9,
        len in 1usize..400_000,
        loss in 0.0..0.2f64,
        duplicate in 0.0..0.3f64,
        reorder in 0.0..0.5f64,
        delay_ns in 0u64..5_000_000,
        rate in prop_oneof![Just(None), (2_000_000u64..1_000_000_000).prop_map(Some)],
        limit in prop_oneof![Just(None), (5u64..100).prop_map(Some)],
    ) {
        // On a path that loses most packets a receiver may be silent until it times out.
        let hops = f64::from(nodes - 1);
        let loss = loss.min(1.0 - 0.5_f64.powf(1.0 / hops));
        let wire = Wire { loss, duplicate, reorder, delay_ns, reorder_ns: 3_000_000, ..Wire::default() };
        let mut lab = match shape {
            0 => Lab::ring(nodes, seed, &wire),
            1 => Lab::line(nodes, seed, &wire),
            2 => Lab::star(nodes, seed, &wire),
            _ => Lab::tree(nodes, seed, &wire),
        };
        lab.shape_all(&LinkSpec { rate_bps: rate, limit_packets: limit, ..LinkSpec::default() });
        let receivers: Vec<u32> = (2..=nodes).collect();
        transfer(&mut lab, &receivers, len);
    }
}

#[test]
fn two_runs_with_one_seed_are_equal() {
    let run = || {
        let mut lab = Lab::tree(6, 11, &Wire { loss: 0.1, reorder: 0.2, ..Wire::default() });
        let report = transfer(&mut lab, &[2, 3, 4, 5, 6], 500_000);
        (report, lab.now(), lab.sent_bytes(1))
    };
    assert_eq!(run(), run());
}
