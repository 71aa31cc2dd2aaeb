//! The public API of a node: what `nextmini_py.Dataplane` wraps.
//!
//! There are three kinds of calls. Queries read the node's facts and never block. Requests go to the controller and
//! return a [`Pending`] reply. Commands go to the node's shard and take microseconds. No call blocks for longer: the
//! Python binding waits on signals in short slices, so that it can be interrupted; event loops wait on a
//! [`wait::Waker`].

pub mod agent_request;
pub mod error;
mod error_class;
pub mod events;
mod executor;
mod flow_key;
mod flows;
mod groups;
pub mod info;
pub mod link_values;
mod max_mode;
mod messages;
pub mod pending;
mod probes;
pub mod receiver;
pub mod records;
pub mod sessions;
mod start;
pub mod state;
pub mod values;
pub mod wait;

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nm_engine::{AddressPlan, Command, CommandOutput};

pub use error::NodeError;
pub use events::NodeEvent;
pub use groups::JOIN_WAIT;
pub use messages::{Receiver, SEND_WAIT};
pub use pending::Pending;
pub use start::Options;
pub use wait::{Deadline, Signal, Waker};

use crate::capture;
use crate::config::NodeSettings;
use crate::control::ControlHandle;
use crate::runtime::{NodePort, Runtime};
use state::NodeState;

/// Time limit of a request to the controller, including time without a connection.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// A node in this process. Dropping it closes it.
pub struct Node {
    settings: NodeSettings,
    runtime: Arc<Runtime>,
    port: NodePort,
    state: Arc<NodeState>,
    handle: ControlHandle,
    addresses: Arc<Mutex<AddressPlan>>,
    registration: Arc<Pending<()>>,
    sent: AtomicU64,
    waited: AtomicBool,
    closed: AtomicBool,
    /// What ends with the node.
    resources: Mutex<Vec<Box<dyn Any + Send>>>,
}

impl Node {
    /// The node's settings.
    pub fn settings(&self) -> &NodeSettings {
        &self.settings
    }

    /// Completes when the controller has accepted the node and sent its settings.
    pub fn registration(&self) -> &Arc<Pending<()>> {
        &self.registration
    }

    /// Notified when a fact about the node changes.
    pub fn signal(&self) -> &Signal {
        &self.state.signal
    }

    /// Whether the controller has reported that every node is ready.
    pub fn topology_ready(&self) -> bool {
        self.state.look(|facts| facts.topology_ready)
    }

    /// Drops something when the node is closed; at once if it is closed already.
    pub fn end_with(&self, resource: impl Send + 'static) {
        let mut resources = wait::lock(&self.resources);
        if !self.is_closed() {
            resources.push(Box::new(resource));
        }
    }

    /// Collects events from now on for one reader more, to be taken with [`next_event_for`](Self::next_event_for).
    pub fn subscribe(&self) -> u64 {
        self.state.change_quietly(|facts| facts.events.subscribe())
    }

    /// Ends a subscription.
    pub fn unsubscribe(&self, reader: u64) {
        self.state
            .change_quietly(|facts| facts.events.unsubscribe(reader));
    }

    /// The oldest event that a subscriber has not taken yet.
    pub fn next_event_for(&self, reader: u64) -> Option<NodeEvent> {
        self.state
            .change_quietly(|facts| facts.events.pop_for(reader))
    }

    /// The oldest event that was not returned yet.
    pub fn next_event(&self) -> Option<NodeEvent> {
        self.state.next_event()
    }

    /// Whether the node was closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Pauses the node's packet processing, or resumes it; see [`Command::SetPaused`].
    ///
    /// # Errors
    ///
    /// [`NodeError::Closed`], or that its packet thread does not answer.
    pub fn set_paused(&self, paused: bool) -> Result<(), NodeError> {
        self.command(Command::SetPaused { paused }).map(|_| ())
    }

    /// Detaches from the controller, removes the links and ends pending waits. A second call has no effect.
    pub fn close(&self) {
        if self.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        let resources = std::mem::take(&mut *wait::lock(&self.resources));
        drop(resources);
        self.handle.detach("closed by its program");
        capture::remove_node(&self.port);
        self.port.close();
        self.state.end();
    }

    fn check_open(&self) -> Result<(), NodeError> {
        if self.is_closed() {
            return Err(NodeError::Closed(self.settings.node_id));
        }
        Ok(())
    }

    fn command(&self, command: Command) -> Result<CommandOutput, NodeError> {
        self.check_open()?;
        Ok(self.port.command(command)?)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.close();
    }
}
