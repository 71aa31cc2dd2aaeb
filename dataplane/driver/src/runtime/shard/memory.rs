//! Memory links between two nodes of one process: pair the ends, and unpair them.
//!
//! Each end is entered in a register that all shards share. The second end finds the first there, sets its own path,
//! and notifies the first, by a call when it is on the same shard and by a message otherwise. A removed end leaves
//! the register and notifies the other, which then waits for a new one.

use nm_engine::LinkId;

use super::node::Path;
use super::Shard;
use crate::runtime::link::wire::Carrier;
use crate::runtime::mailbox::{EndAddress, NodeKey, ShardMessage};
use crate::runtime::setup::LinkKind;

impl Shard {
    /// Enters a new end in the register, and joins it with the other if that is registered already.
    pub(super) fn offer_end(&mut self, key: NodeKey, link: LinkId) {
        let Some(node) = self.nodes.get(key) else {
            return;
        };
        let (lab, from) = (node.lab.clone(), node.id);
        let Some(end) = node.end(link) else { return };
        let (remote, epoch) = (end.setup.remote, end.epoch);
        let address = EndAddress {
            shard: self.index,
            key,
            link,
            epoch,
        };
        let Some(peer) = self.shared.offer(&lab, from, remote, address) else {
            return;
        };
        self.join_end(address, peer);
        if peer.shard == self.index {
            self.join_end(peer, address);
        } else {
            self.shared.mailboxes[peer.shard].post(ShardMessage::Paired {
                end: peer,
                peer: address,
            });
        }
    }

    /// Removes an end from the register and notifies the other.
    pub(super) fn withdraw_end(
        &mut self,
        lab: &std::sync::Arc<str>,
        from: u32,
        to: u32,
        reason: &'static str,
    ) {
        let Some(peer) = self.shared.withdraw(lab, from, to) else {
            return;
        };
        if peer.shard == self.index {
            self.part_end(peer, reason);
        } else {
            self.shared.mailboxes[peer.shard].post(ShardMessage::Unpaired { end: peer, reason });
        }
    }

    /// The other end was added: packets may be sent.
    pub(super) fn join_end(&mut self, end: EndAddress, peer: EndAddress) {
        let here = self.index;
        let Some(mine) = self.memory_end(end) else {
            return;
        };
        mine.path = if peer.shard == here {
            Path::Here {
                slot: peer.key.slot,
                link: peer.link,
            }
        } else {
            Path::Shard(peer)
        };
        self.report_link(
            end.key,
            end.link,
            Some(Carrier::Memory),
            "connected in memory",
        );
    }

    /// The other end was removed: packets must not be sent.
    pub(super) fn part_end(&mut self, end: EndAddress, reason: &str) {
        let Some(mine) = self.memory_end(end) else {
            return;
        };
        mine.path = Path::Idle;
        self.report_link(end.key, end.link, None, reason);
    }

    fn memory_end(&mut self, address: EndAddress) -> Option<&mut super::node::LinkEnd> {
        let end = self.nodes.get(address.key)?.end(address.link)?;
        (end.epoch == address.epoch && end.setup.kind == LinkKind::Memory).then_some(end)
    }

    /// Reports a link's state to the engine and to the node's sink, if it has changed.
    pub(super) fn report_link(
        &mut self,
        key: NodeKey,
        link: LinkId,
        carrier: Option<Carrier>,
        reason: &str,
    ) {
        let (now, up) = (self.instant(), carrier.is_some());
        let Some(node) = self.nodes.get(key) else {
            return;
        };
        let Some(end) = node.links.get_mut(link as usize).and_then(Option::as_mut) else {
            return;
        };
        let changed = end.up != up;
        end.up = up;
        let unchanged = !changed && end.reported == reason;
        if unchanged {
            return;
        }
        end.reported = reason.into();
        if up {
            // Conditions of an earlier connection no longer apply.
            end.congested = false;
            end.stalled = false;
        }
        let remote = end.setup.remote;
        self.running = key.slot;
        if changed {
            node.engine.set_link_congested(link, false);
            node.engine.handle_link_state(now, link, up, &mut self.io);
        }
        node.sink.link_state(remote, carrier, reason);
        self.after_call(key.slot);
        self.run_work();
    }
}
