//! The packet threads of a process (shards).
//!
//! A [`Runtime`] has a few [shards](shard), one thread each. A node belongs to one shard, with its engine, its TUN
//! device and its ends of links. Between nodes of one shard a packet runs to completion; to another shard it goes
//! through a lock-free ring; to another process through shared memory, a unix socket or TCP. A node's owner holds its
//! [`NodePort`] and receives its events through a [`NodeSink`].
//!
//! Nothing here polls: an idle process sleeps in epoll, whatever the number of its nodes.

mod device_writes;
/// Public only for the fuzz targets, which read what a neighbour may send.
#[doc(hidden)]
pub mod link;
mod mailbox;
mod panics;
mod port;
mod setup;
mod shard;
mod shared;
mod sinks;
mod stats;
mod tap;
mod tun;
mod watchdog;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use nm_engine::Depot;
use nm_kernel::offload::OffloadState;
use nm_kernel::tun::Offload;
use nm_kernel::{local, socket, thread};

pub use self::link::frame::LinkFault;
pub use self::link::handshake::LinkSecret;
pub use self::link::wire::Carrier;
pub use self::port::NodePort;
pub use self::setup::{
    LinkKind, LinkSetup, NodeSetup, NodeSink, OffloadChoice, PortError, RuntimeConfig,
    RuntimeError, TunNamespace, TunSetup,
};
pub use self::stats::{RuntimeStats, ShardStats};
pub use self::tap::{Interface, Point, Recorded, Tap, TapCounts};

use self::mailbox::{NewNode, ShardMessage};
use self::shard::{Listeners, Shard};
use self::shared::{LocalNode, Mailbox, Shared, LISTENING_SHARD};
use self::watchdog::Watchdog;

/// Buffers of each size that all shards together keep for reuse. 512 large ones are 34 MB, and they exist only after
/// that many were needed at once.
const DEPOT_BUFFERS: usize = 512;

/// The packet threads of a process. Dropping the last handle ends them and closes the remaining nodes.
pub struct Runtime {
    shared: Arc<Shared>,
    process_id: u64,
    listen: Option<SocketAddr>,
    socket: Result<Option<PathBuf>, String>,
    nodes_per_block: usize,
    /// Nodes placed so far: those with super-packets or none, and those with plain packets.
    placed: AtomicUsize,
    placed_plain: AtomicUsize,
    threads: Mutex<Vec<JoinHandle<()>>>,
    watchdog: Watchdog,
}

impl Runtime {
    /// The runtime of this process; the first call starts it with its configuration.
    pub fn get_or_start(config: RuntimeConfig) -> Result<Arc<Self>, RuntimeError> {
        static PROCESS: OnceLock<Mutex<Option<Arc<Runtime>>>> = OnceLock::new();
        let mut process = PROCESS
            .get_or_init(Mutex::default)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = process.as_ref() {
            return Ok(runtime.clone());
        }
        let runtime = Self::start(config)?;
        *process = Some(runtime.clone());
        Ok(runtime)
    }

