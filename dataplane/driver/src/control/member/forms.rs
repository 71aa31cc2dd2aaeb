//! Conversions between the controller's messages and the engine's types.

use std::net::Ipv4Addr;

use nm_engine::{Distribution, GroupInfo, LinkSpec, NodeId};
use nm_messages as wire;

use crate::runtime::Carrier;

/// The link state message for the controller.
pub fn link_state(remote: NodeId, carrier: Option<Carrier>, reason: &str) -> wire::LinkState {
    wire::LinkState {
        remote_node_id: remote,
        up: carrier.is_some(),
        reason: reason.to_owned(),
        kind: carrier.map_or("", Carrier::as_str).to_owned(),
    }
}

/// Whether a node in this state can no longer reply.
pub fn is_unavailable(state: &str) -> bool {
    matches!(state, "unreachable" | "stopped" | "vacant")
}

/// What this end of a link does, as the engine's type.
pub fn link_spec(order: &wire::AddNode) -> LinkSpec {
    let link = &order.link;
    LinkSpec {
        down: order.down,
        rate_bps: link.rate_bps,
        delay_us: link.delay_us.unwrap_or(0),
        jitter_us: link.jitter_us.unwrap_or(0),
        jitter_distribution: match link.jitter_distribution {
            None | Some(wire::Distribution::Normal) => Distribution::Normal,
            Some(wire::Distribution::Uniform) => Distribution::Uniform,
            Some(wire::Distribution::Pareto) => Distribution::Pareto,
        },
        jitter_reorder: link.jitter_reorder.unwrap_or(false),
        loss: link.loss.unwrap_or(0.0),
        loss_burst: link.loss_burst,
        limit_bytes: link.limit_bytes,
        limit_packets: link.limit_packets,
        ..LinkSpec::default()
    }
}

/// Converts a group to the engine's type.
pub fn group_info(group: &wire::Group) -> Result<GroupInfo, String> {
    Ok(GroupInfo {
        group_id: group.group_id,
        group_ip: address(&group.group_ip)?,
        source: group.src_node_id,
        label: group.label.clone(),
    })
}

/// Parses an address of the controller.
pub fn address(text: &str) -> Result<Ipv4Addr, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not an IPv4 address"))
}
