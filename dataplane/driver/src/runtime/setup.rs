//! What a runtime, a node and a link are told at their start, and what can go wrong then.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use nm_engine::{CommandError, Delivery, Event, LinkSpec, NodeConfig, NodeId};
use nm_kernel::interface::InterfaceSetup;
use nm_kernel::KernelError;

use super::link::handshake::LinkSecret;
use super::link::wire::Carrier;

/// How a runtime is built. The default is what a host process wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// Threads that carry packets; `None` is one per core.
    pub shards: Option<usize>,
    /// Whether each of them is tied to a core.
    pub pin: bool,
    /// Where neighbours in other processes dial; port 0 lets the kernel choose. `None` opens no listener.
    pub listen: Option<SocketAddr>,
    /// Where neighbours on this machine may dial instead: the path of a unix socket to be made. A path that cannot be
    /// used is no failure, because there is TCP; see [`Runtime::socket`](super::Runtime::socket).
    pub socket: Option<PathBuf>,
    /// Whether links over unix sockets go on through shared memory where both ends agree.
    pub shared_memory: bool,
    /// Nodes that share a shard before the next one is used.
    ///
    /// Between nodes of one shard a packet runs to completion, which is twice as fast as a hand-over between
    /// threads, so a small lab stays together; a large one spreads in contiguous blocks, because generators
    /// number neighbours close to each other.
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
            nodes_per_block: 64,
        }
    }
}

impl RuntimeConfig {
    /// The default, with what the environment of the process asks for: `NM_SHARDS`, how many threads carry packets,
    /// and `NM_PIN`, `1` to tie each of them to a core.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Invalid`] names a variable that says something else.
    pub fn from_environment() -> Result<Self, RuntimeError> {
        Self::from_words(|name| std::env::var(name).ok())
    }

    fn from_words(word: impl Fn(&str) -> Option<String>) -> Result<Self, RuntimeError> {
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
        if let Some(found) = word("NM_PIN").filter(|text| !text.is_empty()) {
            config.pin = match found.as_str() {
                "1" => true,
                "0" => false,
                _ => return Err(wrong("NM_PIN", &found, "`1` or `0`")),
            };
        }
        Ok(config)
    }
}

/// More threads than any machine has cores.
pub(super) const MOST_SHARDS: usize = 1024;

/// Everything needed to put a node on a shard.
pub struct NodeSetup {
    /// What its engine is told.
    pub config: NodeConfig,
    /// Its interface to ordinary programs, if it has one.
    pub tun: Option<TunSetup>,
    /// Who hears what the node has to say.
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
    /// Whether super-packets are carried whole.
    pub offload: OffloadChoice,
    /// Queues; more than one costs 3.9 MB of kernel memory each.
    pub queues: usize,
    /// The device node, usually `/dev/net/tun`.
    pub device: PathBuf,
    /// Where the interface appears.
    pub namespace: TunNamespace,
}

impl TunSetup {
    /// The interface of node `address` in its overlay: the network by its prefix, multicast by a route of its own.
    pub fn interface(address: std::net::Ipv4Addr, prefix: u8, mtu: u32) -> InterfaceSetup {
        let multicast = (std::net::Ipv4Addr::new(224, 0, 0, 0), 4);
        InterfaceSetup {
            address,
            prefix,
            mtu,
            queue_packets: None,
            routes: vec![multicast],
        }
    }
}

/// Whether a node's device hands over super-packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffloadChoice {
    /// When the self-test of this machine says that it works.
    #[default]
    Auto,
    /// Never: every packet is finished and at most one MTU long.
    Off,
}

/// The network namespace in which a TUN device is created.
#[derive(Debug, Default)]
pub enum TunNamespace {
    /// The caller's own. The device is removed when the node closes.
    #[default]
    Current,
    /// One that the caller holds. The device stays behind (and is taken over by a node that comes back); it goes
    /// with the namespace.
    Descriptor(OwnedFd),
    /// One that has a path, such as `/run/netns/NAME`. Likewise.
    Path(PathBuf),
}

