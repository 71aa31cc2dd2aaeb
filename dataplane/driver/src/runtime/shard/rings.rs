//! Links through memory shared with another process: polled while they have data.
//!
//! A byte on the link's socket (the doorbell) starts polling: every iteration of the shard's loop then reads the link.
//! Before the shard sleeps, it requests a wake-up from the other end of each polled link and stops polling it; one that
//! has data meanwhile keeps the shard awake.

use nm_engine::LinkId;

use super::node::Path;
use super::Shard;
use crate::runtime::link::stream::Stream;
use crate::runtime::mailbox::NodeKey;

/// Bytes read from one link before other links are read.
const BYTES_PER_TURN: usize = 256 << 10;

impl Shard {
    /// Reads every polled link.
    pub(super) fn serve_rings(&mut self) {
        // Links added meanwhile are read in the next iteration.
        for index in 0..self.polled.len() {
            let Some(&(slot, link)) = self.polled.get(index) else {
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

    /// Reads and forwards one packet at a time, so that it is still in the cache; stops after [`BYTES_PER_TURN`].
    fn read_ring(&mut self, key: NodeKey, link: LinkId) {
        let mut total = 0;
        while total < BYTES_PER_TURN {
            match self.read_stream(key, link) {
                0 => return,
                bytes => total += bytes,
            }
        }
    }

    /// Requests a wake-up from the other end of every polled link and stops polling those that are empty. Returns whether
    /// none is left, so that the shard may sleep.
    pub(super) fn request_ring_wakeups(&mut self) -> bool {
        let mut polled = std::mem::take(&mut self.polled);
        polled.retain(|&(slot, link)| {
            let awake = self
                .shared_stream(slot, link)
                .is_some_and(|stream| !stream.request_wakeup());
            if !awake {
                if let Some(end) = self.nodes.at(slot).and_then(|node| node.end(link)) {
                    end.polled = false;
                }
            }
            awake
        });
        self.polled = polled;
        self.polled.is_empty()
    }

    /// Polls a link from the next iteration on, if it uses shared memory.
    pub(super) fn poll_ring(&mut self, slot: u32, link: LinkId) {
        let Some(end) = self.nodes.at(slot).and_then(|node| node.end(link)) else {
            return;
        };
        let Path::Stream(stream) = &end.path else {
            return;
        };
        if end.polled || !stream.wire().is_shared() {
            return;
        }
        stream.wire().clear_sleep_flag();
        end.polled = true;
        self.polled.push((slot, link));
    }

    fn shared_stream(&mut self, slot: u32, link: LinkId) -> Option<&mut Stream> {
        match &mut self.nodes.at(slot)?.end(link)?.path {
            Path::Stream(stream) if stream.wire().is_shared() => Some(stream),
            _ => None,
        }
    }
}
