//! Start a node from its settings: place it on a shard and attach it to its controller.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

use nm_engine::{AddressPlan, NodeConfig, Prefixes, SessionConfig, TtlMode};
use nm_kernel::{local, thread};

use super::error::NodeError;
use super::events::NodeEvent;
use super::executor::NodeExecutor;
use super::max_mode;
use super::pending::Pending;
use super::state::NodeState;
use super::Node;
use crate::capture;
use crate::config::{LinkProtocol, NodeSettings, OffloadMode, TtlSetting, UplinkSetting};
use crate::control::{self, Endpoint, Identity, Registration};
use crate::runtime::{
    NodePort, NodeSetup, OffloadChoice, Runtime, RuntimeConfig, RuntimeError, TunNamespace,
    TunSetup,
};

/// All IPv4 addresses, in two halves: they precede the default route that the network of a container already has.
const ALL_ADDRESSES: [(Ipv4Addr, u8); 2] =
    [(Ipv4Addr::UNSPECIFIED, 1), (Ipv4Addr::new(128, 0, 0, 0), 1)];

/// Suffix of the names of the processes' unix sockets.
const SOCKET_SUFFIX: &str = ".sock";

/// Options that the caller sets, not the node's file.
#[derive(Debug, Default)]
pub struct Options {
    /// Whether to create a TUN interface.
    pub enable_local_interface: bool,
    /// The network namespace of the interface, instead of the one in the file.
    pub namespace: Option<OwnedFd>,
}

impl Node {
    /// Places the node of `settings` on a shard and attaches it to its controller. It is usable when
    /// [`registration`](Self::registration) has completed.
    ///
    /// # Errors
    ///
    /// [`NodeError::Runtime`] when the operating system refuses a resource.
    pub fn start(settings: NodeSettings, options: Options) -> Result<Self, NodeError> {
        let runtime = Runtime::get_or_start(runtime_config(&settings)?)?;
        Self::start_in(&runtime, settings, options)
    }

    /// As [`start`](Self::start), in a given runtime.
    pub fn start_in(
        runtime: &Arc<Runtime>,
        settings: NodeSettings,
        options: Options,
    ) -> Result<Self, NodeError> {
        check_port(runtime, &settings)?;
        let max_mode = max_mode::prepare(&settings, &options)?;
        let state = Arc::new(NodeState::new(settings.node_id));
        let port = runtime.add_node(NodeSetup {
            config: engine_config(&settings),
            tun: options
                .enable_local_interface
                .then(|| tun_setup(&settings, options.namespace)),
            sink: Arc::clone(&state) as _,
            lab: settings.lab.clone(),
            shard: None,
        })?;
        let addresses = Arc::new(Mutex::new(address_plan(&settings)));
        let registration = Pending::new();
        let attached = attach(runtime, &settings, &port, &state, &addresses, &registration);
        let handle = match attached {
            Ok(handle) => handle,
            Err(error) => {
                port.close();
                return Err(error);
            }
        };
        capture::add_node(&port);
        let node = Node {
            settings,
            runtime: Arc::clone(runtime),
            port,
            state,
            handle,
            addresses,
            registration,
            sent: AtomicU64::new(0),
            waited: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            resources: Mutex::default(),
        };
        if let Some(prepared) = max_mode {
            node.enter_max_mode(prepared)?;
        }
        Ok(node)
    }
}

fn attach(
    runtime: &Runtime,
    settings: &NodeSettings,
    port: &NodePort,
    state: &Arc<NodeState>,
    addresses: &Arc<Mutex<AddressPlan>>,
    registration: &Arc<Pending<()>>,
) -> Result<control::ControlHandle, NodeError> {
    let process = runtime.process_id();
    let link_socket = match runtime.socket() {
        Ok(socket) => socket.map(Path::to_owned),
        // Links use TCP instead; the event records why.
        Err(reason) => {
            state.note(NodeEvent::NoListener {
                reason: reason.to_owned(),
            });
            None
        }
    };
    let identity = Identity {
        node_id: settings.node_id,
        token: settings.controller_token.clone(),
        private_network_name: settings.private_network_name.clone(),
        private_address: private_address(settings)?,
        link_port: runtime.listen_port(),
        public_network_addr: settings.public_network_addr.clone(),
        link_socket,
        external: settings.external,
        process,
        mtu: settings.mtu,
    };
    let executor = NodeExecutor {
        port: port.clone(),
        process,
        state: Arc::clone(state),
        by_socket: settings.protocol != LinkProtocol::Tcp,
        addresses: Arc::clone(addresses),
        reporter: Mutex::default(),
    };
    let socket = Endpoint {
        addr: settings.controller_addr.clone(),
        authority: settings.controller_ca.clone(),
        process,
    };
    let answer = Arc::clone(registration);
    let registered = Registration {
        identity,
        executor: Arc::new(executor),
        limit: settings.controller_connect_timeout,
        reconnect: settings.restart_on_disconnect,
    };
    let reply = Box::new(move |result: Result<(), _>| answer.fill(result.map_err(NodeError::from)));
    Ok(control::attach(socket, registered, reply)?)
}

