//! The socket at which programs of this machine ask for captures.
//!
//! One thread waits for connections, and each capture has two: one that writes, and one that waits for the program to
//! close its side. Only the owner of the socket's file may connect.

use std::cell::Cell;
use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use super::filter::Filter;
use super::request::Request;
use super::writer::{Ended, Writer};
use crate::runtime::{NodePort, Tap};

/// Bytes of the longest request: a filter of the largest size.
const MAX_REQUEST: u64 = 1 << 20;
/// How long a program may take to send its request.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// How long a program may read nothing, while its packets are counted as missed: longer than a full disk or a viewer
/// pauses a program that goes on, and short enough that a stopped one frees its 64 MB.
const WRITE_TIME: Duration = Duration::from_secs(60);
/// Captures of this process at a time; each may hold 64 MB.
const MOST_CAPTURES: usize = 16;

static CAPTURES: AtomicUsize = AtomicUsize::new(0);

/// Opens the socket, replacing one that an ended process has left, and serves it until the process ends.
///
/// # Errors
///
/// When the path cannot be used.
pub fn serve(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Builder::new()
        .name("nm-captures".into())
        .spawn(move || accept(&listener))
        .map(drop)
}

fn accept(listener: &UnixListener) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                // Without a thread the connection is closed, which the program reports.
                let _ = Builder::new()
                    .name("nm-capture".into())
                    .spawn(move || handle(stream));
            }
            // Too many open files, for example: that may pass.
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Serves one program. A program that goes away ends its capture, and is no error here.
fn handle(stream: UnixStream) {
    let connection = Connection(stream);
    let mut stream = &connection.0;
    let slot = Slot::take();
    let opened = match slot {
        Some(_) => open(stream),
        None => Err(format!("{MOST_CAPTURES} captures run here already")),
    };
    let error = opened.as_ref().err().cloned().unwrap_or_default();
    let answer = serde_json::json!({ "error": error });
    let sent = stream.write_all(format!("{answer}\n").as_bytes());
    if let (Ok(capture), Ok(())) = (opened, sent) {
        capture.run(&connection);
    }
}

/// One of the captures that may run at a time, until it is dropped: also by a panic.
struct Slot(());

impl Slot {
    /// `None` when all are in use.
    fn take() -> Option<Self> {
        let more = |running| (running < MOST_CAPTURES).then_some(running + 1);
        let taken = CAPTURES.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        taken.is_ok().then(|| Self(()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        CAPTURES.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The connection to the program, closed for all threads when this is dropped: also by a panic.
struct Connection(UnixStream);

impl Connection {
    fn close(&self) {
        // An error means that the program has closed it already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
    }
}

/// The recording of a node's packets, which ends when this is dropped: also by a panic.
struct Recording {
    tap: Arc<Tap>,
    port: NodePort,
    stopped: Cell<bool>,
}

impl Recording {
    fn start(port: NodePort, tap: &Arc<Tap>) -> Result<Self, String> {
        // Made first: the shard may add the tap after the call has failed.
        let recording = Self {
            tap: tap.clone(),
            port,
            stopped: Cell::new(false),
        };
        let added = recording.port.add_tap(tap);
        added.map_err(|error| format!("node {}: {error}", recording.port.node_id()))?;
        Ok(recording)
    }

    fn stop(&self) {
        if !self.stopped.replace(true) {
            self.port.remove_tap(&self.tap);
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Capture {
    writer: Writer,
    recording: Recording,
}

fn open(stream: &UnixStream) -> Result<Capture, String> {
    let mut line = String::new();
    stream
        .set_read_timeout(Some(REQUEST_TIME))
        .and_then(|()| stream.set_write_timeout(Some(WRITE_TIME)))
        .and_then(|()| BufReader::new(stream.take(MAX_REQUEST)).read_line(&mut line))
        .and_then(|_| stream.set_read_timeout(None))
        .map_err(|error| format!("the request cannot be read: {error}"))?;
    let request: Request =
        serde_json::from_str(&line).map_err(|error| format!("the request is invalid: {error}"))?;
    let interfaces = request.interfaces()?;
    let filter = Filter::new(request.filter).map_err(|error| error.to_string())?;
    let port = super::node(request.node)
        .ok_or_else(|| format!("node {} does not run in this process", request.node))?;
    let tap = Arc::new(Tap::new(interfaces));
    let writer = Writer::new(tap.clone(), filter, request.snaplen, request.epoch_ns);
    let recording = Recording::start(port, &tap)?;
    Ok(Capture { writer, recording })
}

impl Capture {
    /// Streams blocks until the program closes its side, goes away or reads nothing for too long, or the node is closed.
    fn run(mut self, connection: &Connection) {
        let ended = Arc::new(Ended::default());
        self.recording.tap.set_reader(std::thread::current());
        let watching = connection.0.try_clone().and_then(|stream| {
            let (ended, writer) = (ended.clone(), std::thread::current());
            Builder::new().name("nm-capture-end".into()).spawn(move || {
                wait_for_end(&stream);
                ended.set();
                writer.unpark();
            })
        });
        if let Ok(thread) = watching {
            let stop = || self.recording.stop();
            self.writer.run(&connection.0, &ended, stop);
            connection.close();
            let _ = thread.join();
        }
    }
}

/// Waits until the program closes its side. It sends nothing; an error other than a signal means the same as the end.
fn wait_for_end(mut stream: impl Read) {
    while matches!(stream.read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::Interrupted)
    {
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_not_the_end_of_the_program() {
        struct Signals(u8);
        impl Read for Signals {
            fn read(&mut self, _into: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                match self.0 {
                    1..=3 => Err(io::ErrorKind::Interrupted.into()),
                    _ => Ok(0),
                }
            }
        }
        let mut signals = Signals(0);
        wait_for_end(&mut signals);
        assert_eq!(signals.0, 4);
    }

    #[test]
    fn a_capture_that_panics_leaves_its_slot_and_closes_its_connection() {
        let (near, far) = UnixStream::pair().expect("a pair");
        let clone = far
            .try_clone()
            .expect("a second handle, as of the waiting thread");
        let all: Vec<Slot> = std::iter::from_fn(Slot::take).collect();
        assert_eq!(all.len(), MOST_CAPTURES);
        assert!(Slot::take().is_none());
        let panicking = std::thread::spawn(move || {
            let _slots = all;
            let _connection = Connection(far);
            panic!("a defect of the writer");
        });
        assert!(panicking.join().is_err());
        assert_eq!({ &near }.read(&mut [0]).expect("the end"), 0);
        drop(clone);
        assert!(Slot::take().is_some());
    }
}
