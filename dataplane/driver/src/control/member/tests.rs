use super::*;
use std::net::Ipv4Addr;

pub(super) fn member() -> Member {
    Member::new(Identity {
        node_id: 2,
        token: Secret("word".to_owned()),
        private_network_name: "lab".to_owned(),
        private_address: None,
        link_port: 4000,
        public_network_addr: String::new(),
        link_socket: Some("/run/links/node-2.sock".into()),
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
        remote_socket: String::new(),
        remote_process: process,
        same_process: false,
        dial: true,
        link: wire::LinkSpec::default(),
        version,
        secret: wire::Secret::default(),
        down: false,
    })
}

fn routes(version: u64, routes: Vec<wire::Route>, removed: Vec<u64>) -> wire::ToNode {
    let install = wire::InstallRoutes {
        version,
        table: None,
        routes,
        removed,
        reset: false,
        pins: vec![],
        removed_pins: vec![],
    };
    wire::ToNode::InstallRoutes(install)
}

pub(super) fn route(route_id: u64, next_hop: u32) -> wire::Route {
    wire::Route {
        route_id,
        src_node_id: 1,
        dst_node_id: 5,
        next_hops: vec![next_hop],
        weight: 1.0,
    }
}

/// Handles an order, ends all of its steps successfully, and returns their effects.
pub(super) fn apply(member: &mut Member, order: wire::ToNode) -> Result<Vec<Effect>, String> {
    let steps = member.handle(order)?;
    Ok(steps
        .into_iter()
        .filter_map(|step| {
            member.end(step.ticket, &Ok(()));
            step.effect
        })
        .collect())
}

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[test]
fn a_node_that_lost_its_state_registers_without_versions() {
    let mut member = member();
    apply(&mut member, add(4, 9)).expect("a link");
    apply(&mut member, routes(7, vec![route(1, 3)], vec![])).expect("routes");
    assert_ne!(member.start_up(LOCAL).have, wire::Have::default());
    member.forget();
    assert_eq!(member.start_up(LOCAL).have, wire::Have::default());
    assert!(
        !member.became_ready(),
        "not before the routes are there again"
    );
    let again = apply(&mut member, add(4, 9)).expect("the same link");
    assert!(
        matches!(again[..], [Effect::Connect(..)]),
        "made, not changed"
    );
}

#[test]
fn the_first_registration_has_no_versions_and_a_later_one_has_those_in_force() {
    let mut member = member();
    let first = member.start_up(LOCAL);
    assert_eq!(first.private_network_addr, "127.0.0.1:4000");
    assert_eq!(first.link_socket, "/run/links/node-2.sock");
    assert_eq!(first.have, wire::Have::default());
    apply(&mut member, add(7, 1)).expect("a link");
    apply(&mut member, routes(8, vec![], vec![])).expect("routes");
    let directory = wire::InstallGroupDirectory {
        version: 11,
        groups: vec![],
        removed: vec![],
        reset: false,
    };
    apply(&mut member, wire::ToNode::InstallGroupDirectory(directory)).expect("groups");
    let tree = wire::InstallGroupRoutes {
        group_id: 1,
        src_node_id: 2,
        version: 10,
        routes: vec![wire::GroupRoute {
            tree_id: 0,
            route_id: 1,
            next_hops: vec![3],
            local: false,
            weight: None,
        }],
    };
    apply(&mut member, wire::ToNode::InstallGroupRoutes(tree)).expect("a tree");
    let have = member.start_up(LOCAL).have;
    assert_eq!((have.routes, have.groups), (Some(8), Some(11)));
    assert_eq!(have.links.into_iter().collect::<Vec<_>>(), [(3, 7)]);
    assert_eq!(have.trees.into_iter().collect::<Vec<_>>(), [(1, 10)]);
}

#[test]
fn ready_is_announced_once_each_time_it_becomes_true() {
    let mut member = member();
    assert!(!member.became_ready(), "no routes yet");
    apply(&mut member, routes(1, vec![], vec![])).expect("routes");
    assert!(member.became_ready(), "no links to wait for");
    assert!(!member.became_ready(), "once");
    apply(&mut member, add(1, 1)).expect("a link");
    assert!(!member.became_ready(), "the link is not up");
    assert!(member.link_changed(3, Some(Carrier::Tcp), ""));
    assert!(member.became_ready());
    member.start_up(LOCAL);
    assert!(member.became_ready(), "sent again after a reconnect");
}

#[test]
fn the_link_to_a_neighbour_that_has_not_restarted_is_kept() {
    let mut member = member();
    assert!(matches!(
        apply(&mut member, add(1, 1)).as_deref(),
        Ok([Effect::Connect(..)])
    ));
    assert!(matches!(
        apply(&mut member, add(2, 1)).as_deref(),
        Ok([Effect::SetLink(3, _)])
    ));
    assert!(
        matches!(
            apply(&mut member, add(3, 2)).as_deref(),
            Ok([Effect::Connect(..)])
        ),
        "restarted"
    );
}

