//! Benchmark of forwarding: packets through a line of engines in memory, run to completion in one thread.
//!
//! `cargo run --release -p nm-engine --example forward_bench` prints nanoseconds per packet and hop.

use std::time::Instant as Clock;

use nm_engine::vnet::{F_NEEDS_CSUM, GSO_TCPV4};
use nm_engine::{
    Command, CommandOutput, Engine, Instant, Io, LinkSpec, NodeConfig, PairRoute, Pool, VnetHeader, HEADROOM,
};

const PACKETS: u32 = 2_000_000;

fn main() {
    for hops in [1, 2, 4, 16] {
        let link = LinkSpec::default();
        let plain = nanos_per_hop(hops, 64, VnetHeader::default(), &link, 0);
        let routed = nanos_per_hop(hops, 64, VnetHeader::default(), &link, 3);
        let gso = VnetHeader {
            flags: F_NEEDS_CSUM,
            gso_type: GSO_TCPV4,
            hdr_len: 40,
            gso_size: 1448,
            csum_start: 20,
            csum_offset: 16,
        };
        let large = nanos_per_hop(hops, 65_000, gso, &link, 0);
        let link = LinkSpec { rate_bps: Some(10_000_000_000_000), ..link };
        let queued = nanos_per_hop(hops, 64, VnetHeader::default(), &link, 0);
        let queued_large = nanos_per_hop(hops, 65_000, gso, &link, 0);
        println!(
            "{hops:>2} hops: {plain:6.1} ns per hop for 64-byte packets, {large:6.1} ns for super-packets; \
             {queued:6.1} and {queued_large:6.1} ns with a rate; {routed:6.1} ns with three explicit routes"
        );
    }
}

/// A line of `hops + 1` nodes whose links are always up, with so many explicit routes from the first to the last.
fn line(hops: u32, spec: &LinkSpec, explicit: u32, io: &mut Io) -> Vec<Engine> {
    let nodes = hops + 1;
    (1..=nodes)
        .map(|id| {
            let mut engine = Engine::new(NodeConfig::new(id));
            let table = (0..=nodes).map(|dst| if dst > id { id + 1 } else { id - 1 }).collect();
            // The next node first, so that link 0 always leads to the next node and the last node's link to the
            // previous one.
            let neighbours: Vec<u32> =
                [id + 1, id - 1].into_iter().filter(|&n| n >= 1 && n <= nodes).collect();
            for remote in neighbours {
                let spec = spec.clone();
                let added = Command::AddLink { remote, remote_name: format!("n{remote}"), spec };
                let Ok(CommandOutput::Link(link)) = engine.handle_command(Instant::ZERO, added, io) else {
                    panic!("no link")
                };
                engine.handle_link_state(Instant::ZERO, link, true, io);
            }
            let route = |route| PairRoute {
                src: 1,
                dst: nodes,
                id: route,
                weight: f64::from(route),
                next_hops: vec![id + 1],
            };
            let routes = if id < nodes { (1..=explicit).map(route).collect() } else { vec![] };
            let routes = Command::InstallRoutes { table: Some(table), routes, removed: vec![] };
            engine.handle_command(Instant::ZERO, routes, io).expect("routes install");
            engine
        })
        .collect()
}

fn nanos_per_hop(hops: u32, len: usize, vnet: VnetHeader, spec: &LinkSpec, explicit: u32) -> f64 {
    let mut io = Io::new(Pool::standalone());
    let mut nodes = line(hops, spec, explicit, &mut io);
    let header = tcp_header(len, hops + 1);
    let start = Clock::now();
    for count in 0..PACKETS {
        let now = Instant(u64::from(count) * 100);
        let mut packet = io.pool.get();
        let storage = packet.storage_mut().expect("a new buffer");
        storage[HEADROOM..HEADROOM + 40].copy_from_slice(&header);
        packet.set_frame(HEADROOM, len, vnet);
        nodes[0].handle_tun(now, packet, &mut io);
        let mut at = 0;
        loop {
            if spec.rate_bps.is_some() {
                let due = nodes[at].poll_deadline().unwrap_or(now);
                nodes[at].handle_timeout(due, &mut io);
            }
            let Some((_, packet)) = io.transmits.pop() else { break };
            at += 1;
            let link = u32::from(at < nodes.len() - 1);
            nodes[at].handle_link(now, link, packet, &mut io);
        }
        let packet = io.tun.pop().expect("the packet arrives");
        io.pool.put(packet);
    }
    start.elapsed().as_nanos() as f64 / f64::from(PACKETS) / f64::from(hops)
}

fn tcp_header(len: usize, dst: u32) -> [u8; 40] {
    let mut header = [0; 40];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    header[8] = 64;
    header[9] = 6;
    header[12..16].copy_from_slice(&[10, 0, 0, 1]);
    header[16..20].copy_from_slice(&[10, 0, 0, dst as u8]);
    header[32] = 0x50;
    header
}
