//! Convert events and statistics of a node to Python dictionaries and tuples.

use nm_driver::node::info::Statistics;
use nm_driver::node::state::KnownGroup;
use nm_driver::node::NodeEvent;
use nm_engine::{
    ClassKey, DropCounters, LinkSpec, LinkStats, PeerReport, QueueDiscipline, Role, Scheduler,
    SessionReport, Traffic,
};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

type Dict<'py> = Bound<'py, PyDict>;

/// A dictionary from pairs of a name and a value that converts to Python.
macro_rules! dict {
    ($py:expr, { $($key:literal: $value:expr),* $(,)? }) => {{
        let dict = PyDict::new($py);
        $(dict.set_item(pyo3::intern!($py, $key), $value)?;)*
        dict
    }};
}

/// `(group_id, group_ip, src_node_id)`.
pub fn group(group: KnownGroup) -> (u32, String, u32) {
    (
        group.group_id,
        group.group_ip.to_string(),
        group.src_node_id,
    )
}

/// A session's report.
pub fn report<'py>(py: Python<'py>, report: &SessionReport) -> PyResult<Dict<'py>> {
    let receivers = PyDict::new(py);
    for receiver in &report.peers {
        receivers.set_item(receiver.node, peer(py, receiver)?)?;
    }
    Ok(dict!(py, {
        "session_id": report.session,
        "role": match report.role { Role::Sender => "sender", Role::Receiver => "receiver" },
        "source_node_id": report.source,
        "state": report.state.as_str(),
        "complete": report.complete(),
        "reason": &report.reason,
        "total_bytes": report.total_bytes,
        "seconds": report.seconds,
        "repair_rounds": report.repair_rounds,
        "bytes_sent": report.bytes_sent,
        "repair_bytes": report.repair_bytes,
        "receivers": receivers,
    }))
}

fn peer<'py>(py: Python<'py>, peer: &PeerReport) -> PyResult<Dict<'py>> {
    Ok(dict!(py, {
        "node_id": peer.node,
        "state": peer.state.as_str(),
        "bytes": peer.bytes,
        "seconds": peer.seconds,
        "repair_rounds": peer.repair_rounds,
        "reason": &peer.reason,
    }))
}

/// A node's counters.
pub fn statistics<'py>(py: Python<'py>, statistics: &Statistics) -> PyResult<Dict<'py>> {
    let engine = &statistics.engine;
    let links = PyList::empty(py);
    for counters in &engine.links {
        let known = statistics
            .links
            .iter()
            .find(|(remote, _)| *remote == counters.remote);
        links.append(link(
            py,
            counters,
            known.map_or("", |(_, link)| &link.reason),
        )?)?;
    }
    let sessions = PyList::empty(py);
    for session in &engine.sessions {
        sessions.append(report(py, session)?)?;
    }
    Ok(dict!(py, {
        "node_id": engine.node_id,
        "links": links,
        "tun_rx": traffic(py, &engine.tun_rx)?,
        "tun_tx": traffic(py, &engine.tun_tx)?,
        "delivered": traffic(py, &engine.delivered)?,
        "flows": flows(py, statistics)?,
        "flows_forgotten": engine.flows_forgotten,
        "sessions": sessions,
        "events_forgotten": statistics.events_forgotten,
        "controller_connected": statistics.controller_connected,
    }))
}

fn link<'py>(py: Python<'py>, link: &LinkStats, reason: &str) -> PyResult<Dict<'py>> {
    Ok(dict!(py, {
        "remote": link.remote,
        "state": if link.up { "up" } else { "down" },
        "reason": reason,
        "congested": link.congested,
        "tx_packets": link.tx.packets,
        "tx_bytes": link.tx.bytes,
        "tx_drops": drops(py, &link.tx.drops)?,
        "tx_impaired": impaired(py, link)?,
        "rx_packets": link.rx.packets,
        "rx_bytes": link.rx.bytes,
        "rx_drops": drops(py, &link.rx.drops)?,
        "queued_packets": link.queued_packets,
        "queued_bytes": link.queued_bytes,
        "spec": spec(py, &link.spec)?,
    }))
}

/// Impairments that changed no packet are left out.
fn impaired<'py>(py: Python<'py>, link: &LinkStats) -> PyResult<Dict<'py>> {
    let dict = PyDict::new(py);
    for (name, count) in link.impaired.iter().filter(|(_, count)| *count > 0) {
        dict.set_item(name, count)?;
    }
    Ok(dict)
}

/// The fields as `orchestrator.impairment` names them.
fn spec<'py>(py: Python<'py>, spec: &LinkSpec) -> PyResult<Dict<'py>> {
    let distribution = match spec.jitter_table {
        Some(_) => "table",
        None => spec.jitter_distribution.as_str(),
    };
    let dict = dict!(py, {
        "rate_bps": spec.rate_bps,
        "rate_burst_bytes": spec.rate_burst_bytes,
        "delay_us": spec.delay_us,
        "jitter_us": spec.jitter_us,
        "jitter_distribution": distribution,
        "jitter_table": spec.jitter_table.as_deref().map(<[f64]>::to_vec),
        "jitter_reorder": spec.jitter_reorder,
        "loss": spec.loss,
        "loss_burst": spec.loss_burst,
        "duplicate": spec.duplicate,
        "reorder": spec.reorder,
        "reorder_gap": spec.reorder_gap,
        "corrupt": spec.corrupt,
        "limit_bytes": spec.limit_bytes,
        "limit_packets": spec.limit_packets,
        "limit_us": spec.limit_us,
        "ecn": spec.ecn,
        "mtu": spec.mtu,
        "trace_rate_bps": spec.trace.as_ref().and_then(nm_engine::Trace::mean_rate_bps),
    });
    set_queue(&dict, &spec.queue)?;
    set_scheduler(&dict, &spec.scheduler)?;
    Ok(dict)
}