#[test]
fn routes_of_a_pair_are_sorted_by_their_ids() {
    let mut member = member();
    let effects = apply(
        &mut member,
        routes(1, vec![route(20, 3), route(10, 4)], vec![]),
    )
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
        .map(|route| (route.id, route.next_hops[0]))
        .collect();
    assert_eq!(shape, [(10, 4), (20, 3)]);
    let effects = apply(&mut member, routes(2, vec![], vec![10])).expect("a removal");
    let Effect::Routes { routes: found, .. } = &effects[0] else {
        panic!("{effects:?}")
    };
    assert_eq!(found.iter().map(|route| route.id).collect::<Vec<_>>(), [20]);
}

#[test]
fn a_reset_directory_removes_the_groups_that_it_does_not_list() {
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
    apply(&mut member, directory(vec![group(1), group(2)], false)).expect("two groups");
    let effects = apply(&mut member, directory(vec![group(2)], true)).expect("a reset");
    assert!(matches!(&effects[0], Effect::Groups { removed, .. } if removed == &[1]));
}

#[test]
fn an_unavailable_node_is_reported_with_its_state() {
    let mut member = member();
    let state = |state: &str| {
        wire::ToNode::NodeState(wire::NodeState {
            node_id: 4,
            state: state.to_owned(),
        })
    };
    let effects = apply(&mut member, state("unreachable")).expect("a state");
    assert_eq!(
        effects[0],
        Effect::NodeGone {
            node: 4,
            reason: "node 4 is unreachable".to_owned()
        }
    );
    assert_eq!(
        apply(&mut member, state("ready")).expect("a state").len(),
        1
    );
}

#[test]
fn an_invalid_order_is_refused_and_changes_nothing() {
    let mut member = member();
    let set = wire::SetLink {
        remote_node_id: 8,
        link: wire::LinkSpec::default(),
        version: 1,
        down: false,
    };
    assert!(apply(&mut member, wire::ToNode::SetLink(set)).is_err());
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
    assert!(apply(&mut member, wire::ToNode::InstallGroupDirectory(directory)).is_err());
    assert_eq!(member.start_up(LOCAL).have.groups, None);
}

fn ended(tickets: impl IntoIterator<Item = u64>) -> Ended {
    Ended {
        tickets: tickets.into_iter().collect(),
        link: None,
    }
}

fn ticket(steps: Result<Vec<Step>, String>) -> u64 {
    let steps = steps.expect("a valid order");
    assert_eq!(steps.len(), 1, "{steps:?}");
    steps[0].ticket
}

#[test]
fn a_version_is_in_force_when_its_effect_has_succeeded() {
    let mut member = member();
    let link = ticket(member.handle(add(7, 1)));
    let table = ticket(member.handle(routes(8, vec![], vec![])));
    let have = member.start_up(LOCAL).have;
    assert_eq!((have.routes, have.links.get(&3)), (None, Some(&0)));
    assert_eq!(member.end(table, &Ok(())), ended([table]));
    assert_eq!(member.end(link, &Ok(())), ended([link]));
    let have = member.start_up(LOCAL).have;
    assert_eq!((have.routes, have.links.get(&3)), (Some(8), Some(&7)));
    let refused = ticket(member.handle(add(9, 1)));
    member.end(refused, &Err("no".to_owned()));
    assert_eq!(member.start_up(LOCAL).have.links.get(&3), Some(&0));
}

#[test]
fn a_refused_link_is_made_by_the_next_order() {
    let mut member = member();
    let first = ticket(member.handle(add(7, 1)));
    let end = member.end(first, &Err("no room".to_owned()));
    assert_eq!(end.link, Some(3));
    let state = member.state_of(3).expect("a state");
    assert_eq!((state.up, state.reason.as_str()), (false, "no room"));
    assert!(
        !member.link_changed(3, Some(Carrier::Tcp), ""),
        "it is not there"
    );
    let again = apply(&mut member, add(7, 1));
    assert!(
        matches!(again.as_deref(), Ok([Effect::Connect(..)])),
        "{again:?}"
    );
    assert_eq!(member.start_up(LOCAL).have.links.get(&3), Some(&7));
}

#[test]
fn a_repeated_order_for_a_link_that_is_up_reports_it_up_again() {
    let mut member = member();
    apply(&mut member, add(7, 1)).expect("a link");
    assert!(member.link_changed(3, Some(Carrier::Tcp), ""));
    let again = ticket(member.handle(add(8, 1)));
    assert_eq!(member.end(again, &Ok(())).link, Some(3));
    assert!(member.state_of(3).is_some_and(|state| state.up));
    let set = wire::SetLink {
        remote_node_id: 3,
        link: wire::LinkSpec::default(),
        version: 9,
        down: false,
    };
    let set = ticket(member.handle(wire::ToNode::SetLink(set)));
    assert_eq!(member.end(set, &Ok(())).link, None);
}

