//! Links through memory shared with another process: polled while there is data; before the shard sleeps it requests
//! a doorbell from the neighbour.
//!
//! A link whose doorbell rang is hot: every turn checks it. Before the shard sleeps, each hot link requests a
//! doorbell from its neighbour; one that has data meanwhile keeps the shard awake.

use nm_engine::LinkId;

use super::node::Path;
use super::Shard;
use crate::runtime::link::stream::Stream;
use crate::runtime::mailbox::NodeKey;

/// Bytes read from one link before other links are read.
const BYTES_PER_TURN: usize = 256 << 10;

impl Shard {
    /// Reads every hot link.
    pub(super) fn serve_rings(&mut self) {
        // Links that become hot meanwhile are read in the next turn.
        for index in 0..self.hot.len() {
            let Some(&(slot, link)) = self.hot.get(index) else {
                break;
            };
            let Some(key) = self.nodes.at(slot).map(|node| node.key) else {
                continue;
            };
            if self.shared_stream(slot, link).is_some() {
                self.read_ring(key, link);
                self.flush_stream(slot, link);
                self.settle();
            }
        }
    }

    /// Reads packet by packet, each of which is forwarded while it is in the cache, up to a budget.
    fn read_ring(&mut self, key: NodeKey, link: LinkId) {
        let mut total = 0;
        while total < BYTES_PER_TURN {
            match self.read_stream(key, link) {
                0 => return,
                bytes => total += bytes,
            }
        }
    }

    /// Whether every hot link will wake the shard, so that it may sleep.
    pub(super) fn rings_sleep(&mut self) -> bool {
        let mut hot = std::mem::take(&mut self.hot);
        hot.retain(|&(slot, link)| {
            let awake = self
                .shared_stream(slot, link)
                .is_some_and(|stream| !stream.may_sleep());
            if !awake {
                if let Some(end) = self.nodes.at(slot).and_then(|node| node.end(link)) {
                    end.hot = false;
                }
            }
            awake
        });
        self.hot = hot;
        self.hot.is_empty()
    }

    /// Checks a link from the next turn on, if it uses shared memory.
    pub(super) fn mark_hot(&mut self, slot: u32, link: LinkId) {
        let Some(end) = self.nodes.at(slot).and_then(|node| node.end(link)) else {
            return;
        };
        let Path::Stream(stream) = &end.path else {
            return;
        };
        if end.hot || !stream.wire().is_shared() {
            return;
        }
        stream.wire().is_awake();
        end.hot = true;
        self.hot.push((slot, link));
    }

    fn shared_stream(&mut self, slot: u32, link: LinkId) -> Option<&mut Stream> {
        match &mut self.nodes.at(slot)?.end(link)?.path {
            Path::Stream(stream) if stream.wire().is_shared() => Some(stream),
            _ => None,
        }
    }
}
