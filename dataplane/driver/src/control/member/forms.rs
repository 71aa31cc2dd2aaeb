//! Conversions between the controller's messages and the engine's types.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use nm_engine::{
    ClassKey, Classes, Distribution, GroupInfo, LinkSpec, NodeId, PairRoute, Pin, QueueDiscipline,
    RouteId, Scheduler, Trace,
};
use nm_flows::{Amount, FlowSpec};
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

/// A flow as the endpoint's type.
pub fn flow_spec(flow: &wire::Flow) -> Result<FlowSpec, String> {
    let id = flow.controller_id;
    let amount = match (flow.size_bytes, flow.duration_ms) {
        (Some(size), None) => Amount::Bytes(size),
        (None, Some(time)) => Amount::Time(Duration::from_millis(time)),
        _ => return Err(format!("flow {id} needs either a size or a duration")),
    };
    if flow.transport != "tcp" {
        let found = &flow.transport;
        return Err(format!(
            "flow {id} has transport {found:?}, expected \"tcp\""
        ));
    }
    if flow.rate_bps == Some(0) {
        return Err(format!(
            "flow {id} has a rate of 0, expected bits per second"
        ));
    }
    Ok(FlowSpec {
        id,
        src: flow.src_node_id,
        dst: flow.dst_node_id,
        amount,
        rate_bps: flow.rate_bps,
        weight: flow.weight.unwrap_or(1).max(1),
        route: flow.route_id.map_or(Ok(0), route_id)?,
    })
}

/// A route as the engine's type.
pub fn pair_route(route: &wire::Route) -> Result<PairRoute, String> {
    if !(route.weight > 0.0 && route.weight.is_finite()) {
        let (id, weight) = (route.route_id, route.weight);
        return Err(format!(
            "route {id} has the weight {weight}, expected a positive number"
        ));
    }
    Ok(PairRoute {
        src: route.src_node_id,
        dst: route.dst_node_id,
        id: route_id(route.route_id)?,
        weight: route.weight,
        next_hops: route.next_hops.clone(),
    })
}

/// A pin as the engine's type.
pub fn pin(pin: &wire::Pin) -> Result<Pin, String> {
    Ok(Pin {
        id: pin.pin_id,
        src: pin.src_node_id,
        dst: pin.dst_node_id,
        protocol: pin.protocol,
        src_port: pin.src_port,
        dst_port: pin.dst_port,
        route: route_id(pin.route_id)?,
    })
}

/// The number of a route, which packets carry between nodes in 32 bits.
fn route_id(id: u64) -> Result<RouteId, String> {
    let number = RouteId::try_from(id).ok().filter(|number| *number != 0);
    number.ok_or_else(|| {
        format!(
            "{id} is no number of a route, expected 1 to {}",
            RouteId::MAX
        )
    })
}

/// What this end of a link does, as the engine's type.
pub fn link_spec(order: &wire::AddNode) -> LinkSpec {
    // Orders whose trace is none are refused when they arrive.
    let trace = trace(&order.link).unwrap_or(None);
    with_trace(&order.link, trace, order.down)
}

/// The impairments of a direction of a link, as the engine's type.
///
/// # Errors
///
/// Its trace is none, or is missing.
pub fn impairments(link: &wire::LinkSpec, down: bool) -> Result<LinkSpec, String> {
    Ok(with_trace(link, trace(link)?, down))
}

fn with_trace(link: &wire::LinkSpec, trace: Option<Trace>, down: bool) -> LinkSpec {
    LinkSpec {
        down,
        rate_bps: link.rate_bps,
        rate_burst_bytes: link.rate_burst_bytes,
        delay_us: link.delay_us.unwrap_or(0),
        jitter_us: link.jitter_us.unwrap_or(0),
        jitter_distribution: match link.jitter_distribution {
            // A table replaces the distribution.
            None | Some(wire::Distribution::Normal | wire::Distribution::Table) => {
                Distribution::Normal
            }
            Some(wire::Distribution::Uniform) => Distribution::Uniform,
            Some(wire::Distribution::Pareto) => Distribution::Pareto,
        },
        jitter_table: link.jitter_table.as_deref().map(Arc::from),
        jitter_reorder: link.jitter_reorder.unwrap_or(false),
        loss: link.loss.unwrap_or(0.0),
        loss_burst: link.loss_burst,
        duplicate: link.duplicate.unwrap_or(0.0),
        reorder: link.reorder.unwrap_or(0.0),
        reorder_gap: link.reorder_gap,
        corrupt: link.corrupt.unwrap_or(0.0),
        limit_bytes: link.limit_bytes,
        limit_packets: link.limit_packets,
        limit_us: link.limit_us,
        queue: queue(link),
        ecn: link.ecn.unwrap_or(false),
        scheduler: scheduler(link),
        mtu: link.mtu,
        trace,
    }
}

/// Decodes the trace of a link.
///
/// # Errors
///
/// It is none, or it is missing.
pub fn trace(link: &wire::LinkSpec) -> Result<Option<Trace>, String> {
    if link.trace.is_none() {
        return Ok(None);
    }
    let data = link
        .trace_data
        .as_ref()
        .ok_or("the data of the trace are missing")?;
    let (looped, scale) = (
        link.trace_loop.unwrap_or(false),
        link.trace_scale.unwrap_or(1.0),
    );
    Trace::decode(data, looped, scale, link.trace_shift_us.unwrap_or(0)).map(Some)
}

fn queue(link: &wire::LinkSpec) -> QueueDiscipline {
    match link.queue {
        None | Some(wire::Queue::Taildrop) => QueueDiscipline::TailDrop,
        Some(wire::Queue::Red) => QueueDiscipline::Red {
            min_bytes: link.red_min_bytes,
            max_bytes: link.red_max_bytes,
            probability: link.red_probability,
        },
        // The defaults of RFC 8289, sections 4.3 and 4.4; the controller assumes the same.
        Some(wire::Queue::Codel) => QueueDiscipline::Codel {
            target_us: link.codel_target_us.unwrap_or(5_000),
            interval_us: link.codel_interval_us.unwrap_or(100_000),
        },
    }
}

fn scheduler(link: &wire::LinkSpec) -> Scheduler {
    let classes = || Classes {
        by: match link.scheduler_by {
            None | Some(wire::ClassKey::Flow) => ClassKey::Flow,
            Some(wire::ClassKey::DstPort) => ClassKey::DstPort,
            Some(wire::ClassKey::SrcPort) => ClassKey::SrcPort,
            Some(wire::ClassKey::Source) => ClassKey::Source,
            Some(wire::ClassKey::Destination) => ClassKey::Destination,
            Some(wire::ClassKey::Dscp) => ClassKey::Dscp,
        },
        weights: link.scheduler_weights.clone().unwrap_or_default(),
    };
    match link.scheduler {
        None | Some(wire::Scheduler::Fifo) => Scheduler::Fifo,
        Some(wire::Scheduler::Drr) => Scheduler::Drr(classes()),
        Some(wire::Scheduler::Priority) => Scheduler::Priority(classes()),
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
