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
        self.reporter.report(&found, 9, 12, CLOCKS)
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
    let links = report.links.expect("one link");
    assert_eq!(
        (links.remote_node_id, links.tx_packets, links.tx_bytes),
        (vec![2], vec![1], vec![32])
    );
    assert_eq!(
        (report.packets_out, report.bytes_out, report.process),
        (1, 32, 9)
    );
    let apps = report.app_flows.expect("one flow");
    assert_eq!(apps.name, ["udp 10.0.0.1:7 > 10.0.0.2:53"]);
    assert_eq!(
        (apps.dst_node_id, apps.start_us, apps.finish_us),
        (vec![2], vec![CLOCKS.unix_us - 4_000], vec![0])
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
