//! Waiting without polling, for threads and for event loops.
//!
//! A [`Signal`] counts changes; each waiting thread checks for itself whether its condition holds. So the notifying
//! side (often a packet thread) needs one atomic operation while no thread waits. With a [`Waker`] an event loop
//! waits for many signals at once: a descriptor becomes readable, and the keys identify the signals.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use nm_kernel::poll::EventFd;
use nm_kernel::wake_pair::WakePair;

/// Locks a mutex whose data is valid even after a panic, and therefore ignores poisoning.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A time limit, or none.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// After `limit` from now; `None` waits for ever.
    pub fn after(limit: Option<Duration>) -> Self {
        Deadline(limit.and_then(|limit| Instant::now().checked_add(limit)))
    }

    /// Whether it has passed.
    pub fn passed(&self) -> bool {
        self.0.is_some_and(|at| Instant::now() >= at)
    }

    /// The remaining time, at most `slice`.
    pub fn left(&self, slice: Duration) -> Duration {
        self.0.map_or(slice, |at| {
            at.saturating_duration_since(Instant::now()).min(slice)
        })
    }
}

/// A counter of changes that threads and wakers can wait on.
#[derive(Debug, Default)]
pub struct Signal {
    changes: AtomicU64,
    watched: AtomicBool,
    watchers: Mutex<Watchers>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Watchers {
    threads: usize,
    wakers: Vec<(u64, Weak<Waker>)>,
}

impl Signal {
    /// Number of changes so far. Read it before checking a condition, then wait for a larger value.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// Counts a change and wakes waiting threads and wakers.
    pub fn notify(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        // SeqCst on both sides: either the waiter reads the new count, or this thread reads that it waits.
        if !self.watched.load(Ordering::SeqCst) {
            return;
        }
        let mut watchers = lock(&self.watchers);
        watchers
            .wakers
            .retain(|(key, waker)| waker.upgrade().inspect(|waker| waker.fire(*key)).is_some());
        self.watched.store(
            watchers.threads > 0 || !watchers.wakers.is_empty(),
            Ordering::SeqCst,
        );
        drop(watchers);
        self.changed.notify_all();
    }

    /// Sleeps until more than `seen` changes have happened, at most for `limit`.
    pub fn wait(&self, seen: u64, limit: Duration) {
        let mut watchers = lock(&self.watchers);
        watchers.threads += 1;
        self.watched.store(true, Ordering::SeqCst);
        let (mut watchers, _) = self
            .changed
            .wait_timeout_while(watchers, limit, |_| {
                self.changes.load(Ordering::SeqCst) <= seen
            })
            .unwrap_or_else(PoisonError::into_inner);
        watchers.threads -= 1;
    }

    /// Fires `waker` with `key` at every change from now on, until the waker is dropped.
    pub fn watch(&self, key: u64, waker: &Arc<Waker>) {
        let mut watchers = lock(&self.watchers);
        watchers.wakers.push((key, Arc::downgrade(waker)));
        self.watched.store(true, Ordering::SeqCst);
    }

    /// Waits until `look` returns a value; `None` when the limit has passed.
    pub fn wait_for<T>(
        &self,
        limit: Option<Duration>,
        mut look: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let deadline = Deadline::after(limit);
        loop {
            let seen = self.changes();
            if let Some(found) = look() {
                return Some(found);
            }
            if deadline.passed() {
                return None;
            }
            self.wait(seen, deadline.left(Duration::from_secs(3600)));
        }
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.raised {
            Raised::Local(fd) => fd.as_fd(),
            Raised::Passed(pair) => pair.as_fd(),
        }
    }
}

/// Lets an event loop wait for many signals.
pub struct Waker {
    raised: Raised,
    fired: Mutex<Vec<u64>>,
}

/// What has the descriptor. Neither makes the thread wait that fires the waker, often a packet thread.
enum Raised {
    Local(EventFd),
    Passed(WakePair),
}

impl fmt::Debug for Waker {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Waker({})", self.descriptor())
    }
}

impl Waker {
    /// A waker that has not fired.
    pub fn new() -> nm_kernel::Result<Arc<Self>> {
        Ok(Self::with(Raised::Local(EventFd::new()?)))
    }

    /// A waker that has not fired, whose descriptor may be passed to another process.
    pub fn to_pass() -> nm_kernel::Result<Arc<Self>> {
        Ok(Self::with(Raised::Passed(WakePair::new()?)))
    }

    fn with(raised: Raised) -> Arc<Self> {
        Arc::new(Waker {
            raised,
            fired: Mutex::new(Vec::new()),
        })
    }

    /// The descriptor that becomes readable when a signal fires.
    pub fn descriptor(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }

    /// The keys that fired since the last call; makes the descriptor unreadable again.
    pub fn take(&self) -> Vec<u64> {
        let mut fired = lock(&self.fired);
        match &self.raised {
            Raised::Local(fd) => fd.clear(),
            Raised::Passed(pair) => pair.clear(),
        }
        std::mem::take(&mut *fired)
    }

    fn fire(&self, key: u64) {
        let mut fired = lock(&self.fired);
        if fired.is_empty() {
            match &self.raised {
                Raised::Local(fd) => fd.raise(),
                Raised::Passed(pair) => pair.raise(),
            }
        }
        if !fired.contains(&key) {
            fired.push(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_before_the_wait_is_not_missed() {
        let signal = Signal::default();
        let seen = signal.changes();
        signal.notify();
        let start = Instant::now();
        signal.wait(seen, Duration::from_secs(20));
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_wait_ends_with_its_time() {
        let signal = Signal::default();
        assert_eq!(
            signal.wait_for(Some(Duration::from_millis(5)), || None::<()>),
            None
        );
    }

    #[test]
    fn a_change_wakes_threads_and_fires_wakers() {
        let signal = Arc::new(Signal::default());
        let waker = Waker::new().expect("eventfd");
        signal.watch(7, &waker);
        let other = Arc::clone(&signal);
        let thread = std::thread::spawn(move || {
            other.wait_for(Some(Duration::from_secs(20)), || {
                (other.changes() > 0).then_some(())
            })
        });
        signal.notify();
        signal.notify();
        assert_eq!(thread.join().expect("no panic"), Some(()));
        assert_eq!(waker.take(), [7]);
        assert!(waker.take().is_empty());
    }

    #[test]
    fn a_program_that_has_the_descriptor_of_a_waker_does_not_block_it() {
        let (signal, waker) = (Signal::default(), Waker::to_pass().expect("sockets"));
        signal.watch(3, &waker);
        let passed = waker.as_fd().try_clone_to_owned().expect("a duplicate");
        let passed = std::os::unix::net::UnixDatagram::from(passed);
        signal.notify();
        passed.set_nonblocking(false).expect("a blocking open file");
        passed.recv(&mut [0]).expect("raised");
        assert_eq!(
            waker.take(),
            [3],
            "nothing is left to read, and nothing waits"
        );
        signal.notify();
        signal.notify();
        assert_eq!(waker.take(), [3]);
    }

    #[test]
    fn a_dropped_waker_is_removed() {
        let signal = Signal::default();
        signal.watch(1, &Waker::new().expect("eventfd"));
        signal.notify();
        assert!(lock(&signal.watchers).wakers.is_empty());
        assert!(!signal.watched.load(Ordering::SeqCst));
    }
}
