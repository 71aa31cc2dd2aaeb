//! Send messages to nodes and groups, and register receivers.

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use nm_engine::{Command, CommandOutput, FlowFilter, NodeId, ReceiverId, SharedBytes, Target};

use super::error::NodeError;
use super::receiver::Queue;
use super::state::NodeState;
use super::Node;
use crate::runtime::NodePort;

/// The longest time that a first message waits for the lab to be ready.
pub const SEND_WAIT: Duration = Duration::from_secs(10);

/// A registered flow and its queue. Dropping it unregisters the receiver.
pub struct Receiver {
    id: ReceiverId,
    port: NodePort,
    state: Arc<NodeState>,
    queue: Arc<Queue>,
}

impl Receiver {
    /// The messages.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Stops receiving; messages that have arrived can still be taken. A second call has no effect.
    pub fn close(&self) {
        if !self.queue.is_closed() {
            self.port
                .command_nowait(Command::CloseReceiver { receiver: self.id });
            self.state.remove_queue(self.id);
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.close();
    }
}

impl Node {
    /// Whether messages may be sent now. Before every node is ready they would be lost for want of a route or a
    /// receiver; programs that start together need not handle that themselves.
    pub fn may_send(&self) -> bool {
        self.waited.load(Ordering::Relaxed) || self.topology_ready()
    }

    /// Ends the wait for readiness, whether the lab became ready or the limit passed; no later message waits.
    pub fn end_send_wait(&self) {
        self.waited.store(true, Ordering::Relaxed);
    }

    /// Sends one complete message or none, and returns how many were sent before it.
    pub fn send_message(
        &self,
        target: Target,
        payload: SharedBytes,
        src_port: Option<u16>,
        dst_port: Option<u16>,
    ) -> Result<u64, NodeError> {
        self.command(Command::SendMessage {
            target,
            src_port,
            dst_port,
            payload,
        })?;
        Ok(self.sent.fetch_add(1, Ordering::Relaxed))
    }

    /// The target for a message to a group.
    pub fn group_target(&self, group_id: u32) -> Result<Target, NodeError> {
        self.group_address(group_id)
            .map(Target::Group)
            .ok_or(NodeError::UnknownGroup(group_id))
    }

    /// Registers a receiver for what `src_node` sends to this node, or to a group, with these ports.
    pub fn register_receiver(
        &self,
        src_node: NodeId,
        group: Option<Ipv4Addr>,
        src_port: Option<u16>,
        dst_port: Option<u16>,
    ) -> Result<Receiver, NodeError> {
        let filter = FlowFilter {
            src_node,
            group,
            src_port: src_port.unwrap_or(self.settings.user_space_client_port),
            dst_port: dst_port.unwrap_or(self.settings.user_space_server_port),
        };
        let CommandOutput::Receiver(id) = self.command(Command::RegisterReceiver { filter })?
        else {
            return Err(NodeError::Internal("RegisterReceiver"));
        };
        let queue = Arc::new(Queue::new(
            self.settings.channel_capacity,
            self.settings.channel_backpressure,
        ));
        self.state.add_queue(id, Arc::clone(&queue));
        Ok(Receiver {
            id,
            port: self.port.clone(),
            state: Arc::clone(&self.state),
            queue,
        })
    }
}
