//! A node in max mode: its listener, its routes, and the reports of its flows.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nm_engine::{Command, CommandOutput};
use nm_kernel::namespace;
use nm_messages::{MaxFlow, MaxFlows};

use super::error::NodeError;
use super::events::NodeEvent;
use super::start::Options;
use super::state::NodeState;
use super::Node;
use crate::config::{NodeSettings, OperatingMode};
use crate::max::{
    self, FlowReport, FlowSink, Found, NextHop, NodeLinks, NodeSetup, Query, Router, Server,
};
use crate::runtime::{NodePort, RuntimeError};

/// Flows in one message: some 200 kB.
const FLOWS_PER_REPORT: usize = 1_000;

/// The namespace of a node in max mode; `None` is that of the process.
pub(super) struct Prepared(Option<OwnedFd>);

/// What max mode needs of the options, before the node's device takes them; `None` for a node in another mode, or
/// without a device: it has no namespace of its own, so there are no programs to listen for.
pub(super) fn prepare(
    settings: &NodeSettings,
    options: &Options,
) -> Result<Option<Prepared>, NodeError> {
    if settings.operating_mode != OperatingMode::Max || !options.enable_local_interface {
        return Ok(None);
    }
    let space = match (&options.namespace, &settings.network_namespace) {
        (Some(space), _) => Some(space.try_clone().map_err(|error| {
            NodeError::Runtime(RuntimeError::Invalid(format!(
                "no descriptor is left: {error}"
            )))
        })?),
        (None, Some(path)) => Some(namespace::open(path).map_err(RuntimeError::from)?),
        (None, None) => None,
    };
    Ok(Some(Prepared(space)))
}

impl Node {
    /// Opens the node's listener and redirects the flows of its programs. Without the packet filter SOCKS5 works alone,
    /// and an event says so.
    pub(super) fn enter_max_mode(&self, prepared: Prepared) -> Result<(), NodeError> {
        let (settings, port) = (&self.settings, self.settings.max_server_port);
        let space = prepared.0;
        let redirected = max::redirect(
            space.as_ref().map(AsFd::as_fd),
            &settings.tun_interface_name,
            port,
        );
        let redirects = redirected.is_ok();
        if let Err(reason) = redirected {
            self.state.note(NodeEvent::NoRedirect { reason });
        }
        // Without a password only the programs of the node itself may enter.
        let (address, address6) = match settings.socks5_credentials {
            Some(_) => (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
            None => (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
        };
        let mut listen = vec![SocketAddr::from((address, port))];
        listen.extend(settings.ipv6.map(|_| SocketAddr::from((address6, port))));
        let setup = NodeSetup {
            lab: Arc::from(settings.lab.as_str()),
            node: settings.node_id,
            namespace: space,
            listen,
            credentials: settings.socks5_credentials.clone(),
            redirected: redirects,
            router: Arc::new(EngineRoutes {
                port: self.port.clone(),
                state: Arc::clone(&self.state),
            }),
            sink: Arc::clone(&self.state) as _,
        };
        let server = Server::get_or_start().map_err(RuntimeError::from)?;
        let membership = server.add(setup).map_err(RuntimeError::from)?;
        self.state.tell_max_mode(Some(membership.changed()));
        // The state may have changed after the server has read it and before it was told of changes.
        membership.changed().notify();
        self.end_with(membership);
        Ok(())
    }
}

/// The routes of a node's packets.
struct EngineRoutes {
    port: NodePort,
    state: Arc<NodeState>,
}

impl Router for EngineRoutes {
    fn next_hop(&self, query: Query, then: Box<dyn FnOnce(Found) + Send>) {
        let command = Command::FindHop {
            src: query.source,
            target: query.target,
            flow: query.flow,
            route: query.route,
        };
        self.port.command_then(command, move |answer| {
            then(match answer {
                Ok(CommandOutput::Hop { exit, next, route }) => Ok(NextHop { exit, next, route }),
                Ok(_) => Err("the engine gave another answer".to_owned()),
                Err(error) => Err(error.to_string()),
            });
        });
    }

    fn links(&self) -> NodeLinks {
        self.state.look(|facts| facts.carrying.clone())
    }
}

impl FlowSink for NodeState {
    fn flows(&self, reports: Vec<FlowReport>) {
        // What began or ended is repeated until the controller has it; progress is replaced by the next report.
        let (running, changed): (Vec<_>, Vec<_>) = reports
            .into_iter()
            .partition(|report| report.end_us.is_none() && report.sent + report.received > 0);
        for (reports, repeat) in [(running, false), (changed, true)] {
            for part in reports.chunks(FLOWS_PER_REPORT) {
                let flows = part.iter().map(message).collect();
                self.report_max_flows(MaxFlows { flows }, repeat);
            }
        }
    }
}

fn message(report: &FlowReport) -> MaxFlow {
    MaxFlow {
        flow_id: report.flow,
        entry: report.entry.name().to_owned(),
        client: report.client.to_string(),
        destination: report.destination.clone(),
        start_us: report.start_us,
        route: report.route.clone(),
        finish_us: report.end_us,
        bytes_out: report.sent,
        bytes_in: report.received,
        reason: report.reason.clone(),
    }
}
