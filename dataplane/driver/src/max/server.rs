//! The thread of a process that carries flows, and how others talk to it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use nm_kernel::{namespace, relay_socket, KernelError};

use super::inbox::{Inbox, Message};
use super::worker::Worker;
use super::{Limits, NodeSetup};
use crate::node::wait::lock;

/// How long to wait for the worker to close the listeners of a node. It takes milliseconds; a worker that is stuck must
/// not stop its node from closing.
const REMOVE_LIMIT: Duration = Duration::from_secs(5);

/// The thread that carries the flows of a process. Dropping it resets them.
pub struct Server {
    inbox: Arc<Inbox>,
    last: AtomicU64,
}

/// A node's part of a [`Server`]; dropping it resets the flows that pass the node and closes its listeners.
pub struct Membership {
    inbox: Arc<Inbox>,
    number: u64,
    addresses: Vec<SocketAddr>,
}

impl Membership {
    /// Where the node listens, in the order of its setup.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// By which the node reports changes of its state.
    #[must_use]
    pub fn changed(&self) -> Changed {
        Changed {
            inbox: Arc::clone(&self.inbox),
            number: self.number,
        }
    }
}

/// Tells the worker that the state of a node or of its links has changed.
pub struct Changed {
    inbox: Arc<Inbox>,
    number: u64,
}

impl Changed {
    /// Makes the worker ask for the state, and hold, resume or reset the node's flows accordingly.
    pub fn notify(&self) {
        self.inbox.post(Message::Changed(self.number));
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let (done, removed) = sync_channel(0);
        self.inbox.post(Message::Remove(self.number, done));
        // Ends with an error at once when the worker drops the sender, which is its answer.
        let _ = removed.recv_timeout(REMOVE_LIMIT);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.inbox.post(Message::Stop);
    }
}

static PROCESS: OnceLock<Mutex<Option<Arc<Server>>>> = OnceLock::new();

impl Server {
    /// The server of this process, started by the first call.
    ///
    /// # Errors
    ///
    /// The system refuses a thread or a descriptor.
    pub fn get_or_start() -> nm_kernel::Result<Arc<Self>> {
        let mut process = lock(PROCESS.get_or_init(Mutex::default));
        match process.as_ref() {
            Some(server) => Ok(Arc::clone(server)),
            None => Ok(Arc::clone(
                process.insert(Arc::new(Self::start(Limits::default())?)),
            )),
        }
    }

    /// Starts a server of its own.
    ///
    /// # Errors
    ///
    /// As [`get_or_start`](Self::get_or_start).
    pub fn start(limits: Limits) -> nm_kernel::Result<Self> {
        let inbox = Arc::new(Inbox::new()?);
        let mut worker = Worker::new(Arc::clone(&inbox), limits)?;
        let ended = Arc::clone(&inbox);
        thread::Builder::new()
            .name("max-mode".to_owned())
            .spawn(move || {
                // After a panic every flow is reset; nodes and listeners stay.
                while catch_unwind(AssertUnwindSafe(|| worker.run())).is_err() {
                    worker.reset_all();
                }
                ended.close();
            })
            .map_err(not_started)?;
        Ok(Self {
            inbox,
            last: AtomicU64::new(0),
        })
    }

    /// Adds a node and opens its listeners.
    ///
    /// # Errors
    ///
    /// An address of the setup cannot be bound in its namespace.
    pub fn add(&self, setup: NodeSetup) -> nm_kernel::Result<Membership> {
        let addresses = setup.listen.clone();
        let space = setup.namespace.as_ref().map(AsFd::as_fd);
        let listeners = namespace::run_in(space, move || {
            let addresses = addresses.into_iter();
            addresses
                .map(relay_socket::listen)
                .collect::<Result<Vec<_>, _>>()
        })?;
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let bound = listeners.iter().map(TcpListener::local_addr);
        let bound = bound.collect::<Result<_, _>>().map_err(not_bound)?;
        let message = Message::Add(number, Box::new(setup), listeners);
        self.inbox.post(message);
        Ok(Membership {
            inbox: Arc::clone(&self.inbox),
            number,
            addresses: bound,
        })
    }
}

fn not_bound(source: io::Error) -> KernelError {
    KernelError::System {
        what: "read the address of a listener",
        subject: "max mode".to_owned(),
        source,
    }
}

fn not_started(source: io::Error) -> KernelError {
    KernelError::System {
        what: "start a thread",
        subject: "max mode".to_owned(),
        source,
    }
}
