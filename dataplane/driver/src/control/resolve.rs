//! Resolve host names on separate threads, away from the control thread.
//!
//! The system's lookup blocks, for many seconds if a name server does not answer, and cannot be cancelled. So each
//! runs on a thread of its own, and the number of these threads is fixed. The caller gives up after a time limit; a
//! thread that is still blocked then keeps its slot until the system call returns.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Concurrent lookups. There are few names: those of controllers, and of nodes with a public address.
const THREADS: usize = 16;
/// Time limit of a lookup: what the resolver of libc gives one name server (resolv.conf(5), `timeout`).
const LIMIT: Duration = Duration::from_secs(5);

/// Resolves `host:port` to addresses; may block.
pub(super) type Lookup = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// The lookups of all connections.
#[derive(Clone)]
pub(super) struct Resolver {
    lookup: Arc<Lookup>,
    threads: Arc<Semaphore>,
    limit: Duration,
}

impl Resolver {
    /// Uses the system's resolver.
    pub fn system() -> Self {
        Self::new(
            Arc::new(|name| Ok(name.to_socket_addrs()?.collect())),
            LIMIT,
        )
    }

    /// Uses `lookup` with a time limit.
    pub fn new(lookup: Arc<Lookup>, limit: Duration) -> Self {
        Resolver {
            lookup,
            threads: Arc::new(Semaphore::new(THREADS)),
            limit,
        }
    }

    /// The addresses of `host:port`, at least one.
    ///
    /// # Errors
    ///
    /// A sentence: the name does not exist, or there was no answer in time.
    pub async fn resolve(&self, name: &str) -> Result<Vec<SocketAddr>, String> {
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        let failed = |reason: String| format!("{name:?} cannot be resolved: {reason}");
        let late = || failed(format!("no answer within {} ms", self.limit.as_millis()));
        let answer = timeout(self.limit, self.look_up(name.to_owned())).await;
        let found = answer.map_err(|_| late())?.map_err(failed)?;
        if found.is_empty() {
            return Err(failed("it has no address".to_owned()));
        }
        Ok(found)
    }

    async fn look_up(&self, name: String) -> Result<Vec<SocketAddr>, String> {
        let permit = Arc::clone(&self.threads).acquire_owned().await;
        let permit = permit.map_err(|error| error.to_string())?;
        let lookup = Arc::clone(&self.lookup);
        let call = spawn_blocking(move || {
            let _permit = permit; // held until the thread ends, also after the caller has given up
            lookup(&name)
        });
        let found = call.await.map_err(|error| error.to_string())?;
        found.map_err(|error| error.to_string())
    }
}

/// Whether the text has the form `host:port`; other text can never be resolved.
pub(super) fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::sync::Mutex;

    #[tokio::test]
    async fn an_address_needs_no_look_up_and_a_name_gets_one() {
        let lookup = |name: &str| match name {
            "here:80" => Ok(vec![([10, 0, 0, 1], 80).into()]),
            "empty:80" => Ok(vec![]),
            _ => Err(io::Error::other("unknown")),
        };
        let resolver = Resolver::new(Arc::new(lookup), LIMIT);
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        assert_eq!(resolver.resolve("127.0.0.1:9").await, Ok(vec![address]));
        let address = SocketAddr::from(([10, 0, 0, 1], 80));
        assert_eq!(resolver.resolve("here:80").await, Ok(vec![address]));
        for (name, reason) in [("empty:80", "it has no address"), ("missing:80", "unknown")] {
            let error = resolver.resolve(name).await.expect_err("no address");
            assert_eq!(error, format!("{name:?} cannot be resolved: {reason}"));
        }
    }

    #[tokio::test]
    async fn name_servers_that_never_answer_take_a_bounded_number_of_threads() {
        let (release, released) = channel::<()>();
        let released = Mutex::new(released);
        let (began, begins) = channel();
        let lookup = move |_: &str| {
            let _ = began.send(());
            let _ = released.lock().map(|gate| gate.recv());
            Err(io::Error::other("released"))
        };
        let resolver = Resolver::new(Arc::new(lookup), Duration::from_millis(50));
        let waits = (0..3 * THREADS).map(|n| {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.resolve(&format!("host-{n}:1")).await })
        });
        for wait in waits.collect::<Vec<_>>() {
            let error = wait.await.expect("no panic").expect_err("a time-out");
            assert!(error.ends_with("no answer within 50 ms"), "{error}");
        }
        assert_eq!(begins.try_iter().count(), THREADS);
        drop(release);
    }

    #[test]
    fn texts_of_the_form_host_and_port_are_recognised() {
        for text in ["a:1", "10.0.0.1:80", "[::1]:443", "node.example:65535"] {
            assert!(is_host_and_port(text), "{text}");
        }
        for text in ["", "a", ":1", "a:", "a:0", "a:65536", "a:x"] {
            assert!(!is_host_and_port(text), "{text}");
        }
    }
}
