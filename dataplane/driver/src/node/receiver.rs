//! The queue between the packet path and a program that receives messages.
//!
//! The packet thread pushes and never blocks: it carries the packets of many nodes, including those that a node only
//! forwards. The program takes one message or a whole batch under one lock. A full queue drops the newest message and
//! counts it. With the node's back-pressure setting a full queue grows instead, up to a bound in bytes: a program
//! that reads with pauses loses nothing; one that has stopped reading loses what exceeds the bound.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Mutex;

use nm_engine::Delivery;

use super::wait::{lock, Signal};

/// Bytes that a queue with back-pressure may hold beyond its capacity: what a link of 1 Gb/s delivers in a quarter of
/// a second. A program that does not read for longer cannot keep up with such a rate.
const BACKLOG_BYTES: usize = 32 << 20;

/// Approximate memory cost of a message besides its payload, so that a queue of empty messages is bounded too.
const MESSAGE_BYTES: usize = 128;

/// Payloads up to this size are copied out of their packet, so that a queue of small messages does not hold a 66 KB
/// buffer for each.
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
    /// Identifies the flow: equal for all messages of one flow.
    pub flow_id: u64,
    /// Sequence number among the receiver's messages.
    pub message_id: u64,
}

impl Message {
    /// A message that was copied from elsewhere.
    pub fn copied(
        payload: &[u8],
        (src_ip, src_port): (Ipv4Addr, u16),
        (dst_ip, dst_port): (Ipv4Addr, u16),
        flow_id: u64,
        message_id: u64,
    ) -> Self {
        Message {
            body: Body::Small(payload.into()),
            src_ip,
            dst_ip,
            src_port,
            dst_port,
            flow_id,
            message_id,
        }
    }

    /// Memory used by the message: a payload that stayed in its packet holds the whole buffer.
    fn cost(&self) -> usize {
        MESSAGE_BYTES
            + match &self.body {
                Body::Small(bytes) => bytes.len(),
                Body::Packet(_) => nm_engine::LARGE,
            }
    }
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
    messages: Mutex<Messages>,
    dropped: AtomicU64,
    closed: AtomicBool,
    /// Notified when a message arrives or the queue is closed.
    pub signal: Signal,
}

#[derive(Default)]
struct Messages {
    queue: VecDeque<Message>,
    bytes: usize,
}

impl Queue {
    /// An empty queue for `capacity` messages.
    pub fn new(capacity: usize, backpressure: bool) -> Self {
        Queue {
            capacity: capacity.max(1),
            backpressure,
            messages: Mutex::default(),
            dropped: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            signal: Signal::default(),
        }
    }

    /// Appends a message; `false` when the queue is full. Never blocks.
    pub fn push(&self, message: Message) -> bool {
        let cost = message.cost();
        let mut messages = lock(&self.messages);
        let full = messages.queue.len() >= self.capacity
            && !(self.backpressure && messages.bytes + cost <= BACKLOG_BYTES);
        if full || self.closed.load(Ordering::Relaxed) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        messages.bytes += cost;
        messages.queue.push_back(message);
        drop(messages);
        self.signal.notify();
        true
    }

    /// Removes and returns the oldest message.
    pub fn pop(&self) -> Option<Message> {
        let mut messages = lock(&self.messages);
        let message = messages.queue.pop_front()?;
        messages.bytes -= message.cost();
        Some(message)
    }

    /// Removes and returns up to `limit` messages in order.
    pub fn pop_many(&self, limit: usize) -> VecDeque<Message> {
        let mut messages = lock(&self.messages);
        if messages.queue.len() <= limit {
            return std::mem::take(&mut *messages).queue;
        }
        let taken: VecDeque<Message> = messages.queue.drain(..limit).collect();
        messages.bytes -= taken.iter().map(Message::cost).sum::<usize>();
        taken
    }

    /// Messages dropped so far because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Closes the queue: it accepts no more messages, and those in it can still be taken.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.signal.notify();
    }

    /// Whether the queue is closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn message(id: u64) -> Message {
        sized(id, 0)
    }

    fn sized(id: u64, len: usize) -> Message {
        let nowhere = Ipv4Addr::UNSPECIFIED;
        let body = Body::Small(vec![7; len].into());
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
    fn a_full_queue_drops_the_newest_message_and_counts_it() {
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
    fn with_back_pressure_nothing_is_lost_while_the_program_reads() {
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
    fn with_back_pressure_the_queue_of_a_stopped_reader_is_bounded() {
        let queue = Queue::new(1, true);
        let (len, start) = (COPY_LIMIT, Instant::now());
        let fits = (BACKLOG_BYTES / (len + MESSAGE_BYTES)) as u64;
        let taken = (0..2 * fits)
            .filter(|&id| queue.push(sized(id, len)))
            .count() as u64;
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{:?}",
            start.elapsed()
        );
        assert_eq!((taken, queue.dropped()), (fits, fits), "bounded in bytes");
        assert_eq!(queue.pop().map(|message| message.message_id), Some(0));
        assert!(queue.push(message(0)), "there is room again");
        let rest = queue.pop_many(10).len() + queue.pop_many(usize::MAX).len();
        assert_eq!(rest as u64, fits);
        assert_eq!(lock(&queue.messages).bytes, 0);
    }

    #[test]
    fn with_back_pressure_the_number_of_empty_messages_is_bounded() {
        let queue = Queue::new(1, true);
        let taken = (0..1_000_000).filter(|&id| queue.push(message(id))).count();
        assert_eq!(taken, BACKLOG_BYTES / MESSAGE_BYTES);
    }

    #[test]
    fn a_closed_queue_returns_its_messages_and_accepts_no_more() {
        let queue = Queue::new(2, true);
        queue.push(message(0));
        queue.close();
        assert!(!queue.push(message(1)));
        assert!(queue.pop().is_some());
        assert!(queue.is_closed());
    }
}
