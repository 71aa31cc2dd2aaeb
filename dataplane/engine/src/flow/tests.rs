//! The life of flows: how they begin and end, both directions, and the bounds of the table.

use super::*;
use crate::{Pool, VnetHeader};

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const FIN: u8 = 0x01 | ACK;
const RST: u8 = 0x04;
const HERE: u32 = 0x0a00_0001;
const THERE: u32 = 0x0a00_0002;

struct Fixture {
    flows: Flows,
    pool: Pool,
    now: Instant,
}

impl Fixture {
    fn new() -> Self {
        Self { flows: Flows::default(), pool: Pool::standalone(), now: Instant(1) }
    }

    fn packet(&mut self, protocol: u8, ends: (u32, u32), ports: (u16, u16), flags: u8) -> Packet {
        let mut bytes = vec![0; 60];
        ip::emit(&mut bytes, ends.0, ends.1, protocol, 60);
        bytes[20..22].copy_from_slice(&ports.0.to_be_bytes());
        bytes[22..24].copy_from_slice(&ports.1.to_be_bytes());
        if protocol == ip::TCP {
            (bytes[32], bytes[33]) = (5 << 4, flags);
        }
        let mut packet = self.pool.get();
        packet.fill(&bytes, VnetHeader::default()).expect("a new buffer");
        packet.parse(1_500).expect("a valid packet");
        packet
    }

    fn tcp(&mut self, way: Way, port: u16, flags: u8) {
        let (ends, ports) = match way {
            Way::Out => ((HERE, THERE), (port, 80)),
            Way::In => ((THERE, HERE), (80, port)),
        };
        let packet = self.packet(ip::TCP, ends, ports, flags);
        self.flows.count(self.now, way, &packet);
        self.pool.put(packet);
    }

    fn udp(&mut self, port: u16) {
        let packet = self.packet(ip::UDP, (HERE, THERE), (port, 53), 0);
        self.flows.count(self.now, Way::Out, &packet);
        self.pool.put(packet);
    }

    fn after(&mut self, nanos: u64) -> &mut Self {
        self.now = self.now.plus_nanos(nanos);
        self
    }

    fn collect(&mut self) -> Vec<FlowMetrics> {
        self.flows.collect(self.now)
    }
}

#[test]
fn both_directions_are_one_flow_which_ends_with_the_second_fin() {
    let mut fixture = Fixture::new();
    fixture.tcp(Way::Out, 1_000, SYN);
    fixture.after(5_000).tcp(Way::In, 1_000, SYN | ACK);
    fixture.tcp(Way::Out, 1_000, FIN);
    let [flow] = &fixture.collect()[..] else { panic!("one flow") };
    assert!(flow.started_here && !flow.ended);
    assert_eq!((flow.packets_out, flow.packets_in, flow.bytes_in), (2, 1, 60));
    assert_eq!((flow.local_port, flow.remote_port, flow.answered_ns), (1_000, 80, Some(5_000)));
    assert!(fixture.collect().is_empty(), "nothing changed");
    fixture.after(7).tcp(Way::In, 1_000, FIN);
    let [flow] = &fixture.collect()[..] else { panic!("one flow") };
    assert!(flow.ended);
    assert_eq!(flow.last, fixture.now);
}

#[test]
fn a_reset_ends_a_flow_and_a_syn_on_the_same_ports_begins_another() {
    let mut fixture = Fixture::new();
    fixture.tcp(Way::In, 7, SYN);
    fixture.tcp(Way::Out, 7, RST);
    fixture.after(10).tcp(Way::In, 7, SYN);
    let flows = fixture.collect();
    let ended: Vec<bool> = flows.iter().map(|flow| flow.ended).collect();
    assert_eq!((ended, flows[0].packets_out), (vec![true, false], 1));
    assert!(flows[1].first > flows[0].first && !flows[1].started_here);
}

