//! Make blocks of the records of one capture, and write them as frames.
//!
//! A frame is its length as 4 bytes in little-endian order, a byte that says what it is (`B`: whole blocks; `S`:
//! statistics as JSON), and its content. Statistics are sent every second and at the end, so that a program knows them
//! also when this process is killed.

use std::io::{self, IoSlice, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nm_engine::segment;
use serde::Serialize;

use super::blocks::{self, Head};
use super::filter::Filter;
use crate::runtime::{Recorded, Tap};

/// Bytes of blocks in a frame, about: small enough for the caches.
const FRAME: usize = 256 << 10;
/// How often the queue is looked at while little happens.
const LOOK: Duration = Duration::from_millis(4);
/// Bytes that wait from which they are written without a pause.
const WORTH_IT: usize = 1 << 20;
/// How often statistics are sent.
const STATISTICS: Duration = Duration::from_secs(1);

/// Whether the program has closed its side.
#[derive(Debug, Default)]
pub(super) struct Ended(AtomicBool);

impl Ended {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Counts of one interface. Packets are MTU segments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
struct Counts {
    interface: u32,
    /// Packets that reached the point while the capture ran.
    received: u64,
    /// Packets that the filter accepted.
    accepted: u64,
    /// Bytes of those on a wire, also of what was cut off.
    bytes: u64,
    /// Packets that did not fit into the queue.
    missed: u64,
}

pub(super) struct Writer {
    tap: Arc<Tap>,
    filter: Filter,
    snaplen: u32,
    /// What is added to the monotonic clock to get the time since 1970, in nanoseconds. The program states it, so that all
    /// nodes of a file have the same clock, and packets keep their distances also when the machine's time is set.
    epoch: u64,
    counts: Vec<Counts>,
    out: Vec<u8>,
}

impl Writer {
    pub(super) fn new(tap: Arc<Tap>, filter: Filter, snaplen: u32, epoch: u64) -> Self {
        let counts = tap.interfaces().iter().map(|each| Counts {
            interface: each.number,
            ..Counts::default()
        });
        Self {
            counts: counts.collect(),
            tap,
            filter,
            snaplen,
            epoch,
            out: Vec::with_capacity(2 * FRAME),
        }
    }

    /// Writes frames until the program closes its side, goes away, or the node is closed; `stop` ends the recording.
    pub(super) fn run(&mut self, mut stream: impl Write, ended: &Ended, stop: impl Fn()) {
        let mut written_at = Instant::now();
        loop {
            // Asked before the queue is emptied, so that nothing of before the end is left in it.
            let over = ended.is_set() || self.is_orphaned();
            if over {
                stop();
            }
            let mut sent = self.drain(&mut stream);
            if over || (sent.is_ok() && written_at.elapsed() >= STATISTICS) {
                sent = sent.and_then(|()| self.send_statistics(&mut stream));
                written_at = Instant::now();
            }
            if sent.is_err() && !over {
                stop();
            }
            if over || sent.is_err() {
                return;
            }
            if self.tap.counts().bytes < WORTH_IT {
                thread::park_timeout(LOOK);
            }
        }
    }

    /// Whether the node has been closed: its shard held the only other reference besides that of this capture's thread.
    fn is_orphaned(&self) -> bool {
        Arc::strong_count(&self.tap) <= 2
    }

    /// Writes the records that wait now.
    fn drain(&mut self, stream: &mut impl Write) -> io::Result<()> {
        for _ in 0..self.tap.counts().waiting {
            let Some(record) = self.tap.take() else { break };
            self.append(&record);
            if self.out.len() >= FRAME {
                self.send(stream)?;
            }
        }
        self.send(stream)
    }

    fn send(&mut self, stream: &mut impl Write) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let sent = send_frame(stream, b'B', &self.out);
        self.out.clear();
        sent
    }

    fn send_statistics(&mut self, stream: &mut impl Write) -> io::Result<()> {
        for (counts, interface) in self.counts.iter_mut().zip(self.tap.interfaces()) {
            counts.missed = interface.missed.load(Ordering::Relaxed);
        }
        let total = |counts: &Counts| Counts {
            received: counts.received + counts.missed,
            ..*counts
        };
        let all: Vec<Counts> = self.counts.iter().map(total).collect();
        let text = serde_json::to_vec(&all).map_err(io::Error::other)?;
        send_frame(stream, b'S', &text)
    }

    /// Appends a block for each segment of a record that the filter accepts.
    fn append(&mut self, record: &Recorded) {
        let (packet, counts) = (&record.packet, &mut self.counts[record.interface]);
        let supers = packet.vnet().is_super();
        let comment = comment(record, supers);
        let head = Head {
            interface: counts.interface,
            time_ns: record.at.wrapping_add(self.epoch),
            inbound: record.inbound,
            comment: &comment,
        };
        counts.received += u64::from(record.count);
        let range = if supers {
            record.first..record.first + record.count
        } else {
            0..1
        };
        for index in range {
            let fill = |out: &mut Vec<u8>| segment::append_segment(packet, index, out);
            let accepts = |bytes: &[u8]| self.filter.accepts(bytes);
            if let Some(length) = blocks::append(&mut self.out, head, self.snaplen, fill, accepts) {
                let fragments = !supers && record.count > 1;
                counts.accepted += if fragments {
                    u64::from(record.count)
                } else {
                    1
                };
                counts.bytes += if fragments {
                    packet.wire_bytes()
                } else {
                    u64::from(length)
                };
            }
        }
    }
}

/// Why a packet was dropped, and whether the link counts it as several fragments.
fn comment(record: &Recorded, supers: bool) -> String {
    let mut parts = Vec::new();
    if let Some(cause) = record.cause {
        parts.push(format!("dropped: {}", cause.as_str()));
    }
    if record.count > 1 && !supers {
        let bytes = record.packet.wire_bytes();
        parts.push(format!(
            "{} fragments, {bytes} bytes on a wire",
            record.count
        ));
    }
    parts.join("; ")
}

fn send_frame(stream: &mut impl Write, kind: u8, content: &[u8]) -> io::Result<()> {
    let mut head = [0; 5];
    head[..4].copy_from_slice(&(content.len() as u32).to_le_bytes());
    head[4] = kind;
    let all = head.len() + content.len();
    let pieces = [IoSlice::new(&head), IoSlice::new(content)];
    let written = loop {
        match stream.write_vectored(&pieces) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => break outcome?,
        }
    };
    if written < head.len() {
        stream.write_all(&head[written..])?;
        return stream.write_all(content);
    }
    if written < all {
        return stream.write_all(&content[written - head.len()..]);
    }
    Ok(())
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
