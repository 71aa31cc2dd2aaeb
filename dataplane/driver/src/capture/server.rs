//! The socket at which programs of this machine ask for captures.
//!
//! One thread waits for connections, and each capture has two: one that writes, and one that waits for the program to
//! close its side. Only the owner of the socket's file may connect.

use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
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
use crate::runtime::Tap;

/// Bytes of the longest request: a filter of the largest size.
const MAX_REQUEST: u64 = 1 << 20;
/// How long a program may take to send its request.
const REQUEST_TIME: Duration = Duration::from_secs(5);
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
    let running = CAPTURES.fetch_add(1, Ordering::SeqCst);
    let opened = if running < MOST_CAPTURES {
        open(&stream)
    } else {
        Err(format!("{MOST_CAPTURES} captures run here already"))
    };
    let error = opened.as_ref().err().cloned().unwrap_or_default();
    let answer = serde_json::json!({ "error": error });
    let sent = (&stream).write_all(format!("{answer}\n").as_bytes());
    if let (Ok(capture), Ok(())) = (opened, sent) {
        capture.run(&stream);
    }
    CAPTURES.fetch_sub(1, Ordering::SeqCst);
}

struct Capture {
    writer: Writer,
    tap: Arc<Tap>,
    port: crate::runtime::NodePort,
}

fn open(stream: &UnixStream) -> Result<Capture, String> {
    let mut line = String::new();
    stream
        .set_read_timeout(Some(REQUEST_TIME))
        .and_then(|()| BufReader::new(stream.take(MAX_REQUEST)).read_line(&mut line))
        .and_then(|_| stream.set_read_timeout(None))
        .map_err(|error| format!("the request cannot be read: {error}"))?;
    let request: Request =
        serde_json::from_str(&line).map_err(|error| format!("the request is invalid: {error}"))?;
    let filter = Filter::new(request.filter.clone()).map_err(|error| error.to_string())?;
    let port = super::node(request.node)
        .ok_or_else(|| format!("node {} does not run in this process", request.node))?;
    let interfaces = request.interfaces.iter().map(|each| each.build()).collect();
    let tap = Arc::new(Tap::new(interfaces));
    let writer = Writer::new(tap.clone(), filter, request.snaplen, request.epoch_ns);
    port.set_tap(&tap, true)
        .map_err(|error| format!("node {}: {error}", request.node))?;
    Ok(Capture { writer, tap, port })
}

impl Capture {
    /// Streams blocks until the program closes its side or goes away, or the node is closed.
    fn run(mut self, stream: &UnixStream) {
        let ended = Arc::new(Ended::default());
        self.tap.set_reader(std::thread::current());
        let watching = stream.try_clone().and_then(|stream| {
            let (ended, writer) = (ended.clone(), std::thread::current());
            Builder::new().name("nm-capture-end".into()).spawn(move || {
                // The program sends nothing; the result is the end of its side, or an error that means the same.
                let _ = (&stream).read(&mut [0]);
                ended.set();
                writer.unpark();
            })
        });
        let port = self.port.clone();
        let stop = |tap: &Arc<Tap>| drop(port.set_tap(tap, false));
        if let Ok(thread) = watching {
            self.writer.run(stream, &ended, stop);
            let _ = stream.shutdown(std::net::Shutdown::Both);
            let _ = thread.join();
        } else {
            stop(&self.tap);
        }
    }
}
