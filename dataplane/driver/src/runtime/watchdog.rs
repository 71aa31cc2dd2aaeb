//! Detect shards whose loop has stopped.
//!
//! One thread compares each shard's count of turns once a second. A shard that is awake and has made no turn for two
//! checks is stuck in an operation that should not block; the sink of its first node is notified, and again when the
//! shard resumes. The other shards continue.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::mpsc::{sync_channel, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::setup::RuntimeError;
use super::shared::Shared;

/// Rare enough to cost nothing, frequent enough to be useful to a waiting user.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Checks without a turn after which a shard counts as stalled. A turn takes about a millisecond at most.
const LOOKS_UNTIL_STUCK: u32 = 2;

/// The watchdog's thread.
pub struct Watchdog {
    stop: SyncSender<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Watchdog {
    pub fn start(shared: Arc<Shared>) -> Result<Self, RuntimeError> {
        let (stop, stopped) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("nm-watchdog".into())
            .spawn(move || {
                let mut last: Vec<(u64, u32)> = vec![(0, 0); shared.mailboxes.len()];
                while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                    // A sink that panics in the callback, which the hook has written to stderr, must not end the
                    // watchdog.
                    let _ = catch_unwind(AssertUnwindSafe(|| look(&shared, &mut last)));
                }
            })
            .map_err(|e| RuntimeError::Invalid(format!("no thread for the watchdog: {e}")))?;
        Ok(Self {
            stop,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Ends the thread. A second call has no effect.
    pub fn stop(&self) {
        let _ = self.stop.try_send(());
        if let Some(thread) = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            let _ = thread.join();
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop();
    }
}

fn look(shared: &Shared, last: &mut [(u64, u32)]) {
    for (mailbox, (turns, looks)) in shared.mailboxes.iter().zip(last) {
        let now = mailbox.counters.turns.get();
        let moves = mailbox.is_sleeping() || now != *turns;
        *turns = now;
        *looks = if moves { 0 } else { *looks + 1 };
        let stuck = *looks >= LOOKS_UNTIL_STUCK;
        let was = mailbox.set_stalled(stuck);
        if stuck == was {
            continue;
        }
        let since = LOOK_EVERY.as_millis() as u64 * u64::from(*looks);
        for (sink, nodes) in shared.nodes_of(mailbox.index) {
            match stuck {
                true => sink.shard_stalled(mailbox.index, since, &nodes),
                false => sink.shard_resumed(mailbox.index, &nodes),
            }
        }
    }
}
