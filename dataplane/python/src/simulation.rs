//! The class `Simulation`: an experiment on the simulated network, in virtual time.

use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nm_driver::node::link_values;
use nm_engine::{Instant, LinkSpec, NodeConfig, NodeStats, PairRoute, TtlMode};
use nm_flows::{Amount, FlowSpec};
use nm_sim::{Begin, Change, Progress, Simulation, SimulationError};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::convert;

/// `(id, due_ns, began_ns, ended_ns, bytes, reason)`; the reason is empty for a complete flow.
type Ended = (u64, u64, u64, u64, u64, &'static str);

/// `(remote, packets, bytes, queued_packets, queued_bytes, delay_sum_us, drops)`.
type LinkCounters = (u32, u64, u64, u64, u64, f64, Vec<(&'static str, u64)>);

/// `(node, packets_out, bytes_out, packets_in, bytes_in, links)`.
type NodeCounters = (u32, u64, u64, u64, u64, Vec<LinkCounters>);

/// An experiment; times are virtual, from its beginning.
#[pyclass(frozen, module = "nextmini_py._native", name = "Simulation")]
pub struct PySimulation(Mutex<Simulation>);

fn refused(error: &SimulationError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn address(text: &str) -> PyResult<Ipv4Addr> {
    text.parse()
        .map_err(|_| PyValueError::new_err(format!("{text:?} is not an IPv4 address")))
}

fn spec(object: &Bound<'_, PyAny>, down: bool) -> PyResult<LinkSpec> {
    link_values::link_spec(&convert::from_python(object)?, down).map_err(PyValueError::new_err)
}

fn micros(at_us: u64) -> Instant {
    Instant::ZERO.plus_nanos(at_us.saturating_mul(1_000))
}

impl PySimulation {
    /// A panic in a call leaves the simulation as it was then; its results would be wrong, and its caller has the
    /// exception.
    fn lock(&self) -> MutexGuard<'_, Simulation> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl PySimulation {
    #[new]
    #[pyo3(signature = (nodes, *, base_addr, net_mask, user_base_addr, seed, pipe, until_us))]
    fn new(
        nodes: Vec<(u32, String, u16)>,
        base_addr: &str,
        net_mask: &str,
        user_base_addr: &str,
        seed: u64,
        pipe: bool,
        until_us: u64,
    ) -> PyResult<Self> {
        let (base, mask) = (address(base_addr)?, address(net_mask)?);
        let user = address(user_base_addr)?;
        let configs = nodes.into_iter().map(|(id, name, mtu)| {
            let mut config = NodeConfig::new(id);
            (config.name, config.mtu, config.seed) = (name, mtu, seed);
            (config.addresses.base_addr, config.addresses.net_mask) = (base, mask);
            config.addresses.user_base_addr = Some(user);
            config.ttl_mode = if pipe {
                TtlMode::Pipe
            } else {
                TtlMode::Uniform
            };
            config
        });
        let simulation = Simulation::new(configs.collect(), seed, micros(until_us));
        Ok(Self(Mutex::new(simulation)))
    }

    fn connect(
        &self,
        a: u32,
        b: u32,
        forward: (Bound<'_, PyAny>, bool),
        backward: (Bound<'_, PyAny>, bool),
    ) -> PyResult<()> {
        let (forward, backward) = (spec(&forward.0, forward.1)?, spec(&backward.0, backward.1)?);
        let connected = self.lock().connect((a, b), forward, backward);
        connected.map_err(|error| refused(&error))
    }

    fn set_link(
        &self,
        at_us: u64,
        from_node: u32,
        to_node: u32,
        what: &Bound<'_, PyAny>,
        down: bool,
    ) -> PyResult<()> {
        let spec = Box::new(spec(what, down)?);
        self.change(
            at_us,
            Change::Link {
                from: from_node,
                to: to_node,
                spec,
            },
        )
    }

    fn set_carrier(&self, at_us: u64, a: u32, b: u32, up: bool) -> PyResult<()> {
        self.change(at_us, Change::Carrier { a, b, up })
    }

    fn set_table(&self, at_us: u64, node: u32, table: Vec<u32>) -> PyResult<()> {
        let table = Some(table);
        self.change(
            at_us,
            Change::Routes {
                node,
                table,
                routes: Vec::new(),
                removed: Vec::new(),
            },
        )
    }

    fn set_routes(
        &self,
        at_us: u64,
        node: u32,
        routes: Vec<(u32, u32, u32, f64, Vec<u32>)>,
        removed: Vec<(u32, u32)>,
    ) -> PyResult<()> {
        let routes = routes
            .into_iter()
            .map(|(src, dst, id, weight, next_hops)| PairRoute {
                src,
                dst,
                id,
                weight,
                next_hops,
            });
        let routes = routes.collect();
        self.change(
            at_us,
            Change::Routes {
                node,
                table: None,
                routes,
                removed,
            },
        )
    }

    fn add_chain(&self, begin_ns: u64) -> usize {
        self.lock().add_chain(Instant(begin_ns))
    }

    #[pyo3(signature = (id, src, dst, size, *, rate_bps = None, at_ns = None, round = None))]
    #[allow(clippy::too_many_arguments, reason = "keywords in Python")]
    fn add_flow(
        &self,
        id: u64,
        src: u32,
        dst: u32,
        size: u64,
        rate_bps: Option<u64>,
        at_ns: Option<u64>,
        round: Option<(usize, u32)>,
    ) -> PyResult<()> {
        let begin = match (at_ns, round) {
            (Some(at), None) => Begin::At(Instant(at)),
            (None, Some((chain, round))) => Begin::Round { chain, round },
            _ => return Err(PyValueError::new_err("a flow has either a time or a round")),
        };
        let flow = FlowSpec {
            id,
            src,
            dst,
            amount: Amount::Bytes(size),
            rate_bps,
            weight: 1,
            route: 0,
        };
        let added = self.lock().add_flow(flow, begin);
        added.map_err(|error| refused(&error))
    }

    /// `running`, `paused` or `ended`.
    fn advance(&self, py: Python<'_>, steps: u64, pause_us: u64) -> PyResult<&'static str> {
        let progress = py.detach(|| self.lock().advance(steps, micros(pause_us)));
        progress
            .map_err(|error| refused(&error))
            .map(|progress| match progress {
                Progress::Running => "running",
                Progress::Paused => "paused",
                Progress::Ended => "ended",
            })
    }

    fn now_ns(&self) -> u64 {
        self.lock().now().0
    }

    fn take_ended(&self) -> Vec<Ended> {
        let ended = self.lock().take_ended();
        let plain = ended.into_iter().map(|result| {
            let end = result.end;
            (
                end.id,
                result.due.0,
                end.began.0,
                end.ended.0,
                end.bytes,
                end.reason.as_str(),
            )
        });
        plain.collect()
    }

    /// `(id, due_ns, acknowledged_bytes)`.
    fn running(&self) -> Vec<(u64, u64, u64)> {
        let simulation = self.lock();
        let running = simulation.running();
        running
            .map(|flow| (flow.id, flow.due.0, flow.acknowledged))
            .collect()
    }

    fn counters(&self) -> Vec<NodeCounters> {
        self.lock().stats().map(|stats| counters(&stats)).collect()
    }
}

impl PySimulation {
    fn change(&self, at_us: u64, change: Change) -> PyResult<()> {
        let added = self.lock().change_at(micros(at_us), change);
        added.map_err(|error| refused(&error))
    }
}

fn counters(stats: &NodeStats) -> NodeCounters {
    let links = stats.links.iter().map(|link| {
        let drops = link.tx.drops.iter().filter(|(_, count)| *count > 0);
        let drops = drops
            .map(|(cause, count)| (cause.as_str(), count))
            .collect();
        let queued = (link.queued_packets, link.queued_bytes);
        let (packets, bytes) = (link.tx.packets, link.tx.bytes);
        (
            link.remote,
            packets,
            bytes,
            queued.0,
            queued.1,
            link.measured.delay_sum_us,
            drops,
        )
    });
    let (out, into) = (&stats.tun_rx, &stats.tun_tx);
    (
        stats.node_id,
        out.packets,
        out.bytes,
        into.packets,
        into.bytes,
        links.collect(),
    )
}
