//! Handle control messages sent to a shard.

use nm_kernel::poll::Interest;

use super::{Shard, Token};
use crate::runtime::mailbox::{NewNode, NodeKey, Request, ShardMessage};

impl Shard {
    pub(super) fn handle_message(&mut self, message: ShardMessage) {
        // A dropped receiver of a reply is no error: the caller gave up or ignores the result.
        match message {
            ShardMessage::AddNode(new, reply) => {
                let key = self.add_node(*new);
                if reply.send(key).is_err() {
                    // The caller has given up, so the node is closed here.
                    self.close_node(key);
                }
            }
            ShardMessage::ToNode(key, request) => self.serve(key, request),
            ShardMessage::Paired { end, peer } => self.join_end(end, peer),
            ShardMessage::Unpaired { end, reason } => self.part_end(end, reason),
            ShardMessage::Expected { lab, node, remote } => self.link_expected(&lab, node, remote),
            ShardMessage::Adopt { key, from, wire } => self.adopt(key, from, wire),
            ShardMessage::Stop => self.stopping = true,
        }
    }

    fn add_node(&mut self, new: NewNode) -> NodeKey {
        let key = self.nodes.insert(new);
        let counters = &self.mailbox.counters;
        counters.nodes.set(counters.nodes.get() + 1);
        let Some(node) = self.nodes.get(key) else {
            return key;
        };
        for (queue, fd) in node.tun.iter().flat_map(|tun| tun.queues().enumerate()) {
            let token = Token::Tun {
                slot: key.slot,
                queue: queue as u32,
            };
            if let Err(error) = self.epoll.add(fd, token.encode(), Interest::READ) {
                node.sink.device_lost(&error.to_string());
                break;
            }
        }
        key
    }

    /// Requests for a closed node are dropped with their reply, which notifies the caller.
    fn serve(&mut self, key: NodeKey, request: Request) {
        let Some(node) = self.nodes.get(key) else {
            return;
        };
        match request {
            Request::Command { command, reply } => {
                reply.send(self.command(key, *command));
            }
            Request::ConnectLink { setup, reply } => {
                reply.send(self.connect_link(key, *setup));
            }
            Request::RemoveLink { remote, reply } => {
                reply.send(self.remove_link(key, remote));
            }
            Request::Flows { order, reply } => {
                reply.send(self.order_flows(key, order));
            }
            Request::Stats { reply } => {
                self.running = key.slot;
                reply.send(node.engine.stats());
            }
            Request::Collect { reply } => {
                self.running = key.slot;
                reply.send(node.engine.collect(nm_engine::Instant(self.now)));
            }
            Request::Tap { tap, on, reply } => {
                node.set_tap(tap, on);
                reply.send(());
            }
            Request::Close { reply } => {
                self.close_node(key);
                reply.send(());
            }
        }
    }
}