/// Who hears what a node has to say. Called on the shard's thread: take note and return, never wait.
pub trait NodeSink: Send + Sync {
    /// Something happened in the engine.
    fn event(&self, event: Event);
    /// A message for a registered receiver. `false` means that there was no room; it is counted as dropped.
    fn deliver(&self, delivery: Delivery) -> bool;
    /// A link came up or went down, and why; when it came up, what carries it.
    fn link_state(&self, remote: NodeId, carrier: Option<Carrier>, reason: &str);
    /// Somebody dialled this node as `from` and could not prove to have the link's key; so often since this was told
    /// last.
    fn incoming_refused(&self, _from: NodeId, _times: u64) {}
    /// The node's engine failed and was started anew, as if its process had been: every receiver and session is over,
    /// links and routes are gone until the controller sends them again. Memberships of groups are restored.
    fn engine_restarted(&self, _reason: &str) {}
    /// The node's TUN device vanished, for instance with its namespace.
    fn device_lost(&self, _reason: &str) {}
    /// The node's shard has not moved for that long, nor have the other nodes of the lab on it; other shards go on.
    /// Told to the first of these nodes only, on the watchdog's thread.
    fn shard_stalled(&self, _shard: usize, _for_ms: u64, _nodes: &[NodeId]) {}
    /// A shard that had stalled goes on. Told as [`shard_stalled`](Self::shard_stalled) is.
    fn shard_moves(&self, _shard: usize, _nodes: &[NodeId]) {}
}

/// One end of a link to a neighbour.
#[derive(Clone, Debug)]
pub struct LinkSetup {
    /// The neighbour.
    pub remote: NodeId,
    /// Its name; the link's random streams derive from it.
    pub remote_name: String,
    /// How the two ends meet.
    pub kind: LinkKind,
    /// The neighbour's unix socket, tried before its address when we dial.
    pub socket: Option<PathBuf>,
    /// What the link does to the packets that we send.
    pub spec: LinkSpec,
    /// The link's key, which both ends prove to each other that they have. Links within a process need none.
    pub secret: Option<LinkSecret>,
}

/// How the two ends of a link meet. Either end may be set up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// Both nodes are in this runtime.
    Memory,
    /// We dial the neighbour's process, again and again until it answers.
    Dial(SocketAddr),
    /// The neighbour dials us.
    Accept,
}

/// Why a runtime or a node could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The kernel refused something.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The lab has a node of that number in this process already.
    #[error("node {node} of lab {lab} is already in this process")]
    NodeExists {
        /// The lab.
        lab: String,
        /// The node.
        node: NodeId,
    },
    /// A value that makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The runtime is shutting down, or its thread is gone.
    #[error("the runtime has stopped")]
    Stopped,
    /// The thread that the node was to live on does not move.
    #[error("packet thread {shard} stands still and takes no node")]
    Stalled {
        /// Which one.
        shard: usize,
    },
}

impl RuntimeError {
    /// The identifier that stays the same when the wording improves.
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
    /// The shard does not move.
    #[error("the node's packet thread stands still")]
    Stalled,
    /// The thread failed before it answered, and whether the request was carried out is not known.
    #[error("the node's packet thread failed while it carried this out; it goes on without what was under way")]
    Failed,
}

impl PortError {
    /// The identifier that stays the same when the wording improves.
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
        RuntimeConfig::from_words(|name| match name {
            "NM_SHARDS" => Some(shards.to_owned()),
            "NM_PIN" => Some(pin.to_owned()),
            _ => None,
        })
    }

    #[test]
    fn the_environment_chooses_threads_and_pinning() {
        let config = read("3", "1").expect("fine");
        assert_eq!((config.shards, config.pin), (Some(3), true));
        assert_eq!(read("", "").expect("fine"), RuntimeConfig::default());
    }

    #[test]
    fn a_word_that_is_none_is_refused_by_name() {
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
