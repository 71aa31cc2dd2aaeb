//! Test RED, CoDel and ECN with sources that adapt their windows as TCP does, in virtual time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::queues::{full, Shape, CAPABLE, MARKED};
use super::*;
use crate::{ClassKey, Classes, QueueDiscipline, Scheduler};

const RTT_NS: u64 = 40_000_000;
const TIMEOUT_NS: u64 = 1_000_000_000;

/// One packet more per round trip, half the packets after a loss or a mark: AIMD, the congestion avoidance of TCP
/// (RFC 5681, section 3.1).
struct Source {
    window: f64,
    in_flight: u32,
    /// The numbers of its packets that have been sent and not yet arrived, in order.
    sent: VecDeque<u32>,
    /// A second loss before this time is part of the same congestion event.
    recovered: Instant,
    last_ack: Instant,
}

/// Sources with one port each, and the packets of all.
struct Sources {
    fixture: Fixture,
    tos: u8,
    sources: Vec<Source>,
    /// Acknowledgements under way, the earliest first: time, source, packets that they cover, and congestion.
    acks: BinaryHeap<Reverse<(Instant, usize, u32, bool)>>,
    sent_at: Vec<Instant>,
    /// Packets that arrived, by source.
    arrived: Vec<u32>,
    /// Waiting times of packets that left, and lengths of the queue when they did.
    delays: Vec<(Instant, u64)>,
    lengths: Vec<(Instant, u64)>,
}

impl Sources {
    fn new(count: usize, spec: LinkSpec, tos: u8) -> Self {
        let source = || Source {
            window: 2.0,
            in_flight: 0,
            sent: VecDeque::new(),
            recovered: Instant::ZERO,
            last_ack: Instant::ZERO,
        };
        assert_eq!(spec.check(), Ok(()));
        Self {
            fixture: Fixture::new(5, ["a", "b"], spec),
            tos,
            sources: (0..count).map(|_| source()).collect(),
            acks: BinaryHeap::new(),
            sent_at: Vec::new(),
            arrived: vec![0; count],
            delays: Vec::new(),
            lengths: Vec::new(),
        }
    }

    fn run(mut self, end: Instant) -> Self {
        while self.fixture.now < end {
            for index in 0..self.sources.len() {
                self.fill_window(index);
            }
            let ack = self.acks.peek().map(|ack| ack.0 .0);
            let next = self.fixture.links.deadline().into_iter().chain(ack).min();
            let now = next.unwrap_or(self.fixture.now.plus_nanos(TIMEOUT_NS));
            self.fixture.run_until(now);
            self.take_arrivals();
            while let Some(ack) = self.acks.peek().filter(|ack| ack.0 .0 <= now) {
                let (_, index, covered, congestion) = ack.0;
                self.acks.pop();
                self.acknowledge(index, covered, congestion);
            }
        }
        self
    }

    fn fill_window(&mut self, index: usize) {
        let now = self.fixture.now;
        let source = &mut self.sources[index];
        if source.in_flight > 0 && now.nanos_since(source.last_ack) > TIMEOUT_NS {
            (source.in_flight, source.window, source.last_ack) = (0, 1.0, now);
            source.sent.clear();
        }
        while f64::from(self.sources[index].in_flight) < self.sources[index].window.floor() {
            self.sources[index].in_flight += 1;
            self.sources[index].sent.push_back(self.fixture.sent);
            self.sent_at.push(now);
            self.fixture.send_shape(Shape { tos: self.tos, ..full(index as u16) });
        }
    }

    fn take_arrivals(&mut self) {
        let queued = self.fixture.stats().queued_bytes;
        for (at, packet) in std::mem::take(&mut self.fixture.left) {
            let part = &packet.payload()[..4];
            let number = u32::from_be_bytes([part[0], part[1], part[2], part[3]]);
            let index = usize::from(packet.ports().1);
            self.arrived[index] += 1;
            let sent = &mut self.sources[index].sent;
            // Packets of one source arrive in order, so earlier ones are lost; ones given up by a timeout are gone.
            let covered = sent.iter().position(|&other| other == number).map_or(0, |lost| lost as u32 + 1);
            sent.drain(..covered as usize);
            let marked = packet.bytes()[1] & MARKED == MARKED;
            let ack = (at.plus_nanos(RTT_NS), index, covered, covered > 1 || marked);
            self.acks.push(Reverse(ack));
            self.delays.push((at, at.nanos_since(self.sent_at[number as usize])));
            self.lengths.push((at, queued));
            self.fixture.io.pool.put(packet);
        }
    }

