//! A pending reply.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::error::NodeError;
use super::wait::{lock, Signal};

/// A result that another thread sets once.
///
/// A waiting thread may give up at any time; the operation continues, and a later call still finds its result.
#[derive(Debug)]
pub struct Pending<T> {
    result: Mutex<Option<Result<T, NodeError>>>,
    /// Notified when the result is set.
    pub signal: Signal,
}

impl<T> Pending<T> {
    /// Without a result.
    pub fn new() -> Arc<Self> {
        Arc::new(Pending {
            result: Mutex::new(None),
            signal: Signal::default(),
        })
    }

    /// Sets the result.
    pub fn fill(&self, result: Result<T, NodeError>) {
        *lock(&self.result) = Some(result);
        self.signal.notify();
    }

    /// Takes the result if it is set.
    pub fn take(&self) -> Option<Result<T, NodeError>> {
        lock(&self.result).take()
    }

    /// Waits for the result.
    ///
    /// # Errors
    ///
    /// The error that was set as the result, or [`NodeError::Timeout`].
    pub fn wait(&self, what: &str, limit: Duration) -> Result<T, NodeError> {
        let late = || NodeError::Timeout {
            what: what.to_owned(),
            limit,
        };
        self.signal
            .wait_for(Some(limit), || self.take())
            .ok_or_else(late)?
    }
}
