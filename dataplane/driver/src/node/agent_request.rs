//! The controller's request that this process start an agent.
//!
//! The agent is a separate, much larger program, so a process loads it only when the controller first asks for it.
//! One request serves all nodes of a process and stays set: a later caller finds it set.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::LazyLock;

use super::wait::Signal;

static REQUESTED: AtomicBool = AtomicBool::new(false);
static SIGNAL: LazyLock<Signal> = LazyLock::new(Signal::default);

/// Records the request.
pub(super) fn record() {
    REQUESTED.store(true, Ordering::SeqCst);
    SIGNAL.notify();
}

/// Whether the controller has made the request.
pub fn is_requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// The signal that is notified when the request arrives.
pub fn signal() -> &'static Signal {
    &SIGNAL
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Waker;

    #[test]
    fn a_request_notifies_the_signal_and_stays_set() {
        let waker = Waker::new().expect("eventfd");
        signal().watch(3, &waker);
        assert!(!is_requested() && waker.take().is_empty());
        record();
        assert_eq!(waker.take(), [3]);
        assert!(is_requested() && is_requested());
    }
}