    fn acknowledge(&mut self, index: usize, covered: u32, congestion: bool) {
        let now = self.fixture.now;
        let source = &mut self.sources[index];
        source.in_flight = source.in_flight.saturating_sub(covered);
        source.last_ack = now;
        if !congestion {
            source.window += 1.0 / source.window;
        } else if now >= source.recovered {
            source.window = (source.window / 2.0).max(1.0);
            source.recovered = now.plus_nanos(RTT_NS);
        }
    }
}

/// The mean of values after a time.
fn mean(values: &[(Instant, u64)], from: Instant) -> f64 {
    let later: Vec<f64> =
        values.iter().filter(|(at, _)| *at >= from).map(|(_, value)| *value as f64).collect();
    later.iter().sum::<f64>() / later.len() as f64
}

const START: Instant = Instant(20_000_000_000);
const END: Instant = Instant(60_000_000_000);

fn ten_mbit(queue: QueueDiscipline, ecn: bool) -> LinkSpec {
    LinkSpec { rate_bps: Some(10_000_000), limit_bytes: Some(500_000), queue, ecn, ..LinkSpec::default() }
}

const CODEL: QueueDiscipline = QueueDiscipline::Codel { target_us: 5_000, interval_us: 100_000 };
const RED: QueueDiscipline =
    QueueDiscipline::Red { min_bytes: Some(15_000), max_bytes: Some(75_000), probability: Some(0.1) };

/// The share of the rate that was used.
fn utilisation(run: &Sources) -> f64 {
    let packets = run.delays.iter().filter(|(at, _)| *at >= START).count() as f64;
    packets * 1_500.0 * 8.0 / 1e7 / (END.nanos_since(START) as f64 / 1e9)
}

#[test]
fn red_keeps_the_queue_between_its_thresholds_and_a_taildrop_queue_is_full() {
    let red = Sources::new(4, ten_mbit(RED, false), 0).run(END);
    let length = mean(&red.lengths, START);
    assert!((15_000.0..75_000.0).contains(&length), "{length}");
    assert!(utilisation(&red) > 0.95, "{}", utilisation(&red));
    let drops = red.fixture.stats().tx.drops;
    assert!(drops.get(DropCause::QueueEarly) > 0);
    assert_eq!(drops.get(DropCause::QueueFull), 0);
    let tail = Sources::new(4, ten_mbit(QueueDiscipline::TailDrop, false), 0).run(END);
    assert!(mean(&tail.lengths, START) > 300_000.0, "{}", mean(&tail.lengths, START));
}

#[test]
fn codel_keeps_the_waiting_time_near_its_target() {
    for (count, most_ms) in [(1, 10.0), (4, 15.0)] {
        let run = Sources::new(count, ten_mbit(CODEL, false), 0).run(END);
        let delay = mean(&run.delays, START) / 1e6;
        assert!(delay > 1.0 && delay < most_ms, "{count}: {delay} ms");
        assert!(utilisation(&run) > 0.85, "{count}: {}", utilisation(&run));
        assert!(run.fixture.stats().tx.drops.get(DropCause::QueueEarly) > 0);
    }
}

#[test]
fn an_ecn_capable_source_is_marked_and_loses_nothing() {
    for queue in [RED, CODEL] {
        let run = Sources::new(4, ten_mbit(queue.clone(), true), CAPABLE).run(END);
        let stats = run.fixture.stats();
        assert!(stats.impaired.ecn > 10, "{queue:?}");
        assert_eq!(stats.tx.drops.total(), 0, "{queue:?}");
        assert!(utilisation(&run) > 0.9, "{queue:?}: {}", utilisation(&run));
        assert!(mean(&run.delays, START) < 60e6, "{queue:?}");
    }
}

#[test]
fn codel_with_classes_shares_the_rate_equally_at_a_small_delay() {
    let classes = Classes { by: ClassKey::DstPort, ..Classes::default() };
    let spec = LinkSpec { scheduler: Scheduler::Drr(classes), ..ten_mbit(CODEL, false) };
    let run = Sources::new(4, spec, 0).run(END);
    let delay = mean(&run.delays, START) / 1e6;
    assert!(delay < 20.0, "{delay} ms");
    assert!(utilisation(&run) > 0.85, "{}", utilisation(&run));
    let all: u32 = run.arrived.iter().sum();
    for count in &run.arrived {
        assert!((f64::from(*count) / f64::from(all) - 0.25).abs() < 0.02, "{:?}", run.arrived);
    }
}
