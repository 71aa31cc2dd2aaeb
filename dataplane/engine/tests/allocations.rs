//! Test that an engine in steady state allocates nothing for forwarded packets, and nothing per packet of a session.

// A global allocator that counts allocations cannot be written without unsafe code.
#![allow(unsafe_code, reason = "a counting global allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::Ipv4Addr;

use nm_engine::vnet::{F_NEEDS_CSUM, GSO_TCPV4};
use nm_engine::{
    Command, CommandOutput, Engine, GroupInfo, GroupRoute, Instant, Io, LinkId, LinkSpec, NodeConfig, Packet,
    PairRoute, Pool, SharedBytes, VnetHeader, HEADROOM,
};

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches a thread-local cell only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps GlobalAlloc's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps GlobalAlloc's contract.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps GlobalAlloc's contract.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread during `action`.
fn allocations(mut action: impl FnMut()) -> u64 {
    let before = COUNT.with(Cell::get);
    action();
    COUNT.with(Cell::get) - before
}

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 0, 1);
/// Node 2's links in [`line`].
const BACK: LinkId = 0;

#[test]
fn forwarding_allocates_nothing() {
    let (mut io, mut nodes) = line();
    for (dst, arrivals) in [([10, 0, 0, 3], 1), ([239, 255, 0, 1], 2)] {
        let mut pass = |rounds: u32| {
            for _ in 0..rounds {
                let packet = super_packet(&mut io, dst);
                nodes[0].handle_tun(Instant(1), packet, &mut io);
                run(&mut nodes, &mut io, 0);
                assert_eq!(io.tun.len(), arrivals);
                while let Some(packet) = io.tun.pop() {
                    io.pool.put(packet);
                }
            }
        };
        pass(100);
        assert_eq!(allocations(|| pass(10_000)), 0, "towards {dst:?}");
    }
}

#[test]
fn the_choice_of_a_route_allocates_nothing_once_a_flow_is_recorded() {
    let (mut io, mut nodes) = line();
    let route = |id| PairRoute { src: 1, dst: 3, id, weight: f64::from(id), next_hops: vec![2] };
    let routes = Command::InstallRoutes { table: None, routes: vec![route(1), route(2)], removed: vec![] };
    command(&mut nodes, &mut io, 0, routes);
    let mut pass = |rounds: u32| {
        for _ in 0..rounds {
            let packet = super_packet(&mut io, [10, 0, 0, 3]);
            nodes[0].handle_tun(Instant(1), packet, &mut io);
            run(&mut nodes, &mut io, 0);
            while let Some(packet) = io.tun.pop() {
                assert_ne!(packet.route(), 0);
                io.pool.put(packet);
            }
        }
    };
    pass(100);
    assert_eq!(allocations(|| pass(10_000)), 0);
}

#[test]
fn a_link_with_impairments_allocates_nothing_once_its_queues_have_grown() {
    let spec = LinkSpec { rate_bps: Some(10_000_000_000), delay_us: 100, loss: 0.01, ..LinkSpec::default() };
    check_impaired(spec.clone());
    check_impaired(LinkSpec { jitter_us: 50, loss_burst: Some(3.0), ..spec.clone() });
    check_impaired(LinkSpec {
        duplicate: 0.02,
        reorder: 0.02,
        reorder_gap: Some(3),
        corrupt: 0.02,
        rate_burst_bytes: Some(64_000),
        ..spec
    });
}

fn check_impaired(spec: LinkSpec) {
    let (mut io, mut nodes) = line();
    nodes[0].handle_command(Instant::ZERO, Command::SetLink { remote: 2, spec }, &mut io).expect("shaped");
    let mut now = 0;
    let mut pass = |rounds: u32, io: &mut Io| {
        for _ in 0..rounds {
            now += 60_000;
            let packet = super_packet(io, [10, 0, 0, 3]);
            nodes[0].handle_tun(Instant(now), packet, io);
            nodes[0].handle_timeout(Instant(now), io);
            run(&mut nodes, io, 0);
            while let Some(packet) = io.tun.pop() {
                io.pool.put(packet);
            }
        }
    };
    pass(200_000, &mut io);
    // Later random loss may queue more packets at once than before, so a few more buffers are provided.
    let sizes = [100, 60_000].into_iter().cycle().take(128);
    let spare: Vec<Packet> = sizes.map(|len| io.pool.get_for(len)).collect();
    spare.into_iter().for_each(|packet| io.pool.put(packet));
    assert_eq!(allocations(|| pass(10_000, &mut io)), 0);
}

