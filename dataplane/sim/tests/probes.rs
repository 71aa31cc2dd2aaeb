//! Probes of links in virtual time: what they measure is what the link does.

use nm_engine::{Command, CommandError, Event, LinkSpec, NodeId, ProbeOrder, ProbeReport};
use nm_sim::{Lab, Wire};

const ORDER: ProbeOrder = ProbeOrder { probe: 1, bytes: 64 << 20, nanos: 10_000_000_000, below: false };
const MS: u64 = 1_000_000;

fn link(rate_mbit: u64, delay_ms: u64, loss: f64) -> LinkSpec {
    LinkSpec {
        rate_bps: Some(rate_mbit * 1_000_000),
        delay_us: delay_ms * 1_000,
        loss,
        ..LinkSpec::default()
    }
}

fn lab(forward: LinkSpec, backward: LinkSpec) -> Lab {
    let mut lab = Lab::line(2, 7, &Wire::default());
    lab.shape(1, 2, forward);
    lab.shape(2, 1, backward);
    lab
}

fn start(lab: &mut Lab, from: NodeId, remote: NodeId, order: ProbeOrder) -> Result<(), CommandError> {
    lab.command(from, Command::ProbeLink { remote, order }).map(|_| ())
}

fn ended(lab: &mut Lab, node: NodeId) -> ProbeReport {
    assert!(lab.run_until(|lab| lab.has_event(node, |event| matches!(event, Event::ProbeFinished { .. }))));
    let reports = lab.take(node).events.into_iter().filter_map(|event| match event {
        Event::ProbeFinished { report } => Some(*report),
        _ => None,
    });
    reports.last().expect("a report")
}

fn probe(lab: &mut Lab, from: NodeId, to: NodeId, order: ProbeOrder) -> ProbeReport {
    start(lab, from, to, order).expect("the probe starts");
    ended(lab, from)
}

fn assert_near(found: Option<u64>, expected: u64, tolerance: f64) {
    let found = found.expect("a value") as f64;
    assert!((found - expected as f64).abs() <= expected as f64 * tolerance, "{found} is not {expected}");
}

/// 99 % of samples of `count` packets lie within this many standard deviations of a loss.
fn assert_loss(report: &ProbeReport, loss: f64) {
    let sent = f64::from(report.packets_sent);
    let found = 1.0 - f64::from(report.packets_received) / sent;
    let deviation = (loss * (1.0 - loss) / sent).sqrt();
    assert!((found - loss).abs() <= 2.58 * deviation, "{found} of {sent} is not {loss}");
}

#[test]
fn a_link_of_20_mbit_30_ms_and_1_percent_is_measured_as_such_in_both_directions() {
    let mut lab = lab(link(20, 30, 0.01), link(20, 30, 0.01));
    for (from, to) in [(1, 2), (2, 1)] {
        let report = probe(&mut lab, from, to, ProbeOrder { probe: u64::from(from), ..ORDER });
        assert_eq!(report.error, None);
        assert_near(report.capacity_bps, 20_000_000, 0.002);
        assert_near(report.round_trip_p50_ns, 60 * MS, 0.002);
        assert_near(report.round_trip_p99_ns, 60 * MS, 0.002);
        assert!(report.packets_sent > 3_000, "{report:?}");
        assert_loss(&report, 0.01);
        // Both directions lose, so fewer answers come back than requests arrive.
        assert!(report.packets_answered < report.packets_received, "{report:?}");
    }
}

#[test]
fn each_direction_has_a_capacity_and_a_loss_of_its_own() {
    let mut lab = lab(link(100, 1, 0.0), link(5, 9, 0.1));
    let forward = probe(&mut lab, 1, 2, ORDER);
    assert_near(forward.capacity_bps, 100_000_000, 0.002);
    assert_eq!(forward.packets_received, forward.packets_sent);
    assert!(f64::from(forward.packets_answered) < f64::from(forward.packets_sent) * 0.93);
    let backward = probe(&mut lab, 2, 1, ProbeOrder { probe: 2, ..ORDER });
    assert_near(backward.capacity_bps, 5_000_000, 0.002);
    assert_loss(&backward, 0.1);
    assert_near(forward.round_trip_p50_ns, 10 * MS, 0.02);
    assert_near(backward.round_trip_p50_ns, 10 * MS, 0.02);
}

#[test]
fn slow_links_bursts_and_small_queues_do_not_change_the_capacity() {
    let slow = LinkSpec { rate_bps: Some(100_000), ..LinkSpec::default() };
    let burst = LinkSpec { rate_burst_bytes: Some(15_000), ..link(20, 5, 0.0) };
    let small = LinkSpec { limit_packets: Some(10), ..link(50, 5, 0.0) };
    for (spec, expected) in [(slow, 100_000), (burst, 20_000_000), (small, 50_000_000)] {
        let mut lab = lab(spec, LinkSpec::default());
        let report = probe(&mut lab, 1, 2, ORDER);
        assert_near(report.capacity_bps, expected, 0.01);
        assert_eq!(report.packets_received, report.packets_sent, "the queue is empty between packets");
    }
}