    /// Starts a separate runtime, beside any other in the process.
    pub fn start(config: RuntimeConfig) -> Result<Arc<Self>, RuntimeError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = config.shards.unwrap_or(cores);
        if count == 0 || count > setup::MOST_SHARDS || config.nodes_per_block == 0 {
            return Err(RuntimeError::Invalid(format!(
                "{count} shards with blocks of {} nodes make no runtime",
                config.nodes_per_block
            )));
        }
        let tcp = config.listen.map(socket::listen).transpose()?;
        let listen = tcp.as_ref().and_then(|listener| listener.local_addr().ok());
        let (unix, socket) = match config.socket {
            None => (None, Ok(None)),
            Some(path) => match local::listen(&path) {
                Ok(listener) => (Some(listener), Ok(Some(path))),
                Err(error) => (None, Err(error.to_string())),
            },
        };
        let mut listeners = Listeners { tcp, unix };
        let mailboxes = (0..count)
            .map(|index| Mailbox::new(index, count))
            .collect::<nm_kernel::Result<Vec<_>>>()?;
        let shared = Shared::new(mailboxes, config.shared_memory);
        let depot = Depot::new(DEPOT_BUFFERS);
        let shards = (0..count)
            .map(|index| {
                let listeners = match index {
                    LISTENING_SHARD => std::mem::take(&mut listeners),
                    _ => Listeners::default(),
                };
                Shard::new(
                    index,
                    shared.clone(),
                    depot.clone(),
                    listeners,
                    config.batched_writes,
                )
            })
            .collect::<nm_kernel::Result<Vec<_>>>()?;
        // From here on a failure drops the runtime, which ends what was started.
        let runtime = Arc::new(Self {
            watchdog: Watchdog::start(shared.clone())?,
            process_id: thread::random_u64()?,
            listen,
            socket,
            nodes_per_block: config.nodes_per_block,
            placed: AtomicUsize::new(0),
            placed_plain: AtomicUsize::new(0),
            threads: Mutex::default(),
            shared,
        });
        for (index, shard) in shards.into_iter().enumerate() {
            let core = config.pin.then_some(index % cores);
            let thread = start_thread(shard, index, core)?;
            let mut threads = runtime
                .threads
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            threads.push(thread);
        }
        Ok(runtime)
    }

    /// A number that no other runtime has: two nodes that report the same one can link through memory.
    pub fn process_id(&self) -> u64 {
        self.process_id
    }

    /// The TCP address that neighbours in other processes dial.
    pub fn listen_address(&self) -> Option<SocketAddr> {
        self.listen
    }

    /// The port of that address; 0 when there is no listener.
    pub fn listen_port(&self) -> u16 {
        self.listen.map_or(0, |address| address.port())
    }

    /// The unix socket that neighbours on this machine may dial instead, if there is one.
    ///
    /// # Errors
    ///
    /// Why the requested path cannot be used.
    pub fn socket(&self) -> Result<Option<&Path>, &str> {
        match &self.socket {
            Ok(path) => Ok(path.as_deref()),
            Err(reason) => Err(reason),
        }
    }

    /// Adds a node to a shard, with its device. May be called from several threads at once; opening the device takes
    /// most of the time.
    pub fn add_node(&self, setup: NodeSetup) -> Result<NodePort, RuntimeError> {
        let NodeSetup {
            mut config,
            tun,
            sink,
            lab,
            shard,
        } = setup;
        let offload = match &tun {
            Some(tun) => tun::offload_state(tun),
            None => OffloadState::Off("no TUN device".into()),
        };
        let plain = tun.is_some() && offload.offload() == Offload::OFF;
        let shard = self.choose_shard(shard, plain)?;
        // Each incarnation of a node needs an unused number, which distinguishes its transfers from those of earlier
        // ones.
        config.incarnation = nm_kernel::thread::random_u64()?;
        let (node, lab) = (config.node_id, Arc::<str>::from(lab));
        let local_node = LocalNode {
            shard,
            sink: sink.clone(),
        };
        if !self.shared.add_node(&lab, node, local_node) {
            return Err(RuntimeError::NodeExists {
                lab: lab.to_string(),
                node,
            });
        }
        let opened = tun.as_ref().map(|tun| tun::open(tun, offload.offload()));
        let tun = match opened.transpose() {
            Ok(opened) => opened,
            Err(error) => {
                self.shared.remove_node(&lab, node);
                return Err(error);
            }
        };
        let mailbox = self.shared.mailboxes[shard].clone();
        let panics = mailbox.panics();
        let (reply, answer) = sync_channel(1);
        let new = NewNode {
            config,
            tun,
            sink,
            lab: lab.clone(),
        };
        mailbox.post(ShardMessage::AddNode(Box::new(new), reply));
        let key = match port::wait(&mailbox, &answer, panics) {
            Ok(key) => key,
            // The caller waits no longer; the shard closes the node when it handles the message.
            Err(PortError::Stalled) => return Err(RuntimeError::Stalled { shard }),
            Err(_) => {
                self.shared.remove_node(&lab, node);
                return Err(RuntimeError::Stopped);
            }
        };
        Ok(NodePort {
            node,
            key,
            shard,
            mailbox,
            offload: Arc::new(offload),
        })
    }

    /// The runtime's counters about itself.
    pub fn stats(&self) -> RuntimeStats {
        let shard = |mailbox: &Arc<Mailbox>| ShardStats {
            stalled: mailbox.is_stalled(),
            ..mailbox.counters.snapshot()
        };
        RuntimeStats {
            shards: self.shared.mailboxes.iter().map(shard).collect(),
        }
    }

    /// Contiguous blocks, one shard after the other; nodes with plain packets round-robin.
    fn choose_shard(&self, requested: Option<usize>, plain: bool) -> Result<usize, RuntimeError> {
        let count = self.shared.mailboxes.len();
        match requested {
            Some(shard) if shard >= count => Err(RuntimeError::Invalid(format!(
                "there is no shard {shard}, only {count}"
            ))),
            Some(shard) => Ok(shard),
            // Their system calls take more time than handing a packet over: two threads carry 1.7 times as much as
            // one.
            None if plain => Ok(self.placed_plain.fetch_add(1, Ordering::Relaxed) % count),
            None => Ok(self.placed.fetch_add(1, Ordering::Relaxed) / self.nodes_per_block % count),
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.watchdog.stop();
        for mailbox in &self.shared.mailboxes {
            mailbox.post(ShardMessage::Stop);
        }
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // Joins a thread whose loop has ended; panics were caught in it.
            let _ = thread.join();
        }
    }
}

fn start_thread(
    shard: Shard,
    index: usize,
    core: Option<usize>,
) -> Result<JoinHandle<()>, RuntimeError> {
    std::thread::Builder::new()
        .name(format!("nm-shard-{index}"))
        .spawn(move || {
            // Without exact timers links are late by 50 µs, without pinning a shard may change its core: slower, but
            // correct.
            let _ = thread::set_exact_timers();
            if let Some(core) = core {
                let _ = thread::pin_to_core(core);
            }
            panics::watch(shard.mailbox());
            shard.run();
        })
        .map_err(|e| RuntimeError::Invalid(format!("no thread for shard {index}: {e}")))
}
