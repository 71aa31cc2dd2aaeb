//! The queue between the packet path and a program that receives messages.
//!
//! The packet side pushes and never waits longer than told; the program takes one message or a whole batch under
//! one lock. A full queue loses the newest message, and counts it, unless the node's settings ask for
//! back-pressure: then the packet side waits, but not for a program that has stopped reading.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use nm_engine::Delivery;

use super::wait::{lock, Signal};

/// How long back-pressure waits for room. A program that reads at all makes room sooner; one that does not must
/// not hold up the other nodes of its shard, so after one such wait its messages are dropped until it reads again.
const PATIENCE: Duration = Duration::from_millis(200);

/// Payloads up to this size are copied out of their packet, so that a queue of small messages does not hold a
/// 66 KB buffer for each.
const COPY_LIMIT: usize = 4096;

/// A message as it arrived.
pub struct Message {
    body: Body,
    /// Sender's address.
    pub src_ip: Ipv4Addr,
    /// The address it was sent to.
    pub dst_ip: Ipv4Addr,
    /// Sender's port.
    pub src_port: u16,
    /// Receiver's port.
    pub dst_port: u16,
    /// Equal for messages of one flow.
    pub flow_id: u64,
    /// Counts the receiver's messages.
    pub message_id: u64,
}

enum Body {
    Small(Box<[u8]>),
    Packet(Delivery),
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        match &self.body {
            Body::Small(bytes) => bytes,
            Body::Packet(delivery) => delivery.payload(),
        }
    }
}

impl From<Delivery> for Message {
    fn from(delivery: Delivery) -> Self {
        Message {
            src_ip: delivery.src_ip,
            dst_ip: delivery.dst_ip,
            src_port: delivery.src_port,
            dst_port: delivery.dst_port,
            flow_id: delivery.flow_id,
            message_id: delivery.message_id,
            body: if delivery.payload().len() <= COPY_LIMIT {
                Body::Small(delivery.payload().into())
            } else {
                Body::Packet(delivery)
            },
        }
    }
}

/// The messages of one receiver.
pub struct Queue {
    capacity: usize,
    backpressure: bool,
    messages: Mutex<VecDeque<Message>>,
    room: Condvar,
    /// Nobody made room for as long as back-pressure waits.
    stuck: AtomicBool,
    dropped: AtomicU64,
    closed: AtomicBool,
    /// Fires when a message arrives or the queue is closed.
    pub signal: Signal,
}

impl Queue {
    /// An empty queue for `capacity` messages.
    pub fn new(capacity: usize, backpressure: bool) -> Self {
        Queue {
            capacity: capacity.max(1),
            backpressure,
            messages: Mutex::default(),
            room: Condvar::new(),
            stuck: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            signal: Signal::default(),
        }
    }

    /// Puts a message in; `false` when there is no room.
    pub fn push(&self, message: Message) -> bool {
        let mut messages = lock(&self.messages);
        if messages.len() >= self.capacity
            && self.backpressure
            && !self.stuck.load(Ordering::Relaxed)
        {
            let full = |messages: &mut VecDeque<Message>| {
                messages.len() >= self.capacity && !self.closed.load(Ordering::Relaxed)
            };
            let (again, timeout) = self
                .room
                .wait_timeout_while(messages, PATIENCE, full)
                .unwrap_or_else(PoisonError::into_inner);
            messages = again;
            self.stuck.store(timeout.timed_out(), Ordering::Relaxed);
        }
        if messages.len() >= self.capacity || self.closed.load(Ordering::Relaxed) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        messages.push_back(message);
        drop(messages);
        self.signal.notify();
        true
    }

    /// Takes the oldest message.
    pub fn pop(&self) -> Option<Message> {
        let message = lock(&self.messages).pop_front();
        if message.is_some() {
            self.made_room();
        }
        message
    }

    /// Takes up to `limit` messages in order.
    pub fn pop_many(&self, limit: usize) -> VecDeque<Message> {
        let mut messages = lock(&self.messages);
        let taken = if messages.len() <= limit {
            std::mem::take(&mut *messages)
        } else {
            messages.drain(..limit).collect()
        };
        drop(messages);
        if !taken.is_empty() {
            self.made_room();
        }
        taken
    }

    /// Messages that found no room so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Ends the queue: nothing more comes in, what is there can still be taken.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.room.notify_all();
        self.signal.notify();
    }

    /// Whether the queue was ended.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    fn made_room(&self) {
        if self.backpressure {
            self.stuck.store(false, Ordering::Relaxed);
            self.room.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: u64) -> Message {
        let nowhere = Ipv4Addr::UNSPECIFIED;
        let body = Body::Small(Box::new([]));
        Message {
            body,
            src_ip: nowhere,
            dst_ip: nowhere,
            src_port: 1,
            dst_port: 2,
            flow_id: 3,
            message_id: id,
        }
    }

    #[test]
    fn a_full_queue_loses_the_newest_and_counts_it() {
        let queue = Queue::new(2, false);
        assert_eq!(
            (0..3).map(|id| queue.push(message(id))).collect::<Vec<_>>(),
            [true, true, false]
        );
        assert_eq!(queue.dropped(), 1);
        let ids: Vec<_> = queue
            .pop_many(10)
            .into_iter()
            .map(|message| message.message_id)
            .collect();
        assert_eq!(ids, [0, 1]);
        assert!(queue.pop().is_none());
    }

    #[test]
    fn with_back_pressure_a_reader_makes_room_and_nothing_is_lost() {
        let queue = Queue::new(2, true);
        std::thread::scope(|scope| {
            scope.spawn(|| (0..100).for_each(|id| assert!(queue.push(message(id)))));
            for expected in 0..100 {
                let found = queue
                    .signal
                    .wait_for(Some(Duration::from_secs(20)), || queue.pop());
                assert_eq!(found.map(|message| message.message_id), Some(expected));
            }
        });
        assert_eq!(queue.dropped(), 0);
    }

    #[test]
    fn with_back_pressure_a_reader_that_stopped_is_waited_for_once() {
        let queue = Queue::new(1, true);
        let start = std::time::Instant::now();
        (0..50).for_each(|id| {
            queue.push(message(id));
        });
        assert!(start.elapsed() < 10 * PATIENCE, "{:?}", start.elapsed());
        assert_eq!(queue.dropped(), 49);
    }

    #[test]
    fn a_closed_queue_gives_what_it_has_and_takes_nothing() {
        let queue = Queue::new(2, true);
        queue.push(message(0));
        queue.close();
        assert!(!queue.push(message(1)));
        assert!(queue.pop().is_some());
        assert!(queue.is_closed());
    }
}
