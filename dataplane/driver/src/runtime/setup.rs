//! Configuration of a runtime, a node and a link, and the errors of their setup.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use nm_engine::{CommandError, Delivery, Event, FlowMetrics, LinkSpec, NodeConfig, NodeId};
use nm_flows::FlowEvent;
use nm_kernel::interface::InterfaceSetup;
use nm_kernel::KernelError;

use super::link::handshake::LinkSecret;
use super::link::wire::Carrier;

/// The configuration of a runtime. The default suits a host process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// Threads that carry packets; `None` is one per core.
    pub shards: Option<usize>,
    /// Whether each of them is pinned to a core.
    pub pin: bool,
    /// The address that neighbours in other processes dial; port 0 lets the kernel choose. `None` opens no listener.
    pub listen: Option<SocketAddr>,
    /// The path of a unix socket to create, which neighbours on this machine may dial instead. A path that cannot be
    /// used is no error, because links can use TCP; see [`Runtime::socket`](super::Runtime::socket).
    pub socket: Option<PathBuf>,
    /// Whether links over unix sockets switch to shared memory where both ends agree.
    pub shared_memory: bool,
    /// Whether packets to devices are written several per system call, where the kernel offers io_uring to this process.
    pub batched_writes: bool,
    /// Number of nodes that are placed on a shard before the next one is used.
    ///
    /// Between nodes of one shard a packet runs to completion, which is twice as fast as a hand-over between threads,
    /// so a small lab stays together; a large one is split into contiguous blocks, because generators number
    /// neighbours close to each other.
    pub nodes_per_block: usize,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            shards: None,
            pin: false,
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            socket: None,
            shared_memory: true,
            batched_writes: true,
            nodes_per_block: 64,
        }
    }
}

impl RuntimeConfig {
    /// The default, with the variables of the process's environment: `NM_SHARDS`, the number of packet threads,
    /// `NM_PIN`, `1` to pin each of them to a core, and `NM_IO_URING`, `0` to do without io_uring.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Invalid`] names a variable with an invalid value.
    pub fn from_environment() -> Result<Self, RuntimeError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(word: impl Fn(&str) -> Option<String>) -> Result<Self, RuntimeError> {
        let wrong = |name: &str, found: &str, expected: &str| {
            RuntimeError::Invalid(format!("{name} is `{found}`, expected {expected}"))
        };
        let mut config = Self::default();
        if let Some(found) = word("NM_SHARDS").filter(|text| !text.is_empty()) {
            let shards = found
                .parse()
                .ok()
                .filter(|count| (1..=MOST_SHARDS).contains(count));
            let expected = "a number from 1 to 1024";
            config.shards = Some(shards.ok_or_else(|| wrong("NM_SHARDS", &found, expected))?);
        }
        let switch = |name: &str, value: &mut bool| {
            match word(name).as_deref() {
                None | Some("") => {}
                Some("1") => *value = true,
                Some("0") => *value = false,
                Some(found) => return Err(wrong(name, found, "`1` or `0`")),
            }
            Ok(())
        };
        switch("NM_PIN", &mut config.pin)?;
        switch("NM_IO_URING", &mut config.batched_writes)?;
        Ok(config)
    }
}

/// More threads than any machine has cores.
pub(super) const MOST_SHARDS: usize = 1024;

/// The configuration of a node on a shard.
pub struct NodeSetup {
    /// The configuration of its engine.
    pub config: NodeConfig,
    /// Its interface for ordinary programs, if it has one.
    pub tun: Option<TunSetup>,
    /// The receiver of the node's events.
    pub sink: Arc<dyn NodeSink>,
    /// The lab; nodes of different labs never link.
    pub lab: String,
    /// A shard chosen by the caller instead of by block.
    pub shard: Option<usize>,
}

/// A node's TUN device.
pub struct TunSetup {
    /// Interface name inside the namespace.
    pub name: String,
    /// Address, prefix, MTU and routes. See [`TunSetup::interface`].
    pub interface: InterfaceSetup,
    /// Whether super-packets are carried without segmentation.
    pub offload: OffloadChoice,
    /// Queues; more than one costs 3.9 MB of kernel memory each.
    pub queues: usize,
    /// The device node, usually `/dev/net/tun`.
    pub device: PathBuf,
    /// The network namespace of the interface.
    pub namespace: TunNamespace,
}

impl TunSetup {
    /// The interface of node `address` in its overlay: the network from its prefix, multicast by a separate route.
    pub fn interface(address: std::net::Ipv4Addr, prefix: u8, mtu: u32) -> InterfaceSetup {
        let multicast = (std::net::Ipv4Addr::new(224, 0, 0, 0), 4);
        InterfaceSetup {
            address,
            prefix,
            ipv6: None,
            mtu,
            queue_packets: None,
            routes: vec![multicast],
        }
    }
}

/// Whether a node's device uses super-packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffloadChoice {
    /// If the self-test on this machine succeeds.
    #[default]
    Auto,
    /// Never: every packet has complete checksums and is at most one MTU long.
    Off,
}

/// The network namespace in which a TUN device is created.
#[derive(Debug, Default)]
pub enum TunNamespace {
    /// The caller's own. The device is removed when the node closes.
    #[default]
    Current,
    /// A namespace that the caller holds open. The device remains after the node closes (a later incarnation of the
    /// node takes it over) until the namespace is removed.
    Descriptor(OwnedFd),
    /// A namespace with a path, such as `/run/netns/NAME`. The device remains likewise.
    Path(PathBuf),
}

