//! Events and statistics of a node as plain values: what Python programs get, in this process or attached to it.

use nm_engine::{
    ClassKey, DropCounters, FlowStats, LinkSpec, LinkStats, PeerReport, QueueDiscipline, Role,
    Scheduler, SessionReport, Traffic,
};
use nm_messages::Value;

use super::events::NodeEvent;
use super::info::Statistics;

type Pairs = Vec<(Value, Value)>;

/// Pairs of a name and a value.
macro_rules! pairs {
    ({ $($key:literal: $value:expr),* $(,)? }) => {
        vec![$((Value::from($key), Value::from($value))),*]
    };
}

/// A map of such pairs.
macro_rules! dict {
    ($pairs:tt) => {
        Value::Map(pairs!($pairs))
    };
}

fn optional(value: Option<impl Into<Value>>) -> Value {
    value.map_or(Value::Nil, Into::into)
}

/// A session's report.
pub fn report(report: &SessionReport) -> Value {
    let receivers = report
        .peers
        .iter()
        .map(|each| (Value::from(each.node), peer(each)));
    dict!({
        "session_id": report.session,
        "role": match report.role { Role::Sender => "sender", Role::Receiver => "receiver" },
        "source_node_id": report.source,
        "state": report.state.as_str(),
        "complete": report.complete(),
        "reason": report.reason.as_str(),
        "total_bytes": report.total_bytes,
        "seconds": report.seconds,
        "repair_rounds": report.repair_rounds,
        "bytes_sent": report.bytes_sent,
        "repair_bytes": report.repair_bytes,
        "receivers": Value::Map(receivers.collect()),
    })
}

fn peer(peer: &PeerReport) -> Value {
    dict!({
        "node_id": peer.node,
        "state": peer.state.as_str(),
        "bytes": peer.bytes,
        "seconds": peer.seconds,
        "repair_rounds": peer.repair_rounds,
        "reason": peer.reason.as_str(),
    })
}

/// A node's counters.
pub fn statistics(statistics: &Statistics) -> Value {
    let engine = &statistics.engine;
    let links = engine.links.iter().map(|counters| {
        let known = statistics
            .links
            .iter()
            .find(|(remote, _)| *remote == counters.remote);
        link(counters, known.map_or("", |(_, link)| &link.reason))
    });
    let sessions = engine.sessions.iter().map(report);
    dict!({
        "node_id": engine.node_id,
        "links": links.collect::<Vec<_>>(),
        "tun_rx": traffic(&engine.tun_rx),
        "tun_tx": traffic(&engine.tun_tx),
        "delivered": traffic(&engine.delivered),
        "flows": flows(statistics),
        "flows_forgotten": engine.flows_forgotten,
        "sessions": sessions.collect::<Vec<_>>(),
        "events_forgotten": statistics.events_forgotten,
        "controller_connected": statistics.controller_connected,
    })
}

fn link(link: &LinkStats, reason: &str) -> Value {
    dict!({
        "remote": link.remote,
        "state": if link.up { "up" } else { "down" },
        "reason": reason,
        "congested": link.congested,
        "tx_packets": link.tx.packets,
        "tx_bytes": link.tx.bytes,
        "tx_drops": drops(&link.tx.drops),
        "tx_impaired": impaired(link),
        "rx_packets": link.rx.packets,
        "rx_bytes": link.rx.bytes,
        "rx_drops": drops(&link.rx.drops),
        "queued_packets": link.queued_packets,
        "queued_bytes": link.queued_bytes,
        "spec": spec(&link.spec),
    })
}

/// Impairments that changed no packet are left out.
fn impaired(link: &LinkStats) -> Value {
    let changed = link.impaired.iter().filter(|(_, count)| *count > 0);
    Value::Map(
        changed
            .map(|(name, count)| (Value::from(name), Value::from(count)))
            .collect(),
    )
}

/// The fields as `orchestrator.impairment` names them.
fn spec(spec: &LinkSpec) -> Value {
    let distribution = match spec.jitter_table {
        Some(_) => "table",
        None => spec.jitter_distribution.as_str(),
    };
    let table = spec
        .jitter_table
        .as_deref()
        .map(|table| table.iter().copied().map(Value::from).collect::<Vec<_>>());
    let mut fields = pairs!({
        "rate_bps": optional(spec.rate_bps),
        "rate_burst_bytes": optional(spec.rate_burst_bytes),
        "delay_us": spec.delay_us,
        "jitter_us": spec.jitter_us,
        "jitter_distribution": distribution,
        "jitter_table": optional(table),
        "jitter_reorder": spec.jitter_reorder,
        "loss": spec.loss,
        "loss_burst": optional(spec.loss_burst),
        "duplicate": spec.duplicate,
        "reorder": spec.reorder,
        "reorder_gap": optional(spec.reorder_gap),
        "corrupt": spec.corrupt,
        "limit_bytes": optional(spec.limit_bytes),
        "limit_packets": optional(spec.limit_packets),
        "limit_us": optional(spec.limit_us),
        "ecn": spec.ecn,
        "mtu": optional(spec.mtu),
        "trace_rate_bps": optional(spec.trace.as_ref().and_then(nm_engine::Trace::mean_rate_bps)),
    });
    fields.extend(queue(&spec.queue));
    fields.extend(scheduler(&spec.scheduler));
    Value::Map(fields)
}

