//! Accept attached programs, and run a thread for each.

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use nm_kernel::abstract_socket::{self, Peer};
use nm_kernel::poll::{Epoll, Interest, ReadyList};
use nm_kernel::{namespace, KernelError};

use super::session::{Session, Shared};
use super::wire::{self, Call, MAX_CALL};
use crate::node::wait::lock;
use crate::node::Node;

/// Most programs attached to a node at once; each has a thread.
const MAX_PROGRAMS: usize = 64;

/// How long a program may stop in the middle of a call or a reply.
const STALL_LIMIT: Duration = Duration::from_secs(30);

/// Connections that are accepted at a time.
const ACCEPTS: usize = 16;
/// How long nothing is accepted after an error, so that a lack of descriptors does not occupy a processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// The programs attached to a node. Dropping it ends their connections, and no others are accepted.
struct Programs {
    token: u64,
    acceptor: Arc<Acceptor>,
    connections: Arc<Connections>,
}

impl Drop for Programs {
    fn drop(&mut self) {
        let listener = lock(&self.acceptor.listeners).remove(&self.token);
        if let Some(listener) = listener {
            // Explicitly, because a forked child of this process may keep the socket open. An error means that it is
            // not in the set.
            let _ = self.acceptor.epoll.remove(&listener.socket);
        }
        self.connections.end();
    }
}

/// The connections of a node.
#[derive(Default)]
struct Connections {
    shared: Arc<Shared>,
    streams: Mutex<HashMap<u64, UnixStream>>,
    last: AtomicU64,
    ended: AtomicBool,
}

impl Connections {
    /// Adds a connection; `None` when there are too many, or the node was closed.
    fn add(&self, stream: &UnixStream) -> Option<u64> {
        let handle = stream.try_clone().ok()?;
        let mut streams = lock(&self.streams);
        if streams.len() >= MAX_PROGRAMS || self.ended.load(Ordering::SeqCst) {
            return None;
        }
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        streams.insert(number, handle);
        Some(number)
    }

    fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        for stream in lock(&self.streams).values() {
            // An error means that the program has closed it already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// The thread of this process that accepts connections, for all its nodes.
struct Acceptor {
    epoll: Epoll,
    listeners: Mutex<HashMap<u64, Listener>>,
    last: AtomicU64,
}

struct Listener {
    socket: UnixListener,
    node: Weak<Node>,
    connections: Arc<Connections>,
}

static ACCEPTOR: OnceLock<Arc<Acceptor>> = OnceLock::new();

/// Lets programs attach to a node until it is closed, those of a network namespace (the caller's own with `None`), under
/// an abstract name.
///
/// # Errors
///
/// The name is in use there, or the system refuses a socket.
pub fn serve(
    node: &Arc<Node>,
    name: &str,
    namespace: Option<BorrowedFd<'_>>,
) -> nm_kernel::Result<()> {
    let acceptor = acceptor()?;
    let socket = namespace::run_in(namespace, || abstract_socket::listen(name))?;
    let token = acceptor.last.fetch_add(1, Ordering::Relaxed);
    acceptor.epoll.add(&socket, token, Interest::READ)?;
    let connections = Arc::<Connections>::default();
    let listener = Listener {
        socket,
        node: Arc::downgrade(node),
        connections: Arc::clone(&connections),
    };
    lock(&acceptor.listeners).insert(token, listener);
    node.end_with(Programs {
        token,
        acceptor,
        connections,
    });
    Ok(())
}

fn acceptor() -> nm_kernel::Result<Arc<Acceptor>> {
    if let Some(acceptor) = ACCEPTOR.get() {
        return Ok(Arc::clone(acceptor));
    }
    let made = Arc::new(Acceptor {
        epoll: Epoll::new()?,
        listeners: Mutex::default(),
        last: AtomicU64::new(0),
    });
    let acceptor = Arc::clone(ACCEPTOR.get_or_init(|| Arc::clone(&made)));
    if Arc::ptr_eq(&made, &acceptor) {
        let running = Arc::clone(&acceptor);
        thread::Builder::new()
            .name("attach".to_owned())
            .spawn(move || running.run())
            .map_err(not_started)?;
    }
    Ok(acceptor)
}

fn not_started(source: io::Error) -> KernelError {
    KernelError::System {
        what: "start a thread",
        subject: "attached programs".to_owned(),
        source,
    }
}

impl Acceptor {
    fn run(&self) {
        let mut ready = ReadyList::with_capacity(64);
        while self.epoll.wait(&mut ready, None).is_ok() {
            for index in 0..ready.len() {
                self.accept(ready.get(index).token);
            }
        }
    }

    fn accept(&self, token: u64) {
        let listeners = lock(&self.listeners);
        let Some(listener) = listeners.get(&token) else {
            return;
        };
        // The rest is reported again: programs that connect without end hold up nobody else.
        for _ in 0..ACCEPTS {
            let stream = match listener.socket.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // No descriptor is left, or the program is gone already; the next look is later.
                Err(_) => return thread::sleep(ACCEPT_PAUSE),
            };
            let Ok(peer) = abstract_socket::peer(&stream) else {
                continue;
            };
            // A refused program finds its connection closed at its first call.
            if peer.uid == 0 || peer.uid == abstract_socket::own_uid() {
                start(stream, peer, &listener.node, &listener.connections);
            }
        }
    }
}

/// Starts the thread of a program; without one the connection is closed.
fn start(stream: UnixStream, peer: Peer, node: &Weak<Node>, connections: &Arc<Connections>) {
    let limited = stream
        .set_read_timeout(Some(STALL_LIMIT))
        .and_then(|()| stream.set_write_timeout(Some(STALL_LIMIT)));
    let Some(number) = limited.ok().and_then(|()| connections.add(&stream)) else {
        return;
    };
    let (node, all) = (Weak::clone(node), Arc::clone(connections));
    let started = thread::Builder::new()
        .name("attached".to_owned())
        .spawn(move || {
            attend(stream, peer.process.as_ref(), &node, number, &all.shared);
            lock(&all.streams).remove(&number);
        });
    if started.is_err() {
        lock(&connections.streams).remove(&number);
    }
}

/// Answers a program's calls until it closes the connection, ends, or breaks the protocol; then closes what it opened.
fn attend(
    mut stream: UnixStream,
    process: Option<&OwnedFd>,
    node: &Weak<Node>,
    number: u64,
    shared: &Arc<Shared>,
) {
    let Some(open) = node.upgrade() else { return };
    let Ok(mut session) = Session::new(&open, number, shared) else {
        return;
    };
    drop(open); // the node's owner decides how long it lives
    while let Ok(input) = abstract_socket::wait_input(&stream, process, None) {
        if input.second {
            break; // a forked child may keep the connection open
        }
        if !input.first {
            continue;
        }
        let Ok(frame) = wire::read::<Call>(&mut stream, MAX_CALL) else {
            break;
        };
        let Some(open) = node.upgrade() else { break };
        let answer = session.answer(&open, frame);
        drop(open);
        if wire::write(
            &mut stream,
            &answer.reply,
            &answer.bytes,
            answer.descriptor(),
        )
        .is_err()
        {
            break;
        }
    }
    // An error means that the program has closed it already.
    let _ = stream.shutdown(Shutdown::Both);
    if let Some(open) = node.upgrade() {
        session.close(&open);
    }
}
