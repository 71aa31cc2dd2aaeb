//! The side of the attached program.

use std::io;
use std::net::{Ipv4Addr, Shutdown};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use nm_kernel::{abstract_socket, shared_file};
use nm_messages::Value;

use super::wire::{self, Call, Frame, Reply, Request, MAX_REPLY, NODE};
use crate::node::error::Failure;
use crate::node::receiver::Message;
use crate::node::wait::{lock, Signal, Waker};
use crate::node::NodeError;

/// How long the node may take to answer a call, none of which waits for anything.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// What goes to the node with a call.
pub enum Payload<'a> {
    /// Nothing.
    None,
    /// The bytes of a message.
    Message(&'a [u8]),
    /// The bytes of a transfer.
    Transfer(&'a [u8]),
}

/// What the node answered.
pub enum Outcome {
    /// A plain value.
    Value(Value),
    /// Something to wait for.
    Thing(Arc<Thing>),
    /// Messages.
    Messages(Vec<Message>),
    /// The bytes of a transfer.
    Data(shared_file::Mapping),
}

/// The connection of this process to its node.
pub struct Client {
    stream: Mutex<UnixStream>,
    /// The same socket, for waits while a call is made.
    watched: UnixStream,
    process: u32,
    things: Mutex<Vec<Weak<Thing>>>,
    closed: AtomicBool,
}

/// Something at the node to wait for.
pub struct Thing {
    number: u64,
    raised: OwnedFd,
    /// The descriptor was found readable, which the node is told with the next call.
    seen: AtomicBool,
    changed: Signal,
    polling: Mutex<()>,
    client: Weak<Client>,
}

impl Client {
    /// Attaches to the node that listens under a name in this network namespace. Returns the connection, what to wait
    /// for when the node changes, and facts about the node.
    ///
    /// # Errors
    ///
    /// Nobody listens there, or this process is refused.
    pub fn connect(name: &str) -> Result<(Arc<Self>, Arc<Thing>, Value), NodeError> {
        let opened = abstract_socket::connect(name).and_then(|stream| {
            stream.set_read_timeout(Some(CALL_LIMIT))?;
            stream.set_write_timeout(Some(CALL_LIMIT))?;
            Ok((stream.try_clone()?, stream))
        });
        let (watched, stream) = opened.map_err(|error| not_found(name, &error))?;
        let client = Arc::new(Client {
            stream: Mutex::new(stream),
            watched,
            process: std::process::id(),
            things: Mutex::default(),
            closed: AtomicBool::new(false),
        });
        let hello = Request::Hello {};
        let frame = match client.exchange(hello, &Payload::None) {
            Ok(frame) => frame,
            Err(_) => return Err(refused()),
        };
        match (frame.body, frame.descriptor) {
            (Reply::Value(facts), Some(raised)) => {
                let thing = client.thing(NODE, raised);
                Ok((client, thing, facts))
            }
            (Reply::Failed(failure), _) => Err(NodeError::Attached(Box::new(failure))),
            _ => Err(NodeError::Internal("hello")),
        }
    }

    /// Makes a call.
    ///
    /// # Errors
    ///
    /// The node refused, or the connection has ended.
    pub fn call(
        self: &Arc<Self>,
        request: Request,
        payload: &Payload<'_>,
    ) -> Result<Outcome, NodeError> {
        let frame = self.exchange(request, payload)?;
        match (frame.body, frame.descriptor) {
            (Reply::Value(value), _) => Ok(Outcome::Value(value)),
            (Reply::Thing(number), Some(raised)) => Ok(Outcome::Thing(self.thing(number, raised))),
            (Reply::Messages(headers), _) => {
                messages(&headers, &frame.bytes).map(Outcome::Messages)
            }
            (Reply::Data, Some(file)) => shared_file::map(file.as_fd())
                .map(Outcome::Data)
                .map_err(|error| failure("StartError", error.id(), &error.to_string(), None)),
            (Reply::Failed(failure), _) => Err(NodeError::Attached(Box::new(failure))),
            _ => Err(NodeError::Internal("a call of an attached program")),
        }
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        if !self.closed.load(Ordering::Relaxed) && self.process == std::process::id() {
            let socket = &self.watched;
            let end = abstract_socket::wait_input_or_end(socket, socket, Duration::ZERO);
            if end.is_ok_and(|found| found.second) {
                self.closed.store(true, Ordering::Relaxed);
            }
        }
        self.closed.load(Ordering::Relaxed)
    }

    /// Ends the connection, and with it what was opened through it. A forked child only forgets it.
    pub fn close(&self) {
        if self.closed.swap(true, Ordering::Relaxed) || self.process != std::process::id() {
            return;
        }
        // An error means that the node has closed it already.
        let _ = self.watched.shutdown(Shutdown::Both);
        for thing in lock(&self.things)
            .drain(..)
            .filter_map(|thing| thing.upgrade())
        {
            thing.changed.notify();
        }
    }

    fn exchange(&self, request: Request, payload: &Payload<'_>) -> Result<Frame<Reply>, NodeError> {
        if self.process != std::process::id() {
            return Err(forked());
        }
        if self.closed.load(Ordering::Relaxed) {
            return Err(ended(None));
        }
        let file = match payload {
            Payload::Transfer(bytes) => Some(
                shared_file::copy(bytes)
                    .map_err(|error| failure("StartError", error.id(), &error.to_string(), None))?,
            ),
            _ => None,
        };
        let bytes = match payload {
            Payload::Message(bytes) => too_large(bytes)?,
            _ => &[],
        };
        let mut stream = lock(&self.stream);
        let call = Call {
            seen: self.take_seen(),
            request,
        };
        wire::write(&mut stream, &call, bytes, file.as_ref().map(AsFd::as_fd))
            .and_then(|()| wire::read(&mut stream, MAX_REPLY))
            .map_err(|error| {
                // A late reply would be taken for that of the next call.
                self.close();
                ended(Some(&error))
            })
    }

    fn take_seen(&self) -> Vec<u64> {
        let mut things = lock(&self.things);
        things.retain(|thing| thing.strong_count() > 0);
        let live = things.iter().filter_map(Weak::upgrade);
        live.filter(|thing| thing.seen.swap(false, Ordering::SeqCst))
            .map(|thing| thing.number)
            .collect()
    }

    fn thing(self: &Arc<Self>, number: u64, raised: OwnedFd) -> Arc<Thing> {
        let thing = Arc::new(Thing {
            number,
            raised,
            seen: AtomicBool::new(false),
            changed: Signal::default(),
            polling: Mutex::default(),
            client: Arc::downgrade(self),
        });
        lock(&self.things).push(Arc::downgrade(&thing));
        thing
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
    }
}

impl Thing {
    /// Its number at the node.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How often it was found changed. Read it before a call that looks, and wait for a larger number.
    pub fn changes(&self) -> u64 {
        self.changed.changes()
    }

    /// Waits until it has changed more often than `seen`, or the connection ends; at most for `limit`.
    pub fn wait(&self, seen: u64, limit: Duration) {
        if self.changes() > seen {
            return;
        }
        let Some(client) = self.client.upgrade() else {
            return;
        };
        // One thread looks at the descriptor; it tells the others.
        let Ok(_polling) = self.polling.try_lock() else {
            self.changed
                .wait(seen, limit.min(Duration::from_millis(20)));
            return;
        };
        match abstract_socket::wait_input_or_end(&self.raised, &client.watched, limit) {
            Ok(found) if found.first || found.second => self.note(),
            _ => {}
        }
    }

    /// The descriptor was found readable, or the connection has ended.
    pub(super) fn note(&self) {
        self.seen.store(true, Ordering::SeqCst);
        self.changed.notify();
    }

    /// Duplicates of its descriptor, and of the connection.
    pub(super) fn descriptors(&self) -> Option<(io::Result<OwnedFd>, io::Result<UnixStream>)> {
        let client = self.client.upgrade()?;
        Some((self.raised.try_clone(), client.watched.try_clone()))
    }

    /// Fires a waker at every change that any thread of this program notes.
    pub(super) fn watch(&self, key: u64, waker: &Arc<Waker>) {
        self.changed.watch(key, waker);
    }
}

fn messages(headers: &[wire::Header], bytes: &[u8]) -> Result<Vec<Message>, NodeError> {
    let mut left = bytes;
    let mut messages = Vec::with_capacity(headers.len());
    for header in headers {
        let Some((payload, rest)) = left.split_at_checked(header.len as usize) else {
            return Err(NodeError::Internal("take"));
        };
        left = rest;
        messages.push(Message::copied(
            payload,
            (Ipv4Addr::from(header.src_ip), header.src_port),
            (Ipv4Addr::from(header.dst_ip), header.dst_port),
            header.flow_id,
            header.message_id,
        ));
    }
    Ok(messages)
}

/// Refuses what no packet can carry before it is sent to the node.
fn too_large(bytes: &[u8]) -> Result<&[u8], NodeError> {
    if bytes.len() <= nm_engine::MAX_MESSAGE {
        return Ok(bytes);
    }
    let error = nm_engine::CommandError::MessageTooLarge {
        len: bytes.len(),
        max: nm_engine::MAX_MESSAGE,
    };
    Err(error.into())
}

fn failure(class: &str, id: &str, message: &str, hint: Option<&str>) -> NodeError {
    NodeError::Attached(Box::new(Failure {
        class: class.to_owned(),
        id: id.to_owned(),
        message: message.to_owned(),
        hint: hint.map(str::to_owned),
        largest: None,
    }))
}

fn not_found(name: &str, error: &io::Error) -> NodeError {
    failure(
        "NotAttached",
        "attach.not_found",
        &format!("no node can be reached at @{name} in this network namespace: {error}"),
        Some("run the program in a node, for example with `nm exec NODE -- …`"),
    )
}

fn refused() -> NodeError {
    failure(
        "NotAttached",
        "attach.refused",
        "the node refused this program",
        Some(
            "run it as root or as the user of the node's process; a node takes 64 programs at once",
        ),
    )
}

fn ended(error: Option<&io::Error>) -> NodeError {
    let text = match error {
        None => "the program is not attached any more".to_owned(),
        Some(error) if error.kind() == io::ErrorKind::WouldBlock => format!(
            "the node did not answer a call within {} s, and the connection was closed",
            CALL_LIMIT.as_secs()
        ),
        Some(error) => format!("the connection to the node has ended: {error}"),
    };
    failure("NodeClosed", "attach.ended", &text, None)
}

fn forked() -> NodeError {
    let text = "a forked process is not attached; its parent is";
    let hint = "call `nextmini_py.attach()` in the child";
    failure("NodeClosed", "attach.forked", text, Some(hint))
}
