//! The hop between two nodes of this process: the messages of the negotiation, and a pipe for each direction.
//!
//! Both nodes are in one thread, so a pipe is all they need of a connection: the first fills it from its socket, the
//! second drains it into its own, and a relay hands the pipe on as it is. The bytes stay in the kernel.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use nm_kernel::splice::Pipe;

use crate::node::wait::lock;

/// What one node has sent and the other has not taken yet.
#[derive(Default)]
pub struct Sent {
    /// Messages of the negotiation.
    pub messages: VecDeque<u8>,
    /// Bytes of the flow; `None` without any.
    pub pipe: Option<Pipe>,
    /// No more bytes follow.
    pub ended: bool,
}

/// One side of a hop.
pub struct LocalEnd {
    sent: Arc<Mutex<Sent>>,
    received: Arc<Mutex<Sent>>,
}

/// Both sides of a hop.
pub fn pair() -> (LocalEnd, LocalEnd) {
    let (near, far) = (Arc::<Mutex<Sent>>::default(), Arc::<Mutex<Sent>>::default());
    let end = |sent: &Arc<_>, received: &Arc<_>| LocalEnd {
        sent: Arc::clone(sent),
        received: Arc::clone(received),
    };
    (end(&near, &far), end(&far, &near))
}

impl LocalEnd {
    /// Uses what this side has sent. The lock is never waited for: both sides are in the worker's thread.
    pub fn sent<T>(&self, then: impl FnOnce(&mut Sent) -> T) -> T {
        then(&mut lock(&self.sent))
    }

    /// Uses what the other side has sent.
    pub fn received<T>(&self, then: impl FnOnce(&mut Sent) -> T) -> T {
        then(&mut lock(&self.received))
    }
}
