//! A pending reply.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::error::NodeError;
use super::wait::{lock, Signal};

/// A result that another thread will fill in once.
///
/// Whoever waits may give up at any time; the work behind it goes on, and a later look still finds the result.
#[derive(Debug)]
pub struct Pending<T> {
    result: Mutex<Option<Result<T, NodeError>>>,
    /// Fires when the result is there.
    pub signal: Signal,
}

impl<T> Pending<T> {
    /// Nothing yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Pending {
            result: Mutex::new(None),
            signal: Signal::default(),
        })
    }

    /// Puts the result in.
    pub fn fill(&self, result: Result<T, NodeError>) {
        *lock(&self.result) = Some(result);
        self.signal.notify();
    }

    /// Takes the result if it is there.
    pub fn take(&self) -> Option<Result<T, NodeError>> {
        lock(&self.result).take()
    }

    /// Waits for the result.
    ///
    /// # Errors
    ///
    /// The failure that was filled in, or [`NodeError::Timeout`].
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