fn set_queue(dict: &Dict<'_>, queue: &QueueDiscipline) -> PyResult<()> {
    match queue {
        QueueDiscipline::TailDrop => dict.set_item("queue", "taildrop"),
        QueueDiscipline::Red {
            min_bytes,
            max_bytes,
            probability,
        } => {
            dict.set_item("queue", "red")?;
            dict.set_item("red_min_bytes", min_bytes)?;
            dict.set_item("red_max_bytes", max_bytes)?;
            dict.set_item("red_probability", probability)
        }
        QueueDiscipline::Codel {
            target_us,
            interval_us,
        } => {
            dict.set_item("queue", "codel")?;
            dict.set_item("codel_target_us", target_us)?;
            dict.set_item("codel_interval_us", interval_us)
        }
    }
}

fn set_scheduler(dict: &Dict<'_>, scheduler: &Scheduler) -> PyResult<()> {
    let (name, classes) = match scheduler {
        Scheduler::Fifo => return dict.set_item("scheduler", "fifo"),
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
    dict.set_item("scheduler", name)?;
    dict.set_item("scheduler_by", by)?;
    dict.set_item("scheduler_weights", classes.weights.clone())
}

fn traffic<'py>(py: Python<'py>, traffic: &Traffic) -> PyResult<Dict<'py>> {
    Ok(dict!(py, {
        "packets": traffic.packets,
        "bytes": traffic.bytes,
        "drops": drops(py, &traffic.drops)?,
    }))
}

/// Causes with a count of zero are left out.
fn drops<'py>(py: Python<'py>, drops: &DropCounters) -> PyResult<Dict<'py>> {
    let dict = PyDict::new(py);
    for (cause, count) in drops.iter().filter(|(_, count)| *count > 0) {
        dict.set_item(cause.as_str(), count)?;
    }
    Ok(dict)
}

fn flows<'py>(py: Python<'py>, statistics: &Statistics) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for flow in &statistics.engine.flows {
        list.append(dict!(py, {
            "src": flow.src.to_string(),
            "dst": flow.dst.to_string(),
            "protocol": flow.protocol,
            "src_port": flow.src_port,
            "dst_port": flow.dst_port,
            "packets": flow.packets,
            "bytes": flow.bytes,
        }))?;
    }
    Ok(list)
}

/// An event's kind and details.
pub fn event<'py>(py: Python<'py>, event: &NodeEvent) -> PyResult<(&'static str, Dict<'py>)> {
    Ok((kind(event), details(py, event)?))
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
        NodeEvent::SessionFinished { .. } => "SessionFinished",
        NodeEvent::SessionPeer { .. } => "SessionPeer",
        NodeEvent::Controller { .. } => "Controller",
        _ => "Unknown",
    }
}

fn details<'py>(py: Python<'py>, event: &NodeEvent) -> PyResult<Dict<'py>> {
    Ok(match event {
        NodeEvent::GroupCreated {
            group_id,
            group_ip,
            src_node_id,
            label,
        } => dict!(py, {
            "group_id": group_id,
            "group_ip": group_ip.to_string(),
            "src_node_id": src_node_id,
            "label": label,
        }),
        NodeEvent::GroupRemoved { group_id }
        | NodeEvent::LocalMemberJoined { group_id }
        | NodeEvent::LocalMemberLeft { group_id } => dict!(py, { "group_id": group_id }),
        NodeEvent::GroupRoutesInstalled {
            group_id,
            src_node_id,
            routes,
        } => dict!(py, { "group_id": group_id, "src_node_id": src_node_id, "routes": routes }),
        NodeEvent::MemberChanged {
            group_id,
            node_id,
            joined,
        } => dict!(py, { "group_id": group_id, "node_id": node_id, "joined": joined }),
        NodeEvent::NodeState { node_id, state } => {
            dict!(py, { "node_id": node_id, "state": state })
        }
        NodeEvent::LinkState {
            remote_node_id,
            up,
            reason,
            kind,
        } => dict!(py, {
            "remote_node_id": remote_node_id, "up": up, "reason": reason, "kind": kind
        }),
        NodeEvent::EngineRestarted { reason } | NodeEvent::NoListener { reason } => {
            dict!(py, { "reason": reason })
        }
        NodeEvent::SessionFinished { session_id, state } => {
            dict!(py, { "session_id": session_id, "state": state })
        }
        NodeEvent::SessionPeer {
            session_id,
            node_id,
            state,
        } => dict!(py, { "session_id": session_id, "node_id": node_id, "state": state }),
        NodeEvent::Controller { connected, reason } => {
            dict!(py, { "connected": connected, "reason": reason })
        }
        _ => PyDict::new(py),
    })
}