/// The configuration of the process's runtime, from the settings of its first node.
fn runtime_config(settings: &NodeSettings) -> Result<RuntimeConfig, NodeError> {
    let address = private_address(settings)?.unwrap_or_else(|| {
        // A controller on the loopback address implies that all neighbours are on this machine.
        if is_loopback(&settings.controller_addr) {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        }
    });
    let listen = SocketAddr::new(address, settings.private_network_port);
    // One socket per process, named after its first node and a random number, so that no other process can take over
    // its path. A socket left by a killed process is removed.
    let socket = match &settings.link_directory {
        Some(folder) if settings.protocol != LinkProtocol::Tcp => {
            let prefix = format!("node-{}.", settings.node_id);
            local::remove_stale_sockets(folder, &prefix, SOCKET_SUFFIX);
            let number = thread::random_u64().map_err(RuntimeError::from)?;
            Some(folder.join(format!("{prefix}{number:016x}{SOCKET_SUFFIX}")))
        }
        _ => None,
    };
    Ok(RuntimeConfig {
        listen: Some(listen),
        socket,
        shared_memory: settings.protocol == LinkProtocol::Auto,
        ..RuntimeConfig::from_environment()?
    })
}

/// The node's address on the private network: the one in the file, or that of the interface in the file. With `None`
/// the local address of the control connection is used, at which other nodes can reach this one.
fn private_address(settings: &NodeSettings) -> Result<Option<IpAddr>, NodeError> {
    let interface = settings.private_network_interface.as_str();
    if settings.private_network_addr.is_some() || interface.is_empty() {
        return Ok(settings.private_network_addr);
    }
    let addresses = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let found = addresses
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| Some(IpAddr::V4(entry.address?.as_sockaddr_in()?.ip())));
    let missing = || {
        RuntimeError::Invalid(format!(
            "interface {interface:?} is not here or has no IPv4 address"
        ))
    };
    found.map(Some).ok_or_else(|| missing().into())
}

fn is_loopback(controller_addr: &str) -> bool {
    let (_, rest) = controller_addr.split_once("://").unwrap_or_default();
    let authority = rest.split('/').next().unwrap_or("");
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// All nodes of a process share one listener, so a file that requests another port cannot be honoured.
fn check_port(runtime: &Runtime, settings: &NodeSettings) -> Result<(), NodeError> {
    let (requested, found) = (settings.private_network_port, runtime.listen_port());
    if requested == 0 || requested == found {
        return Ok(());
    }
    Err(NodeError::Runtime(RuntimeError::Invalid(format!(
        "{} asks for link port {requested}, but this process already listens on {found}",
        settings.path.display()
    ))))
}

fn address_plan(settings: &NodeSettings) -> AddressPlan {
    AddressPlan {
        base_addr: settings.base_addr,
        net_mask: settings.net_mask,
        base_addr6: settings.ipv6.map(|(base, _)| base),
        ..AddressPlan::default()
    }
}

fn engine_config(settings: &NodeSettings) -> NodeConfig {
    let mut config = NodeConfig::new(settings.node_id);
    if !settings.name.is_empty() {
        config.name.clone_from(&settings.name);
    }
    config.addresses = address_plan(settings);
    config.prefixes = Prefixes::new(&settings.prefixes)
        .expect("networks that overlap were refused when the settings were read");
    config.uplink = settings.uplink == UplinkSetting::Here;
    config.mtu = settings.mtu;
    config.seed = settings.seed;
    config.client_port = settings.user_space_client_port;
    config.server_port = settings.user_space_server_port;
    config.ttl_mode = match settings.ttl_mode {
        TtlSetting::Uniform => TtlMode::Uniform,
        TtlSetting::Pipe => TtlMode::Pipe,
    };
    config.sessions = SessionConfig {
        ready_grace_ms: millis(settings.lossless.ready_grace),
        peer_timeout_ms: millis(settings.lossless.peer_report_timeout),
        start_timeout_ms: millis(settings.lossless.start_timeout),
        window_bytes: settings.lossless.window_bytes,
    };
    config
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn tun_setup(settings: &NodeSettings, namespace: Option<OwnedFd>) -> TunSetup {
    let prefix = settings.net_mask.to_bits().leading_ones();
    let prefix = u8::try_from(prefix).expect("a u32 has at most 32 leading ones");
    let namespace = match (namespace, &settings.network_namespace) {
        (Some(descriptor), _) => TunNamespace::Descriptor(descriptor),
        (None, Some(path)) => TunNamespace::Path(path.clone()),
        (None, None) => TunNamespace::Current,
    };
    let mut interface =
        TunSetup::interface(settings.local_address, prefix, u32::from(settings.mtu));
    // Where packets to the node's own networks go, its kernel knows best.
    let behind_others = settings
        .prefixes
        .iter()
        .filter(|prefix| prefix.node != settings.node_id);
    interface
        .routes
        .extend(behind_others.map(|prefix| (prefix.network, prefix.length)));
    interface.ipv6 = settings.interface6();
    if settings.uplink == UplinkSetting::Elsewhere {
        interface.routes.extend(ALL_ADDRESSES);
    }
    TunSetup {
        name: settings.tun_interface_name.clone(),
        interface,
        offload: match settings.offload {
            OffloadMode::Auto => OffloadChoice::Auto,
            OffloadMode::Off => OffloadChoice::Off,
        },
        queues: usize::from(settings.num_tun_queues),
        device: settings.tun_device.clone(),
        namespace,
    }
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn a_loopback_controller_is_recognised_by_its_address() {
        for (address, expected) in [
            ("ws://127.0.0.1:1/control", true),
            ("wss://localhost:1/control", true),
            ("ws://[::1]:1/control", true),
            ("ws://controller:3000/control", false),
            ("ws://172.16.8.3:3000/control", false),
        ] {
            assert_eq!(is_loopback(address), expected, "{address}");
        }
    }
}
