//! The queue between a shard and one capture: bounded, and never waited for by the shard.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::OnceLock;
use std::thread::Thread;

use crossbeam_queue::ArrayQueue;
use nm_engine::{DropCause, NodeId, Packet, TapPoint, Tapped, Taps};

/// Records that may wait: 30 ms of a million packets per second.
const RECORDS: usize = 32 * 1024;
/// Bytes of buffers that they may hold: a quarter of a second of 1 Gbit/s before and after a link.
const BYTES: usize = 64 << 20;
/// Waiting bytes at which the reader is woken: a sixty-fourth of what may wait.
const WAKE_BYTES: usize = BYTES / 64;

/// What is recorded as one interface of a capture file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// What the node's programs send and receive.
    Node,
    /// What the node drops.
    Refused,
    /// What reaches the link to a neighbour.
    Before(NodeId),
    /// What passes its impairments.
    After(NodeId),
    /// What the link drops.
    Dropped(NodeId),
}

impl Point {
    const fn of(point: TapPoint) -> Self {
        match point {
            TapPoint::Sent | TapPoint::Received => Self::Node,
            TapPoint::Refused(_) => Self::Refused,
            TapPoint::Offered(remote) => Self::Before(remote),
            TapPoint::Passed(remote) => Self::After(remote),
            TapPoint::Dropped(remote, _) => Self::Dropped(remote),
        }
    }
}

/// An interface of a capture file.
#[derive(Debug)]
pub struct Interface {
    /// Its number in the file.
    pub number: u32,
    /// What is recorded.
    pub point: Point,
    /// Packets (segments) that did not fit into the queue.
    pub missed: AtomicU64,
}

/// A record that waits in the queue.
#[derive(Debug)]
pub struct Recorded {
    /// The index in [`Tap::interfaces`].
    pub interface: usize,
    /// When, by the monotonic clock, in nanoseconds.
    pub at: u64,
    /// The direction at the node's programs: true when they received it.
    pub inbound: Option<bool>,
    /// Why it was dropped, if it was.
    pub cause: Option<DropCause>,
    /// The packet.
    pub packet: Packet,
    /// The first segment that the record is about.
    pub first: u32,
    /// The number of segments.
    pub count: u32,
}

/// Counts of a queue, for its reader.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct TapCounts {
    /// Records that wait.
    pub waiting: usize,
    /// Bytes of their buffers.
    pub bytes: usize,
}

/// The queue of one capture on one node.
pub struct Tap {
    interfaces: Vec<Interface>,
    queue: ArrayQueue<Recorded>,
    bytes: AtomicUsize,
    reader: OnceLock<Thread>,
}

impl Tap {
    /// A queue without records.
    pub fn new(interfaces: Vec<Interface>) -> Self {
        Self {
            interfaces,
            queue: ArrayQueue::new(RECORDS),
            bytes: AtomicUsize::new(0),
            reader: OnceLock::new(),
        }
    }

    /// What is recorded.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// Sets the thread that is woken when many bytes wait. Only the first call has an effect.
    pub fn set_reader(&self, thread: Thread) {
        let _ = self.reader.set(thread);
    }

    /// Queues a record if an interface wants it; counts it when the queue is full.
    pub fn record(&self, tapped: &Tapped) {
        let point = Point::of(tapped.point);
        let found = self.interfaces.iter().position(|each| each.point == point);
        let Some(interface) = found else { return };
        let size = tapped.packet.capacity();
        let before = self.bytes.fetch_add(size, Ordering::Relaxed);
        let fits = before + size <= BYTES;
        if !fits || self.queue.push(recorded(interface, tapped)).is_err() {
            self.bytes.fetch_sub(size, Ordering::Relaxed);
            let missed = &self.interfaces[interface].missed;
            missed.fetch_add(u64::from(tapped.count), Ordering::Relaxed);
        }
        // Once per megabyte: the reader also looks by itself.
        if before < WAKE_BYTES && before + size >= WAKE_BYTES {
            if let Some(reader) = self.reader.get() {
                reader.unpark();
            }
        }
    }