#[test]
fn a_late_failure_of_a_replaced_link_changes_nothing() {
    let mut member = member();
    let first = ticket(member.handle(add(7, 1)));
    let second = ticket(member.handle(add(8, 2)));
    assert_eq!(member.end(first, &Err("no".to_owned())).link, None);
    member.end(second, &Ok(()));
    assert_eq!(member.start_up(LOCAL).have.links.get(&3), Some(&8));
}

#[test]
fn incremental_routes_after_a_failure_are_refused_until_a_full_order() {
    let mut member = member();
    let first = ticket(member.handle(routes(1, vec![route(10, 4)], vec![])));
    member.end(first, &Err("no".to_owned()));
    let refused = member.handle(routes(2, vec![route(11, 4)], vec![]));
    assert!(refused.expect_err("refused").contains("complete state"));
    let full = wire::ToNode::InstallRoutes(wire::InstallRoutes {
        version: 3,
        table: Some(vec![0; 8].into()),
        routes: vec![route(12, 4)],
        removed: vec![],
        reset: true,
        pins: vec![],
        removed_pins: vec![],
    });
    apply(&mut member, full).expect("full");
    assert_eq!(member.start_up(LOCAL).have.routes, Some(3));
}

#[test]
fn a_link_is_kept_until_its_removal_has_ended() {
    let mut member = member();
    apply(&mut member, add(7, 1)).expect("a link");
    let remove = wire::ToNode::RemoveNode(wire::RemoveNode { remote_node_id: 3 });
    let going = ticket(member.handle(remove.clone()));
    assert_eq!(
        member.start_up(LOCAL).have.links.get(&3),
        Some(&0),
        "sent again"
    );
    assert!(!member.link_changed(3, None, "removed"));
    member.end(going, &Ok(()));
    assert_eq!(member.start_up(LOCAL).have.links.get(&3), None);
    assert_eq!(member.handle(remove), Ok(vec![]), "twice is fine");
}

#[test]
fn a_link_waits_for_its_lookup_and_ignores_a_stale_result() {
    let named = |version, name: &str| {
        let wire::ToNode::AddNode(add) = add(version, 1) else {
            unreachable!("as made above")
        };
        let remote_addr = name.to_owned();
        wire::ToNode::AddNode(wire::AddNode { remote_addr, ..add })
    };
    let mut member = member();
    let first = ticket(member.handle(named(1, "old.example:1")));
    let second = ticket(member.handle(named(2, "new.example:1")));
    let address: SocketAddr = ([10, 0, 0, 1], 1).into();
    assert_eq!(member.resolved(3, first, Ok(address)), Resolved::Stale);
    let failed = |attempts, changed| Resolved::Failed { attempts, changed };
    let reason = || Err("no such name".to_owned());
    assert_eq!(member.resolved(3, second, reason()), failed(1, true));
    assert_eq!(member.resolved(3, second, reason()), failed(2, false));
    assert!(
        !member.link_changed(3, Some(Carrier::Tcp), ""),
        "that was the old end"
    );
    assert_eq!(
        member.resolve_again(3, second),
        Some(Effect::Resolve {
            remote: 3,
            name: "new.example:1".to_owned()
        })
    );
    let Resolved::Connect(step) = member.resolved(3, second, Ok(address)) else {
        panic!("a link")
    };
    assert!(matches!(step.effect, Some(Effect::Connect(_, Some(found))) if found == address));
    assert_eq!(
        member.end(step.ticket, &Ok(())),
        ended([step.ticket, first, second])
    );
    assert_eq!(member.resolve_again(3, second), None);
    assert_eq!(member.start_up(LOCAL).have.links.get(&3), Some(&2));
}

#[test]
fn an_address_without_host_or_port_is_refused_at_once() {
    for wrong in ["", "here", "here:0", "here:99999", ":80"] {
        let wire::ToNode::AddNode(add) = add(1, 1) else {
            unreachable!("as made above")
        };
        let remote_addr = wrong.to_owned();
        let add = wire::ToNode::AddNode(wire::AddNode { remote_addr, ..add });
        let refused = member().handle(add).expect_err("no address");
        assert!(refused.contains("is no address to dial"), "{refused}");
    }
}

/// As many routes as fit into one message; a linear search for each would take minutes.
#[test]
fn a_hundred_thousand_routes_are_handled_in_a_short_time() {
    let many = (0..100_000u32).map(|n| wire::Route {
        route_id: u64::from(n + 1),
        src_node_id: n % 1000,
        dst_node_id: n / 1000,
        next_hops: vec![n],
        weight: 1.0,
    });
    let mut member = member();
    let start = std::time::Instant::now();
    apply(&mut member, routes(1, many.collect(), vec![])).expect("routes");
    apply(&mut member, routes(2, vec![], (1..=100_000).collect())).expect("removals");
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}