#[test]
fn a_last_acknowledgement_belongs_to_the_closed_flow() {
    let mut fixture = Fixture::new();
    fixture.tcp(Way::Out, 7, FIN);
    fixture.tcp(Way::In, 7, FIN);
    let first = fixture.collect()[0].first;
    fixture.after(1_000).tcp(Way::Out, 7, ACK);
    let [flow] = &fixture.collect()[..] else { panic!("one flow") };
    assert_eq!((flow.ended, flow.first, flow.packets_out), (true, first, 2));
    fixture.after(CLOSED_NS + 1);
    assert!(fixture.collect().is_empty(), "its end was reported");
    assert!(fixture.flows.stats().is_empty());
}

#[test]
fn a_flow_without_an_end_ends_when_it_was_idle_for_long() {
    let mut fixture = Fixture::new();
    fixture.udp(9);
    assert!(!fixture.collect()[0].ended);
    fixture.after(OTHER_IDLE_NS).udp(10);
    assert_eq!(fixture.collect().len(), 1, "the first one is at its limit and not beyond it");
    fixture.after(1);
    let [flow] = &fixture.collect()[..] else { panic!("one flow") };
    assert!(flow.ended && flow.local_port == 9);
    assert_eq!(flow.last, Instant(1), "it ended with its last packet");
}

#[test]
fn the_table_grows_to_its_limit_and_counts_what_it_does_not_record() {
    let mut fixture = Fixture::new();
    for port in 0..60_000 {
        fixture.udp(port);
    }
    let recorded = fixture.collect().len();
    assert_eq!(fixture.flows.slots.len(), SLOTS.1);
    assert!(recorded > SLOTS.1 * 9 / 10, "{recorded}");
    assert_eq!(fixture.flows.unrecorded, 60_000 - recorded as u64);
    // Flows that send nothing for a while are replaced, and end.
    fixture.after(UNUSED_NS + 1);
    for port in 60_000..60_100 {
        fixture.udp(port);
    }
    assert_eq!(fixture.flows.forgotten, 100);
    let ended = fixture.collect().iter().filter(|flow| flow.ended).count();
    assert_eq!(ended, 100);
}

#[test]
fn growing_keeps_every_flow() {
    let mut fixture = Fixture::new();
    for port in 0..1_000 {
        fixture.udp(port);
    }
    assert_eq!((fixture.collect().len(), fixture.flows.unrecorded, fixture.flows.forgotten), (1_000, 0, 0));
}

#[test]
fn ends_that_nobody_collects_are_bounded() {
    let mut fixture = Fixture::new();
    for _ in 0..MOST_ENDED + 10 {
        fixture.tcp(Way::Out, 7, SYN);
        fixture.tcp(Way::Out, 7, RST);
    }
    assert_eq!(fixture.flows.ended.len(), MOST_ENDED);
    assert_eq!(fixture.flows.forgotten, 9, "the last flow is in the table");
}

#[test]
fn a_flow_that_begins_here_is_told_once_and_not_more_than_a_few_between_two_collections() {
    let mut fixture = Fixture::new();
    fixture.tcp(Way::In, 7, SYN);
    assert!(!fixture.flows.has_begun(), "it began elsewhere");
    fixture.tcp(Way::Out, 8, SYN);
    let [flow] = &fixture.flows.take_begun()[..] else { panic!("one flow") };
    assert_eq!((flow.local_port, flow.packets_out, flow.first), (8, 1, fixture.now));
    fixture.tcp(Way::Out, 8, ACK);
    assert!(!fixture.flows.has_begun());
    for port in 100..200 {
        fixture.udp(port);
    }
    assert_eq!(fixture.flows.take_begun().len(), MOST_BEGUN - 1);
    fixture.collect();
    fixture.tcp(Way::Out, 8, RST);
    fixture.tcp(Way::Out, 8, SYN);
    assert_eq!(fixture.flows.take_begun().len(), 1, "another one with the same ports");
}
