//! Test groups: which nodes get a copy, over which links, and the load of the source's links.

mod common;

use common::udp;
use nm_engine::{Command, DropCause, Event, GroupInfo, GroupRoute, NodeId, SharedBytes, Target, VnetHeader};
use nm_sim::{Lab, Wire};

#[test]
fn members_get_one_copy_each_and_every_tree_link_carries_one() {
    let mut lab = Lab::tree(7, 1, &Wire::default());
    let group = lab.group(3, 1, &[4, 5, 7]);
    lab.send_ip(1, &udp(1, group.octets(), 16, (1, 2), b"all"), VnetHeader::default());
    lab.run_for(1_000_000);
    for node in 1..=7 {
        let expected = usize::from([4, 5, 7].contains(&node));
        assert_eq!(lab.take(node).tun.len(), expected, "node {node}");
    }
    let sent: u64 = (1..=7).flat_map(|node| lab.stats(node).links).map(|link| link.tx.packets).sum();
    assert_eq!(sent, 5, "1-2, 1-3, 2-4, 2-5, 3-7");
}

#[test]
fn relays_decrement_the_ttl_of_group_packets_without_changing_the_shared_buffer() {
    let mut lab = Lab::line(4, 1, &Wire::default());
    let group = lab.group(3, 1, &[2, 3, 4]);
    lab.send_ip(1, &udp(1, group.octets(), 3, (1, 2), b"all"), VnetHeader::default());
    lab.run_for(1_000_000);
    for (node, ttl) in [(2, 3), (3, 2), (4, 1)] {
        let got = lab.take(node).tun;
        assert_eq!(got[0][8], ttl);
        assert!(common::header_is_whole(&got[0]));
    }
}

/// Installs parts of trees directly, as they coexist while a tree changes, sends one packet from node 1, and returns
/// the number of packets on links and the copies that each node kept.
fn send_through(next_hops: &[(NodeId, &[NodeId])]) -> (Lab, u64, Vec<usize>) {
    let mut lab = Lab::ring(4, 1, &Wire::default());
    let group = lab.group(3, 1, &[2, 3, 4]);
    for &(node, next_hops) in next_hops {
        let route = GroupRoute { tree_id: 1, next_hops: next_hops.to_vec(), local: node != 1 };
        let command = Command::InstallGroupRoutes { group_id: 3, source: 1, routes: vec![route] };
        lab.command(node, command).expect("installed");
    }
    lab.send_ip(1, &udp(1, group.octets(), 200, (1, 2), b"all"), VnetHeader::default());
    lab.run_for(1_000_000_000);
    let sent = (1..=4).flat_map(|node| lab.stats(node).links).map(|link| link.tx.packets).sum();
    let kept = (1..=4).map(|node| lab.take(node).tun.len()).collect();
    (lab, sent, kept)
}

#[test]
fn a_packet_is_not_sent_back_between_neighbours_with_different_trees() {
    // Node 2 has the new tree already, node 3 and node 4 still have the old one, with the opposite direction.
    let (_, sent, kept) = send_through(&[(1, &[2]), (2, &[3]), (3, &[2]), (4, &[3])]);
    assert_eq!((sent, kept), (2, vec![0, 1, 1, 0]));
}

#[test]
fn a_packet_that_returns_to_its_source_is_dropped() {
    let (lab, sent, kept) = send_through(&[(1, &[2]), (2, &[3]), (3, &[4]), (4, &[1])]);
    assert_eq!((sent, kept), (4, vec![0, 1, 1, 1]));
    let lost: u64 = lab.stats(1).links.iter().map(|link| link.rx.drops.get(DropCause::NoRoute)).sum();
    assert_eq!(lost, 1);
}

#[test]
fn a_node_gets_group_traffic_between_join_and_leave() {
    let mut lab = Lab::line(2, 1, &Wire::default());
    let group = lab.group(3, 1, &[2]);
    assert!(lab.take(2).events.contains(&Event::LocalMemberJoined { group_id: 3 }));
    let heard = |lab: &mut Lab| {
        lab.send_ip(1, &udp(1, group.octets(), 16, (1, 2), b"all"), VnetHeader::default());
        lab.run_for(1_000_000);
        lab.take(2)
    };
    assert_eq!(heard(&mut lab).tun.len(), 1);
    lab.command(2, Command::JoinGroup { group_id: 3 }).expect("joining again has no effect");
    lab.command(2, Command::LeaveGroup { group_id: 3 }).expect("left");
    let inbox = heard(&mut lab);
    assert!(inbox.tun.is_empty());
    assert_eq!(inbox.events, [Event::LocalMemberLeft { group_id: 3 }]);
}

#[test]
fn receivers_of_a_group_get_its_messages_and_not_those_sent_to_the_node() {
    let mut lab = Lab::star(4, 1, &Wire::default());
    let group = lab.group(9, 1, &[2, 3, 4]);
    let of_group = lab.listen(3, 1, Some(group));
    let of_node = lab.listen(3, 1, None);
    for (target, text) in [(Target::Group(group), "to all"), (Target::Node(3), "to three")] {
        let payload = SharedBytes::new(text);
        lab.command(1, Command::SendMessage { target, src_port: None, dst_port: None, payload })
            .expect("sent");
    }
    lab.run_for(1_000_000);
    let got: Vec<_> = lab.take(3).deliveries.iter().map(|d| (d.receiver, d.payload().to_vec())).collect();
    assert_eq!(got, [(of_group, b"to all".to_vec()), (of_node, b"to three".to_vec())]);
    assert_eq!(lab.take(4).tun.len(), 1, "without a receiver a member's copy goes to its application");
}

#[test]
fn changes_of_the_directory_are_events() {
    let mut lab = Lab::line(2, 1, &Wire::default());
    assert_eq!(lab.take(2).events, [Event::LinkCarries { remote: 1, carries: true }]);
    let info =
        GroupInfo { group_id: 1, group_ip: [239, 255, 0, 1].into(), source: 1, label: "weights".into() };
    let moved = GroupInfo { group_ip: [239, 255, 0, 2].into(), ..info.clone() };
    lab.command(2, Command::InstallGroups { groups: vec![info], removed: vec![] }).expect("installed");
    lab.command(2, Command::InstallGroups { groups: vec![moved], removed: vec![] }).expect("moved");
    lab.command(2, Command::InstallGroups { groups: vec![], removed: vec![1, 5] }).expect("removed");
    let events = lab.take(2).events;
    assert_eq!(events.len(), 3);
    assert_eq!(events[2], Event::GroupRemoved { group_id: 1 });
}