fn queue(queue: &QueueDiscipline) -> Pairs {
    match queue {
        QueueDiscipline::TailDrop => pairs!({ "queue": "taildrop" }),
        QueueDiscipline::Red {
            min_bytes,
            max_bytes,
            probability,
        } => pairs!({
            "queue": "red",
            "red_min_bytes": optional(*min_bytes),
            "red_max_bytes": optional(*max_bytes),
            "red_probability": optional(*probability),
        }),
        QueueDiscipline::Codel {
            target_us,
            interval_us,
        } => pairs!({
            "queue": "codel",
            "codel_target_us": *target_us,
            "codel_interval_us": *interval_us,
        }),
    }
}

fn scheduler(scheduler: &Scheduler) -> Pairs {
    let (name, classes) = match scheduler {
        Scheduler::Fifo => return pairs!({ "scheduler": "fifo" }),
        Scheduler::Drr(classes) => ("drr", classes),
        Scheduler::Priority(classes) => ("priority", classes),
    };
    let by = match classes.by {
        ClassKey::Flow => "flow",
        ClassKey::DstPort => "dst_port",
        ClassKey::SrcPort => "src_port",
        ClassKey::Source => "source",
        ClassKey::Destination => "destination",
        ClassKey::Dscp => "dscp",
    };
    let weights = classes
        .weights
        .iter()
        .map(|(class, weight)| (Value::from(*class), Value::from(*weight)));
    pairs!({
        "scheduler": name,
        "scheduler_by": by,
        "scheduler_weights": Value::Map(weights.collect()),
    })
}

fn traffic(traffic: &Traffic) -> Value {
    dict!({
        "packets": traffic.packets,
        "bytes": traffic.bytes,
        "drops": drops(&traffic.drops),
    })
}

/// Causes with a count of zero are left out.
fn drops(drops: &DropCounters) -> Value {
    let dropped = drops.iter().filter(|(_, count)| *count > 0);
    Value::Map(
        dropped
            .map(|(cause, count)| (Value::from(cause.as_str()), Value::from(count)))
            .collect(),
    )
}

fn flows(statistics: &Statistics) -> Value {
    let flow = |flow: &FlowStats| {
        dict!({
            "src": flow.src.to_string(),
            "dst": flow.dst.to_string(),
            "protocol": flow.protocol,
            "src_port": flow.src_port,
            "dst_port": flow.dst_port,
            "packets": flow.packets,
            "bytes": flow.bytes,
        })
    };
    statistics.engine.flows.iter().map(flow).collect()
}

/// An event's kind and details.
pub fn event(event: &NodeEvent) -> (&'static str, Value) {
    (kind(event), details(event))
}

fn kind(event: &NodeEvent) -> &'static str {
    match event {
        NodeEvent::TopologyReady => "TopologyReady",
        NodeEvent::GroupCreated { .. } => "GroupCreated",
        NodeEvent::GroupRemoved { .. } => "GroupRemoved",
        NodeEvent::GroupRoutesInstalled { .. } => "GroupRoutesInstalled",
        NodeEvent::LocalMemberJoined { .. } => "LocalMemberJoined",
        NodeEvent::LocalMemberLeft { .. } => "LocalMemberLeft",
        NodeEvent::MemberChanged { .. } => "MemberChanged",
        NodeEvent::NodeState { .. } => "NodeState",
        NodeEvent::LinkState { .. } => "LinkState",
        NodeEvent::EngineRestarted { .. } => "EngineRestarted",
        NodeEvent::NoListener { .. } => "NoListener",
        NodeEvent::NoRedirect { .. } => "NoRedirect",
        NodeEvent::SessionFinished { .. } => "SessionFinished",
        NodeEvent::SessionPeer { .. } => "SessionPeer",
        NodeEvent::Controller { .. } => "Controller",
    }
}

fn details(event: &NodeEvent) -> Value {
    match event {
        NodeEvent::GroupCreated {
            group_id,
            group_ip,
            src_node_id,
            label,
        } => dict!({
            "group_id": *group_id,
            "group_ip": group_ip.to_string(),
            "src_node_id": *src_node_id,
            "label": label.as_str(),
        }),
        NodeEvent::GroupRemoved { group_id }
        | NodeEvent::LocalMemberJoined { group_id }
        | NodeEvent::LocalMemberLeft { group_id } => dict!({ "group_id": *group_id }),
        NodeEvent::GroupRoutesInstalled {
            group_id,
            src_node_id,
            routes,
        } => dict!({ "group_id": *group_id, "src_node_id": *src_node_id, "routes": *routes }),
        NodeEvent::MemberChanged {
            group_id,
            node_id,
            joined,
        } => dict!({ "group_id": *group_id, "node_id": *node_id, "joined": *joined }),
        NodeEvent::NodeState { node_id, state } => {
            dict!({ "node_id": *node_id, "state": state.as_str() })
        }
        NodeEvent::LinkState {
            remote_node_id,
            up,
            reason,
            kind,
        } => dict!({
            "remote_node_id": *remote_node_id, "up": *up, "reason": reason.as_str(), "kind": *kind
        }),
        NodeEvent::EngineRestarted { reason }
        | NodeEvent::NoListener { reason }
        | NodeEvent::NoRedirect { reason } => {
            dict!({ "reason": reason.as_str() })
        }
        NodeEvent::SessionFinished { session_id, state } => {
            dict!({ "session_id": *session_id, "state": *state })
        }
        NodeEvent::SessionPeer {
            session_id,
            node_id,
            state,
        } => dict!({ "session_id": *session_id, "node_id": *node_id, "state": *state }),
        NodeEvent::Controller { connected, reason } => {
            dict!({ "connected": *connected, "reason": reason.as_str() })
        }
        NodeEvent::TopologyReady => Value::Map(Vec::new()),
    }
}
