use super::*;
use std::net::Ipv4Addr;

fn member() -> Member {
    Member::new(Introduction {
        node_id: 2,
        private_network_name: "lab".to_owned(),
        private_address: None,
        link_port: 4000,
        public_network_addr: String::new(),
        link_door: Some("/run/links/node-2.sock".into()),
        external: false,
        process: 9,
        mtu: 1500,
    })
}

fn add(version: u64, process: u64) -> wire::ToNode {
    wire::ToNode::AddNode(wire::AddNode {
        remote_node_id: 3,
        remote_name: "c".to_owned(),
        remote_addr: "127.0.0.1:5000".to_owned(),
        remote_door: String::new(),
        remote_process: process,
        same_process: false,
        dial: true,
        link: wire::LinkSpec::default(),
        version,
        secret: wire::Secret::default(),
    })
}

fn routes(version: u64, routes: Vec<wire::Route>, removed: Vec<u64>) -> wire::ToNode {
    let install = wire::InstallRoutes {
        version,
        table: None,
        routes,
        removed,
        reset: false,
    };
    wire::ToNode::InstallRoutes(install)
}

fn route(route_id: u64, next_hop: u32) -> wire::Route {
    wire::Route {
        route_id,
        src_node_id: 1,
        dst_node_id: 5,
        next_hops: vec![next_hop],
    }
}

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[test]
fn a_node_that_lost_everything_registers_as_one_that_was_told_nothing() {
    let mut member = member();
    member.handle(add(4, 9)).expect("a link");
    member
        .handle(routes(7, vec![route(1, 3)], vec![]))
        .expect("routes");
    assert_ne!(member.start_up(LOCAL).have, wire::Have::default());
    member.forget();
    assert_eq!(member.start_up(LOCAL).have, wire::Have::default());
    assert!(
        !member.became_ready(),
        "not before the routes are there again"
    );
    let again = member.handle(add(4, 9)).expect("the same link");
    assert!(
        matches!(again[..], [Effect::Connect(_)]),
        "made, not changed"
    );
}

#[test]
fn the_first_registration_holds_nothing_and_a_later_one_shows_the_versions() {
    let mut member = member();
    let first = member.start_up(LOCAL);
    assert_eq!(first.private_network_addr, "127.0.0.1:4000");
    assert_eq!(first.link_door, "/run/links/node-2.sock");
    assert_eq!(first.have, wire::Have::default());
    member.handle(add(7, 1)).expect("a link");
    member.handle(routes(8, vec![], vec![])).expect("routes");
    let directory = wire::InstallGroupDirectory {
        version: 11,
        groups: vec![],
        removed: vec![],
        reset: false,
    };
    member
        .handle(wire::ToNode::InstallGroupDirectory(directory))
        .expect("groups");
    let tree = wire::InstallGroupRoutes {
        group_id: 1,
        src_node_id: 2,
        version: 10,
        routes: vec![],
    };
    member
        .handle(wire::ToNode::InstallGroupRoutes(tree))
        .expect("a tree");
    let have = member.start_up(LOCAL).have;
    assert_eq!((have.routes, have.groups), (Some(8), Some(11)));
    assert_eq!(have.links.into_iter().collect::<Vec<_>>(), [(3, 7)]);
    assert_eq!(have.trees.into_iter().collect::<Vec<_>>(), [(1, 10)]);
}

#[test]
fn ready_is_announced_once_each_time_it_becomes_true() {
    let mut member = member();
    assert!(!member.became_ready(), "no routes yet");
    member.handle(routes(1, vec![], vec![])).expect("routes");
    assert!(member.became_ready(), "no links to wait for");
    assert!(!member.became_ready(), "once");
    member.handle(add(1, 1)).expect("a link");
    assert!(!member.became_ready(), "the link is not up");
    assert!(member.link_changed(3, Some(Carrier::Tcp), ""));
    assert!(member.became_ready());
    member.start_up(LOCAL);
    assert!(
        member.became_ready(),
        "a controller that came back hears it again"
    );
}

#[test]
fn a_neighbour_that_is_who_it_was_keeps_its_link() {
    let mut member = member();
    assert!(matches!(
        member.handle(add(1, 1)).as_deref(),
        Ok([Effect::Connect(_)])
    ));
    assert!(matches!(
        member.handle(add(2, 1)).as_deref(),
        Ok([Effect::SetLink(3, _)])
    ));
    assert!(
        matches!(
            member.handle(add(3, 2)).as_deref(),
            Ok([Effect::Connect(_)])
        ),
        "started anew"
    );
}

#[test]
fn routes_of_a_pair_are_numbered_by_their_ids() {
    let mut member = member();
    let effects = member
        .handle(routes(1, vec![route(20, 3), route(10, 4)], vec![]))
        .expect("routes");
    let Effect::Routes {
        routes: found,
        removed,
        ..
    } = &effects[0]
    else {
        panic!("{effects:?}")
    };
    assert_eq!(removed, &[(1, 5)]);
    let shape: Vec<_> = found
        .iter()
        .map(|route| (route.index, route.of, route.next_hops[0]))
        .collect();
    assert_eq!(shape, [(0, 2, 4), (1, 2, 3)]);
    let effects = member
        .handle(routes(2, vec![], vec![10]))
        .expect("a removal");
    let Effect::Routes { routes: found, .. } = &effects[0] else {
        panic!("{effects:?}")
    };
    assert_eq!(
        found
            .iter()
            .map(|route| (route.index, route.of))
            .collect::<Vec<_>>(),
        [(0, 1)]
    );
}

#[test]
fn a_reset_directory_drops_what_it_does_not_name() {
    let mut member = member();
    let group = |group_id| wire::Group {
        group_id,
        group_ip: format!("239.255.0.{group_id}"),
        src_node_id: 2,
        label: String::new(),
    };
    let directory = |groups, reset| {
        wire::ToNode::InstallGroupDirectory(wire::InstallGroupDirectory {
            version: 1,
            groups,
            removed: vec![],
            reset,
        })
    };
    member
        .handle(directory(vec![group(1), group(2)], false))
        .expect("two groups");
    let effects = member
        .handle(directory(vec![group(2)], true))
        .expect("a reset");
    assert!(matches!(&effects[0], Effect::Groups { removed, .. } if removed == &[1]));
}

#[test]
fn a_node_that_is_gone_is_named_with_its_state() {
    let mut member = member();
    let state = |state: &str| {
        wire::ToNode::NodeState(wire::NodeState {
            node_id: 4,
            state: state.to_owned(),
        })
    };
    let effects = member.handle(state("unreachable")).expect("a state");
    assert_eq!(
        effects[0],
        Effect::Gone {
            node: 4,
            reason: "node 4 is unreachable".to_owned()
        }
    );
    assert_eq!(member.handle(state("ready")).expect("a state").len(), 1);
}

#[test]
fn nonsense_is_refused_and_changes_nothing() {
    let mut member = member();
    let set = wire::SetLink {
        remote_node_id: 8,
        link: wire::LinkSpec::default(),
        version: 1,
    };
    assert!(member.handle(wire::ToNode::SetLink(set)).is_err());
    let group = wire::Group {
        group_id: 1,
        group_ip: "x".to_owned(),
        src_node_id: 1,
        label: String::new(),
    };
    let directory = wire::InstallGroupDirectory {
        version: 5,
        groups: vec![group],
        removed: vec![],
        reset: false,
    };
    assert!(member
        .handle(wire::ToNode::InstallGroupDirectory(directory))
        .is_err());
    assert_eq!(member.start_up(LOCAL).have.groups, None);
}