    /// Takes the oldest record.
    pub fn take(&self) -> Option<Recorded> {
        let record = self.queue.pop()?;
        let size = record.packet.capacity();
        self.bytes.fetch_sub(size, Ordering::Relaxed);
        Some(record)
    }

    /// What waits.
    pub fn counts(&self) -> TapCounts {
        TapCounts {
            waiting: self.queue.len(),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

fn recorded(interface: usize, tapped: &Tapped) -> Recorded {
    let (inbound, cause) = match tapped.point {
        TapPoint::Sent => (Some(false), None),
        TapPoint::Received => (Some(true), None),
        TapPoint::Refused(cause) | TapPoint::Dropped(_, cause) => (None, Some(cause)),
        TapPoint::Offered(_) | TapPoint::Passed(_) => (None, None),
    };
    Recorded {
        interface,
        at: tapped.at.0,
        inbound,
        cause,
        packet: tapped.packet.clone_ref(),
        first: tapped.first,
        count: tapped.count,
    }
}

/// The points of an engine that several captures need together.
pub fn points(taps: &[std::sync::Arc<Tap>]) -> Taps {
    let mut points = Taps::default();
    for interface in taps.iter().flat_map(|tap| &tap.interfaces) {
        match interface.point {
            Point::Node | Point::Refused => points.node = true,
            Point::Before(remote) | Point::After(remote) | Point::Dropped(remote) => {
                if !points.links.contains(&remote) {
                    points.links.push(remote);
                }
            }
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use nm_engine::{Instant, Pool, VnetHeader};

    fn tap() -> Tap {
        let interface = |number, point| Interface {
            number,
            point,
            missed: AtomicU64::new(0),
        };
        Tap::new(vec![
            interface(4, Point::Before(2)),
            interface(5, Point::Dropped(2)),
        ])
    }

    fn tapped(pool: &mut Pool, point: TapPoint) -> Tapped {
        let mut packet = pool.get();
        packet
            .fill(&[0; 40], VnetHeader::default())
            .expect("a new buffer");
        Tapped {
            at: Instant(7),
            point,
            packet,
            first: 0,
            count: 1,
        }
    }

    #[test]
    fn a_record_reaches_the_interface_of_its_point_and_no_other() {
        let (tap, mut pool) = (tap(), Pool::standalone());
        for point in [
            TapPoint::Offered(2),
            TapPoint::Offered(3),
            TapPoint::Sent,
            TapPoint::Dropped(2, DropCause::Loss),
        ] {
            tap.record(&tapped(&mut pool, point));
        }
        let first = tap.take().expect("the offered one");
        assert_eq!((first.interface, first.at, first.cause), (0, 7, None));
        let second = tap.take().expect("the dropped one");
        assert_eq!((second.interface, second.cause), (1, Some(DropCause::Loss)));
        assert!(tap.take().is_none());
        assert_eq!(tap.counts(), TapCounts::default());
    }

    #[test]
    fn records_without_room_are_counted_and_the_oldest_are_kept() {
        let (tap, mut pool) = (tap(), Pool::standalone());
        let one = tapped(&mut pool, TapPoint::Offered(2));
        let fitting = BYTES / one.packet.capacity();
        for _ in 0..fitting + 5 {
            tap.record(&one);
        }
        assert_eq!(tap.interfaces()[0].missed.load(Ordering::Relaxed), 5);
        assert_eq!(tap.counts().waiting, fitting);
    }

    #[test]
    fn the_points_of_several_captures_are_joined() {
        let taps = [std::sync::Arc::new(tap()), std::sync::Arc::new(tap())];
        let wanted = Taps {
            node: false,
            links: vec![2],
        };
        assert_eq!(points(&taps), wanted);
    }
}