/// Receives a node's events. Called on the shard's thread: it must record the event and return without blocking.
pub trait NodeSink: Send + Sync {
    /// An event of the engine.
    fn event(&self, event: Event);
    /// A message for a registered receiver. `false` means that its queue is full; the message is counted as dropped.
    fn deliver(&self, delivery: Delivery) -> bool;
    /// A link came up or went down, with the reason; `carrier` is set when it came up.
    fn link_state(&self, remote: NodeId, carrier: Option<Carrier>, reason: &str);
    /// Connections that claimed to be node `from` failed to prove that they have the link's key; `times` is their
    /// number since the last call.
    fn incoming_refused(&self, _from: NodeId, _times: u64) {}
    /// User-space flows of this node began, progressed or ended.
    fn flows(&self, _events: Vec<FlowEvent>) {}
    /// Flows of programs, or of the node's endpoint, began at this node.
    fn flows_began(&self, _flows: Vec<FlowMetrics>) {}
    /// The node's engine failed and was restarted, as after a restart of its process: every receiver and session has
    /// ended, and links and routes are missing until the controller sends them again. Memberships of groups are
    /// restored.
    fn engine_restarted(&self, _reason: &str) {}
    /// The node's TUN device was removed, for instance with its namespace.
    fn device_lost(&self, _reason: &str) {}
    /// The node's shard has stalled for that time, with the listed nodes of the lab; other shards continue. Called
    /// for the first of these nodes only, on the watchdog's thread.
    fn shard_stalled(&self, _shard: usize, _for_ms: u64, _nodes: &[NodeId]) {}
    /// A stalled shard has resumed. Called as [`shard_stalled`](Self::shard_stalled) is.
    fn shard_resumed(&self, _shard: usize, _nodes: &[NodeId]) {}
}

/// One end of a link to a neighbour.
#[derive(Clone, Debug)]
pub struct LinkSetup {
    /// The neighbour.
    pub remote: NodeId,
    /// Its name, from which the link's random streams are derived.
    pub remote_name: String,
    /// How the two ends connect.
    pub kind: LinkKind,
    /// The neighbour's unix socket, which is dialled before its address.
    pub socket: Option<PathBuf>,
    /// The link's specification for the packets that this node sends.
    pub spec: LinkSpec,
    /// The link's key, whose possession both ends prove to each other. Links within a process need none.
    pub secret: Option<LinkSecret>,
}

/// How the two ends of a link connect. Either end may be set up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// Both nodes are in this runtime.
    Memory,
    /// This end dials the neighbour's process and retries until it answers.
    Dial(SocketAddr),
    /// The neighbour dials this end.
    Accept,
}

/// Why a runtime or a node could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The kernel refused an operation.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The lab already has a node with that number in this process.
    #[error("node {node} of lab {lab} is already in this process")]
    NodeExists {
        /// The lab.
        lab: String,
        /// The node.
        node: NodeId,
    },
    /// An invalid value.
    #[error("{0}")]
    Invalid(String),
    /// The runtime is shutting down, or its thread has ended.
    #[error("the runtime has stopped")]
    Stopped,
    /// The packet thread chosen for the node is stalled.
    #[error("packet thread {shard} is stalled and takes no node")]
    Stalled {
        /// The number of the thread.
        shard: usize,
    },
}

impl RuntimeError {
    /// The stable id of this error.
    pub fn id(&self) -> &'static str {
        match self {
            Self::Kernel(error) => error.id(),
            Self::NodeExists { .. } => "runtime.node_exists",
            Self::Invalid(_) => "runtime.invalid",
            Self::Stopped => "runtime.stopped",
            Self::Stalled { .. } => "runtime.stalled",
        }
    }
}

/// Why a request to a node was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// The engine refused it.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The node was closed, or its runtime has stopped.
    #[error("the node is closed")]
    Closed,
    /// The shard is stalled.
    #[error("the node's packet thread is stalled")]
    Stalled,
    /// The thread failed before it answered, so it is unknown whether the request was carried out.
    #[error("the node's packet thread failed while it carried this out; the result is unknown")]
    Failed,
}

impl PortError {
    /// The stable id of this error.
    pub fn id(&self) -> &'static str {
        match self {
            Self::Command(error) => error.id(),
            Self::Closed => "node.closed",
            Self::Stalled => "node.stalled",
            Self::Failed => "node.engine_failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(shards: &str, pin: &str) -> Result<RuntimeConfig, RuntimeError> {
        RuntimeConfig::from_variables(|name| match name {
            "NM_SHARDS" => Some(shards.to_owned()),
            "NM_PIN" => Some(pin.to_owned()),
            "NM_IO_URING" => Some("0".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn the_environment_sets_threads_pinning_and_batched_writes() {
        let config = read("3", "1").expect("fine");
        let found = (config.shards, config.pin, config.batched_writes);
        assert_eq!(found, (Some(3), true, false));
        let unset = RuntimeConfig::from_variables(|_| Some(String::new()));
        assert_eq!(unset.expect("fine"), RuntimeConfig::default());
    }

    #[test]
    fn an_invalid_variable_is_refused_with_its_name() {
        for (shards, pin, name) in [
            ("0", "", "NM_SHARDS"),
            ("many", "", "NM_SHARDS"),
            ("1025", "", "NM_SHARDS"),
            ("", "yes", "NM_PIN"),
        ] {
            let error = read(shards, pin).expect_err("refused").to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }
}