#[test]
fn a_probe_below_the_emulation_sees_the_wire_and_leaves_the_link_alone() {
    let mut lab = lab(link(20, 30, 0.5), link(20, 30, 0.5));
    let report = probe(&mut lab, 1, 2, ProbeOrder { below: true, ..ORDER });
    assert_eq!(report.error, None);
    assert_eq!(report.packets_received, report.packets_sent);
    assert_near(report.round_trip_p50_ns, 20_000, 0.0);
    assert_eq!(lab.stats(1).links[0].measured.offered, 0, "no packet reached the impairments");
}

#[test]
fn the_bounds_of_bytes_and_time_are_kept() {
    let mut lab = lab(LinkSpec::default(), LinkSpec::default());
    let began = lab.now();
    let report = probe(&mut lab, 1, 2, ProbeOrder { bytes: 100_000, nanos: 400 * MS, ..ORDER });
    assert_eq!(report.error, None);
    assert!(report.bytes <= 100_000, "{report:?}");
    assert!(lab.sent_bytes(1) <= 100_000, "what was sent is what is reported");
    assert!(lab.now().nanos_since(began) <= 450 * MS);
    assert_eq!(report.capacity_bps, None, "the train arrives at one instant, so nothing limits it");
}

#[test]
fn a_link_that_loses_everything_has_a_loss_and_nothing_else() {
    let mut lab = lab(link(20, 30, 1.0), link(20, 30, 0.0));
    let report = probe(&mut lab, 1, 2, ORDER);
    assert_eq!((report.error, report.capacity_bps, report.round_trip_p50_ns), (None, None, None));
    assert!(report.packets_sent > 100);
    assert_eq!(report.packets_received, 0);
}

#[test]
fn a_neighbour_that_dies_or_stops_answering_ends_the_probe_with_the_reason() {
    let mut dies = lab(link(20, 30, 0.0), link(20, 30, 0.0));
    start(&mut dies, 1, 2, ORDER).expect("the probe starts");
    dies.run_for(500 * MS);
    dies.kill(2);
    assert_eq!(ended(&mut dies, 1).error.as_deref(), Some("the link to node 2 went down"));

    let mut silent = lab(link(20, 30, 0.0), link(20, 30, 0.0));
    start(&mut silent, 1, 2, ORDER).expect("the probe starts");
    silent.run_for(50 * MS);
    silent.command(2, Command::SetPaused { paused: true }).expect("a pause");
    let began = silent.now();
    let error = ended(&mut silent, 1).error.unwrap_or_default();
    assert_eq!(error, "node 2 did not answer on the link within 2 s");
    assert!(silent.now().nanos_since(began) < 13_000 * MS, "in a bounded time");
}

#[test]
fn probes_that_cannot_start_are_refused() {
    let mut lab = lab(link(20, 30, 0.0), link(20, 30, 0.0));
    assert_eq!(start(&mut lab, 1, 3, ORDER), Err(CommandError::UnknownLink(3)));
    start(&mut lab, 1, 2, ORDER).expect("the first one");
    start(&mut lab, 1, 2, ProbeOrder { probe: 2, ..ORDER }).expect("it ends the first one");
    let first = ended(&mut lab, 1);
    assert_eq!((first.probe, first.error.as_deref()), (1, Some("probe 2 of the link began")));
    let second = ended(&mut lab, 1);
    assert_eq!((second.probe, second.error), (2, None));
    lab.set_link(1, 2, false);
    let down = CommandError::Invalid("the link to node 2 is down".to_owned());
    assert_eq!(start(&mut lab, 1, 2, ORDER), Err(down));
    let nothing = ProbeOrder { bytes: 0, ..ORDER };
    assert!(matches!(start(&mut lab, 1, 2, nothing), Err(CommandError::Invalid(_))));
    for order in
        [ProbeOrder { bytes: (4 << 30) + 1, ..ORDER }, ProbeOrder { nanos: 60 * 1_000 * MS + 1, ..ORDER }]
    {
        assert!(matches!(start(&mut lab, 1, 2, order), Err(CommandError::Invalid(_))));
    }
}

#[test]
fn a_link_that_is_set_down_is_measured_below_only() {
    let down = LinkSpec { down: true, ..LinkSpec::default() };
    let mut lab = lab(down.clone(), down);
    assert!(start(&mut lab, 1, 2, ORDER).is_err());
    let report = probe(&mut lab, 1, 2, ProbeOrder { below: true, ..ORDER });
    assert_eq!((report.error, report.packets_received), (None, report.packets_sent));
}

#[test]
fn an_application_that_uses_the_port_gets_its_packets() {
    let mut lab = lab(LinkSpec::default(), LinkSpec::default());
    let packet = udp_on_the_port(b"not a probe");
    lab.send_ip(1, &packet, nm_engine::VnetHeader::default());
    lab.run_for(MS);
    let arrived = lab.take(2).tun;
    assert_eq!(arrived.len(), 1);
    assert_eq!(arrived[0][28..], packet[28..]);
}

fn udp_on_the_port(payload: &[u8]) -> Vec<u8> {
    let port = nm_engine::PROBE_PORT;
    common::udp(1, common::addr(2), 64, (port, port), payload)
}

mod common;
