//! The medium between two engines, with faults that are independent of the links' impairments.

use nm_engine::{segment, Packet, Pool};

use crate::Random;

/// The medium between two neighbours, equal in both directions. The default has no faults and a delay of 10 µs.
#[derive(Debug, Clone, PartialEq)]
pub struct Wire {
    /// Constant delay in nanoseconds.
    pub delay_ns: u64,
    /// Probability that a segment is lost.
    pub loss: f64,
    /// Probability that a segment arrives twice.
    pub duplicate: f64,
    /// Probability that a segment is delayed, which reorders it.
    pub reorder: f64,
    /// Largest additional delay of such a segment in nanoseconds.
    pub reorder_ns: u64,
    /// Probability that a byte in the second half of a segment is changed.
    pub corrupt: f64,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            delay_ns: 10_000,
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_ns: 1_000_000,
            corrupt: 0.0,
        }
    }
}

impl Wire {
    /// A wire with loss and no other fault.
    #[must_use]
    pub fn lossy(loss: f64) -> Self {
        Self { loss, ..Self::default() }
    }

    fn is_perfect(&self) -> bool {
        self.loss == 0.0 && self.duplicate == 0.0 && self.reorder == 0.0 && self.corrupt == 0.0
    }

    /// The arriving parts of a packet, with the delay of each in nanoseconds. Faults apply to single segments.
    pub(crate) fn carry(&self, packet: Packet, random: &mut Random, pool: &mut Pool) -> Vec<(u64, Packet)> {
        if self.is_perfect() {
            return vec![(self.delay_ns, packet)];
        }
        let mut arrivals = Vec::new();
        let whole = !packet.vnet().is_super();
        let count = if whole { 1 } else { packet.segments() };
        for index in 0..count {
            let copies =
                if random.happens(self.loss) { 0 } else { 1 + u64::from(random.happens(self.duplicate)) };
            for _ in 0..copies {
                let held = if random.happens(self.reorder) { random.below(self.reorder_ns) } else { 0 };
                let mut part = if whole { packet.clone_ref() } else { segment::cut(&packet, index, 1, pool) };
                if random.happens(self.corrupt) {
                    part = corrupted(&part, random, pool);
                }
                arrivals.push((self.delay_ns + held, part));
            }
        }
        pool.put(packet);
        arrivals
    }
}

/// A copy of a packet with one byte of its second half changed, behind the headers.
fn corrupted(packet: &Packet, random: &mut Random, pool: &mut Pool) -> Packet {
    let mut bytes = packet.bytes().to_vec();
    let half = bytes.len() / 2;
    let at = half + random.below((bytes.len() - half) as u64) as usize;
    bytes[at] ^= 1 << random.below(8);
    let mut copy = pool.get_for(bytes.len());
    copy.fill(&bytes, packet.vnet()).expect("a new buffer");
    copy
}
