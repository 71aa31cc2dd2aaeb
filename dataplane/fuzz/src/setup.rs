//! Give an engine its links, routes and group.

use std::net::Ipv4Addr;

use nm_engine::{
    Command, CommandOutput, Engine, GroupInfo, GroupRoute, Instant, Io, LinkId, LinkSpec, NodeId,
};

/// The group of every engine that is fuzzed, and its address.
const GROUP_ID: u32 = 1;
pub const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 0, 1);

/// Adds a link that is up.
pub fn add_link(engine: &mut Engine, now: Instant, remote: NodeId, io: &mut Io) -> LinkId {
    let added = Command::AddLink {
        remote,
        remote_name: format!("n{remote}"),
        spec: LinkSpec::default(),
    };
    let Ok(CommandOutput::Link(link)) = engine.handle_command(now, added, io) else {
        panic!("a link")
    };
    engine.handle_link_state(now, link, true, io);
    link
}

/// Installs routes and a group of `source`, whose packets go to `next_hops` and to this node, a member.
pub fn install(
    engine: &mut Engine,
    now: Instant,
    table: Vec<NodeId>,
    source: NodeId,
    next_hops: &[NodeId],
    io: &mut Io,
) {
    let info = GroupInfo {
        group_id: GROUP_ID,
        group_ip: GROUP,
        source,
        label: "g".into(),
    };
    let branch = GroupRoute {
        tree_id: 1,
        next_hops: next_hops.to_vec(),
        local: true,
    };
    let commands = [
        Command::InstallRoutes {
            table: Some(table),
            routes: vec![],
            removed: vec![],
        },
        Command::InstallGroups {
            groups: vec![info],
            removed: vec![],
        },
        Command::InstallGroupRoutes {
            group_id: GROUP_ID,
            source,
            routes: vec![branch],
        },
        Command::JoinGroup { group_id: GROUP_ID },
    ];
    for command in commands {
        engine
            .handle_command(now, command, io)
            .expect("a valid command");
    }
}
