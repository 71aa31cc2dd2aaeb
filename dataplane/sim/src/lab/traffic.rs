//! Operations of tests on a running lab: commands, packets, transfers, and reading results.

use std::net::Ipv4Addr;
use std::sync::Arc;

use nm_engine::{
    Command, CommandError, CommandOutput, FlowFilter, Instant, NodeId, NodeStats, ReceiverId, SessionId,
    SessionReport, SharedBytes, VnetHeader,
};

use super::{Lab, NodeOutput};

impl Lab {
    /// Executes a command at a node.
    ///
    /// # Errors
    ///
    /// When the engine refuses it.
    ///
    /// # Panics
    ///
    /// When the node does not exist or was stopped.
    pub fn command(&mut self, node: NodeId, command: Command) -> Result<CommandOutput, CommandError> {
        let now = self.now;
        self.with(node, |node, io| node.engine.handle_command(now, command, io)).expect("the node exists")
    }

    /// Sends an IP packet from the application of a node.
    pub fn send_ip(&mut self, node: NodeId, bytes: &[u8], vnet: VnetHeader) {
        let now = self.now;
        self.with(node, |node, io| {
            let mut packet = io.pool.get();
            packet.fill(bytes, vnet).expect("a new buffer");
            node.engine.handle_tun(now, packet, io);
        });
    }

    /// Registers a receiver for the flow from a node with the default ports.
    pub fn listen(&mut self, node: NodeId, src_node: NodeId, group: Option<Ipv4Addr>) -> ReceiverId {
        let filter = FlowFilter { src_node, group, src_port: 45_535, dst_port: 8_888 };
        match self.command(node, Command::RegisterReceiver { filter }) {
            Ok(CommandOutput::Receiver(id)) => id,
            other => panic!("a receiver, not {other:?}"),
        }
    }

    /// Starts a lossless transfer.
    pub fn send(&mut self, dest: Ipv4Addr, source: NodeId, receivers: &[NodeId], data: Vec<u8>) -> SessionId {
        let data = SharedBytes::new(data);
        let command = Command::SendData { dest, receivers: receivers.to_vec(), data };
        self.session(source, command)
    }

    /// Prepares one node to receive.
    pub fn receive(&mut self, dest: Ipv4Addr, source: NodeId, node: NodeId, len: usize) -> SessionId {
        let command = Command::ReceiveData { dest, source, expected_bytes: len as u64 };
        self.session(node, command)
    }

    /// Prepares several nodes to receive.
    pub fn receive_all(
        &mut self,
        dest: Ipv4Addr,
        source: NodeId,
        nodes: &[NodeId],
        len: usize,
    ) -> Vec<SessionId> {
        nodes.iter().map(|&node| self.receive(dest, source, node, len)).collect()
    }

    fn session(&mut self, node: NodeId, command: Command) -> SessionId {
        match self.command(node, command) {
            Ok(CommandOutput::Session(id)) => id,
            other => panic!("a session, not {other:?}"),
        }
    }

    /// The virtual time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The progress of a session of a node.
    pub fn report(&mut self, node: NodeId, session: SessionId) -> SessionReport {
        match self.command(node, Command::SessionReport { session }) {
            Ok(CommandOutput::Report(report)) => *report,
            other => panic!("a report, not {other:?}"),
        }
    }

    /// Returns and removes the bytes that a session of a node received.
    ///
    /// # Panics
    ///
    /// When the session is not complete, or the bytes were removed before.
    pub fn data(&mut self, node: NodeId, session: SessionId) -> Arc<Vec<u8>> {
        self.received(node, session).unwrap_or_else(|| panic!("node {node} has no data of session {session}"))
    }

    /// Returns and removes the bytes that a session of a node received, if it is complete.
    pub fn received(&mut self, node: NodeId, session: SessionId) -> Option<Arc<Vec<u8>>> {
        self.nodes.get_mut(&node)?.output.data.remove(&session)
    }

    /// Returns and removes the outputs of a node so far.
    pub fn take(&mut self, node: NodeId) -> NodeOutput {
        self.nodes.get_mut(&node).map(|node| std::mem::take(&mut node.output)).unwrap_or_default()
    }

    /// A node's counters.
    ///
    /// # Panics
    ///
    /// When the node does not exist.
    #[must_use]
    pub fn stats(&self, node: NodeId) -> NodeStats {
        self.nodes[&node].engine.stats()
    }

    /// The counters of every node, by number.
    pub(crate) fn all_stats(&self) -> impl Iterator<Item = NodeStats> + '_ {
        self.nodes.values().map(|node| node.engine.stats())
    }

    /// Whether a node exists and was not stopped.
    pub(crate) fn has_node(&self, node: NodeId) -> bool {
        self.nodes.contains_key(&node)
    }

    /// Bytes that the links of a node have sent.
    #[must_use]
    pub fn sent_bytes(&self, node: NodeId) -> u64 {
        self.stats(node).links.iter().map(|link| link.tx.bytes).sum()
    }
}
