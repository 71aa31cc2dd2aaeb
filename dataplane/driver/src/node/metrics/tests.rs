//! A report has what changed, and nothing else.

use nm_engine::{Command, Engine, Instant, Io, LinkSpec, NodeConfig, Packet, Pool, VnetHeader};

use super::*;

const CLOCKS: Clocks = Clocks {
    monotonic_ns: 5_000_000,
    unix_us: 1_700_000_000_000_000,
};

struct Fixture {
    engine: Engine,
    io: Io,
    reporter: Reporter,
}

impl Fixture {
    fn new() -> Self {
        let (mut engine, mut io) = (Engine::new(NodeConfig::new(1)), Io::new(Pool::standalone()));
        for remote in [2, 3] {
            let spec = LinkSpec::default();
            let remote_name = format!("n{remote}");
            let add = Command::AddLink {
                remote,
                remote_name,
                spec,
            };
            engine
                .handle_command(Instant::ZERO, add, &mut io)
                .expect("a link");
        }
        engine.handle_link_state(Instant::ZERO, 0, true, &mut io);
        let routes = Command::InstallRoutes {
            table: Some(vec![0, 0, 2, 3]),
            routes: vec![],
            removed: vec![],
        };
        engine
            .handle_command(Instant::ZERO, routes, &mut io)
            .expect("routes");
        Fixture {
            engine,
            io,
            reporter: Reporter::default(),
        }
    }

    /// A UDP packet of 32 bytes from this node.
    fn send(&mut self, dst: u8) {
        let mut bytes = [0; 32];
        bytes[0] = 0x45;
        bytes[3] = 32;
        bytes[8] = 64;
        bytes[9] = 17;
        bytes[12..16].copy_from_slice(&[10, 0, 0, 1]);
        bytes[16..20].copy_from_slice(&[10, 0, 0, dst]);
        bytes[20..24].copy_from_slice(&[0, 7, 0, 53]);
        bytes[25] = 12;
        let mut packet: Packet = self.io.pool.get();
        packet.fill(&bytes, VnetHeader::default()).expect("it fits");
        self.engine
            .handle_tun(Instant(1_000_000), packet, &mut self.io);
        self.io.transmits.clear();
    }

    fn report(&mut self) -> Option<Metrics> {
        let found = self.engine.collect(Instant(5_000_000));
        self.reporter.report(found, 12, CLOCKS)
    }
}

#[test]
fn a_node_without_traffic_reports_nothing() {
    assert_eq!(Fixture::new().report(), None);
}

#[test]
fn a_report_has_the_links_and_flows_that_changed() {
    let mut fixture = Fixture::new();
    fixture.send(2);
    let report = fixture.report().expect("a packet was sent");
    assert_eq!(report.links, [2, 1, 32, 0, 0, 0, 0]);
    assert_eq!(report.totals, [12, 1, 32, 0, 0, 0, 0]);
    let apps = report.app_flows.expect("one flow");
    assert_eq!(apps.names, ["udp 10.0.0.1:7 > 10.0.0.2:53"]);
    assert_eq!(
        apps.numbers,
        [2, CLOCKS.unix_us - 4_000, 0, 1, 32, 0, 0, 0, 0]
    );
    assert_eq!(
        (report.flow_ids, report.flows),
        (apps.flow_ids, vec![1, 32])
    );
    assert_eq!(fixture.report(), None, "nothing changed");
}

#[test]
fn drops_are_told_by_link_and_cause() {
    let mut fixture = Fixture::new();
    fixture.send(3); // its link is down
    let drops = fixture.report().expect("a drop").drops.expect("a drop");
    assert_eq!(drops.len(), 1);
    assert_eq!(drops[0].remote_node_id, 3);
    assert_eq!(drops[0].drops.get("link_down"), Some(&1));
    fixture.send(200);
    let drops = fixture.report().expect("a drop").drops.expect("a drop");
    assert_eq!(
        (drops[0].remote_node_id, drops[0].drops.get("no_route")),
        (0, Some(&1))
    );
}

#[test]
fn a_flow_is_told_when_it_begins_with_the_same_times_as_later() {
    let mut fixture = Fixture::new();
    fixture.send(2);
    assert!(fixture.engine.has_begun_flows());
    let begun = fixture.engine.take_begun_flows();
    let clocks = Clocks {
        monotonic_ns: 2_000_000,
        unix_us: CLOCKS.unix_us - 3_000,
    };
    let told = fixture.reporter.begun(&begun, clocks).expect("one flow");
    let report = fixture.report().expect("a packet was sent");
    assert_eq!(report.app_flows.map(|apps| *apps), Some(told.flows));
    fixture.send(2);
    assert!(!fixture.engine.has_begun_flows(), "it began before");
    assert_eq!(fixture.reporter.begun(&[], CLOCKS), None);
}

#[test]
fn another_controller_is_told_everything() {
    let mut fixture = Fixture::new();
    fixture.send(2);
    fixture.send(3);
    let first = fixture.report().expect("two packets were sent");
    assert_eq!(fixture.report(), None);
    fixture.reporter.begin_again();
    let again = fixture.report().expect("it begins again");
    assert_eq!((again.links, again.drops), (first.links, first.drops));
}

#[test]
fn flows_that_do_not_fit_are_in_later_reports_and_those_that_ended_come_first() {
    let mut fixture = Fixture::new();
    fixture.send(2);
    let some = fixture.engine.collect(Instant(5_000_000)).flows.remove(0);
    let flow = |number: u64, ended| FlowMetrics {
        local_port: number as u16,
        first: Instant(number),
        bytes_out: number,
        ended,
        ..some.clone()
    };
    let reported = |fixture: &mut Fixture| -> Vec<u64> {
        let report = fixture.report().expect("flows wait");
        assert!(report.flows.len() <= 2 * MOST_FLOWS);
        report.flows.chunks(2).map(|counts| counts[1]).collect()
    };
    let most = MOST_FLOWS as u64;
    let flows = (0..most + 2).map(|number| flow(number, number == 0));
    fixture.reporter.keep(flows.collect());
    fixture.reporter.keep(vec![flow(1, true)]);
    let first = reported(&mut fixture);
    assert_eq!((first[0], first[1], first[2]), (1, 0, most + 1));
    assert_eq!(reported(&mut fixture), [3, 2]);
    let many = MOST_WAITING as u64 + 5;
    fixture
        .reporter
        .keep((0..many).map(|number| flow(number, number > 2)).collect());
    let report = fixture.report().expect("flows wait");
    assert_eq!(report.totals[5], 2, "that ended and are not reported");
}