#[test]
fn a_session_allocates_nothing_per_packet() {
    const LEN: usize = 20_000_000;
    let (mut io, mut nodes) = line();
    for node in [2, 3] {
        let receive = Command::ReceiveData { dest: GROUP, source: 1, expected_bytes: LEN as u64 };
        command(&mut nodes, &mut io, node, receive);
    }
    let data = SharedBytes::new(vec![1; LEN]);
    command(&mut nodes, &mut io, 0, Command::SendData { dest: GROUP, receivers: vec![2, 3], data });
    let mut pass = |rounds: u32| {
        for round in 0..rounds {
            let now = Instant(u64::from(round) * 100_000);
            nodes[0].poll_transmit(now, &mut io);
            run(&mut nodes, &mut io, 0);
        }
    };
    pass(100);
    let count = allocations(|| pass(150));
    assert!(count < 10, "{count} allocations in 150 super-packets");
}

/// Three nodes in a line, with routes and a group of which all are members.
fn line() -> (Io, Vec<Engine>) {
    let mut io = Io::new(Pool::standalone());
    let mut nodes: Vec<Engine> = (1..=3).map(|id| Engine::new(NodeConfig::new(id))).collect();
    let tables = [vec![0, 0, 2, 2], vec![0, 1, 0, 3], vec![0, 2, 2, 0]];
    let children = [vec![2], vec![3], vec![]];
    for (index, (table, next_hops)) in tables.into_iter().zip(children).enumerate() {
        for remote in [index as u32, index as u32 + 2].into_iter().filter(|id| (1..=3).contains(id)) {
            let added =
                Command::AddLink { remote, remote_name: format!("n{remote}"), spec: LinkSpec::default() };
            let CommandOutput::Link(link) = command(&mut nodes, &mut io, index, added) else {
                panic!("no link")
            };
            nodes[index].handle_link_state(Instant::ZERO, link, true, &mut io);
        }
        let routes = Command::InstallRoutes { table: Some(table), routes: vec![], removed: vec![] };
        command(&mut nodes, &mut io, index, routes);
        let info = GroupInfo { group_id: 1, group_ip: GROUP, source: 1, label: String::new() };
        command(&mut nodes, &mut io, index, Command::InstallGroups { groups: vec![info], removed: vec![] });
        let routes = vec![GroupRoute { tree_id: 0, next_hops, local: true }];
        command(&mut nodes, &mut io, index, Command::InstallGroupRoutes { group_id: 1, source: 1, routes });
        command(&mut nodes, &mut io, index, Command::JoinGroup { group_id: 1 });
    }
    (io, nodes)
}

/// Nodes are given as index 0 to 2, or as id 3 for the last one.
fn command(nodes: &mut [Engine], io: &mut Io, node: usize, command: Command) -> CommandOutput {
    let index = if node > 2 || matches!(command, Command::ReceiveData { .. }) { node - 1 } else { node };
    let output = nodes[index].handle_command(Instant::ZERO, command, io).expect("accepted");
    run(nodes, io, index);
    output
}

/// Forwards the output of a node until no node has output.
fn run(nodes: &mut [Engine], io: &mut Io, mut at: usize) {
    let now = Instant(1);
    while let Some((link, packet)) = io.transmits.pop() {
        // In a line of three only the middle node has two links.
        let next = match at {
            1 if link == BACK => 0,
            1 => 2,
            _ => 1,
        };
        let link = if at == 2 { 1 } else { 0 };
        nodes[next].handle_link(now, link, packet, io);
        at = next;
    }
    io.events.clear();
}

fn super_packet(io: &mut Io, dst: [u8; 4]) -> Packet {
    let len: usize = 60_000;
    let mut packet = io.pool.get();
    let header = &mut packet.storage_mut().expect("a new buffer")[HEADROOM..HEADROOM + 40];
    header.fill(0);
    header[0] = 0x45;
    header[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    header[8] = 64;
    header[9] = 6;
    header[12..16].copy_from_slice(&[10, 0, 0, 1]);
    header[16..20].copy_from_slice(&dst);
    header[32] = 0x50;
    let vnet = VnetHeader {
        flags: F_NEEDS_CSUM,
        gso_type: GSO_TCPV4,
        hdr_len: 40,
        gso_size: 1448,
        csum_start: 20,
        csum_offset: 16,
    };
    packet.set_frame(HEADROOM, len, vnet);
    packet
}
