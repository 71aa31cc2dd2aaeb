//! The controller's request that this process start an agent.
//!
//! What runs them is a program of its own kind, much larger than a node, so a process loads it when it is first
//! called for. One call is enough for all nodes of a process, and it stays: whoever comes late finds it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::LazyLock;

use super::wait::Signal;

static CALLED: AtomicBool = AtomicBool::new(false);
static SIGNAL: LazyLock<Signal> = LazyLock::new(Signal::default);

/// Keeps that the call came.
pub(super) fn made() {
    CALLED.store(true, Ordering::SeqCst);
    SIGNAL.notify();
}

/// Whether it has come.
pub fn has_come() -> bool {
    CALLED.load(Ordering::SeqCst)
}

/// Fires when it comes.
pub fn signal() -> &'static Signal {
    &SIGNAL
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Waker;

    #[test]
    fn a_call_is_noticed_and_stays() {
        let waker = Waker::new().expect("eventfd");
        signal().watch(3, &waker);
        assert!(!has_come() && waker.take().is_empty());
        made();
        assert_eq!(waker.take(), [3]);
        assert!(has_come() && has_come());
    }
}
