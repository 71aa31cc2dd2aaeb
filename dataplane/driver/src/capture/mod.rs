//! Captures: copies of a node's packets, streamed to a local program as blocks of a pcapng file.
//!
//! ```text
//! shard ──▶ tap (bounded queue) ──▶ writer: filter, segments, blocks ──▶ unix socket ──▶ the program's file
//! ```
//!
//! A program connects to the process's [socket](server), names a node, the interfaces that its file has and a filter,
//! and then reads frames of whole [blocks]. It owns the file: it writes the section header and the interface
//! descriptions, and may join the blocks of several nodes in one file, because it has numbered the interfaces.
//!
//! The packet threads never wait for a capture. What does not fit into its queue is counted, and said in the statistics.

pub mod blocks;
pub mod filter;
mod request;
mod server;
mod writer;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nm_engine::NodeId;

pub use server::serve;

use crate::runtime::NodePort;

/// The nodes of this process, which belong to one lab where there is a socket.
static NODES: Mutex<BTreeMap<NodeId, NodePort>> = Mutex::new(BTreeMap::new());

/// The node may be captured from now on.
pub(crate) fn add_node(port: &NodePort) {
    nodes().insert(port.node_id(), port.clone());
}

/// The node is about to be closed.
pub(crate) fn remove_node(port: &NodePort) {
    let mut nodes = nodes();
    if nodes
        .get(&port.node_id())
        .is_some_and(|known| known.is_same(port))
    {
        nodes.remove(&port.node_id());
    }
}

fn node(number: NodeId) -> Option<NodePort> {
    nodes().get(&number).cloned()
}

/// The map is valid also after a panic of a thread that held the lock: no call changes it in two steps.
fn nodes() -> MutexGuard<'static, BTreeMap<NodeId, NodePort>> {
    NODES.lock().unwrap_or_else(PoisonError::into_inner)
}
