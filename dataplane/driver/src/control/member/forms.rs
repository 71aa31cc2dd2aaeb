//! Conversions between the controller's messages and the engine's types.

use std::net::Ipv4Addr;

use nm_engine::{GroupInfo, LinkSpec, NodeId};
use nm_messages as wire;

use crate::runtime::Carrier;

/// What the controller hears of a link.
pub fn link_state(remote: NodeId, carrier: Option<Carrier>, reason: &str) -> wire::LinkState {
    wire::LinkState {
        remote_node_id: remote,
        up: carrier.is_some(),
        reason: reason.to_owned(),
        kind: carrier.map_or("", Carrier::as_str).to_owned(),
    }
}

/// Whether nothing more can be expected of a node in this state.
pub fn is_gone(state: &str) -> bool {
    matches!(state, "unreachable" | "stopped" | "vacant")
}

/// The engine's form of what a link does.
pub fn link_spec(link: &wire::LinkSpec) -> LinkSpec {
    LinkSpec {
        rate_bps: link.rate_bps,
        delay_us: link.delay_us.unwrap_or(0),
        loss: link.loss.unwrap_or(0.0),
        limit_bytes: link.limit_bytes,
        limit_packets: link.limit_packets,
        mtu: None,
    }
}

/// The engine's form of a group.
pub fn group_info(group: &wire::Group) -> Result<GroupInfo, String> {
    Ok(GroupInfo {
        group_id: group.group_id,
        group_ip: address(&group.group_ip)?,
        source: group.src_node_id,
        label: group.label.clone(),
    })
}

/// An address that the controller gave as text.
pub fn address(text: &str) -> Result<Ipv4Addr, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not an IPv4 address"))
}
