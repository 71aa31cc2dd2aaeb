//! Let an event loop wait for things of this process and of attached nodes alike.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, Weak};

use nm_kernel::poll::{Epoll, Interest, ReadyList};

use super::client::Thing;
use crate::node::wait::{lock, Waker};

/// The token of the waker, which no key has.
const OWN: u64 = u64::MAX;

/// A descriptor that becomes readable when something changes, and the keys of what changed.
pub struct Watcher {
    set: Epoll,
    waker: Arc<Waker>,
    things: Mutex<HashMap<u64, Watched>>,
}

/// A thing, and the descriptors that are in the set for it: duplicates, which an entry of the set is known by.
struct Watched {
    thing: Weak<Thing>,
    raised: OwnedFd,
    connection: Option<UnixStream>,
}

impl Watcher {
    /// A watcher of nothing.
    ///
    /// # Errors
    ///
    /// No descriptor is left.
    pub fn new() -> nm_kernel::Result<Self> {
        let (set, waker) = (Epoll::new()?, Waker::new()?);
        set.add(&waker, OWN, Interest::READ)?;
        Ok(Watcher {
            set,
            waker,
            things: Mutex::default(),
        })
    }

    /// What signals of this process fire.
    pub fn waker(&self) -> &Arc<Waker> {
        &self.waker
    }

    /// Watches a thing of an attached node from now on.
    ///
    /// # Errors
    ///
    /// No descriptor is left.
    pub fn watch(&self, key: u64, thing: &Arc<Thing>) -> nm_kernel::Result<()> {
        let Some((raised, connection)) = thing.descriptors() else {
            return Ok(());
        };
        let watched = Watched {
            thing: Arc::downgrade(thing),
            raised: raised.map_err(no_descriptor)?,
            // The end of the connection raises nothing, so it is watched for each thing.
            connection: connection.ok(),
        };
        let mut things = lock(&self.things);
        things.retain(|_, watched| {
            let kept = watched.thing.strong_count() > 0;
            if !kept {
                self.remove(watched);
            }
            kept
        });
        self.set.add_edge(&watched.raised, key, false)?;
        if let Some(connection) = &watched.connection {
            self.set.add_edge(connection, key, true)?;
        }
        things.insert(key, watched);
        drop(things);
        // Whoever finds the descriptor readable first, a thread that waits or this set, tells the other.
        thing.watch(key, &self.waker);
        Ok(())
    }

    /// Takes the descriptors of a thing out of the set. Closing them would not: the node has the same open files.
    fn remove(&self, watched: &Watched) {
        // They are in the set; an error could only mean that they are not.
        let _ = self.set.remove(&watched.raised);
        if let Some(connection) = &watched.connection {
            let _ = self.set.remove(connection);
        }
    }

    /// The descriptor.
    pub fn descriptor(&self) -> RawFd {
        self.set.as_fd().as_raw_fd()
    }

    /// The keys that fired since the last call.
    pub fn take(&self) -> Vec<u64> {
        let mut ready = ReadyList::with_capacity(64);
        let mut keys = Vec::new();
        if self.set.wait(&mut ready, Some(0)).is_err() {
            return keys;
        }
        for index in 0..ready.len() {
            match ready.get(index).token {
                OWN => keys.extend(self.waker.take()),
                key => {
                    let things = lock(&self.things);
                    let thing = things.get(&key).and_then(|watched| watched.thing.upgrade());
                    drop(things);
                    if let Some(thing) = thing {
                        thing.note();
                    }
                    keys.push(key);
                }
            }
        }
        keys
    }
}

fn no_descriptor(source: io::Error) -> nm_kernel::KernelError {
    nm_kernel::KernelError::System {
        what: "duplicate a descriptor",
        subject: "an attached node".to_owned(),
        source,
    }
}
