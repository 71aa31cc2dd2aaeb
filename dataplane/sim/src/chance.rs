//! Seeded numbers for wires and payloads.

/// A stream of random numbers: SplitMix64 (Steele et al. 2014), small and good enough for faults.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// A stream for a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// True with the given probability.
    pub fn happens(&mut self, probability: f64) -> bool {
        ((self.draw() >> 11) as f64 / (1u64 << 53) as f64) < probability
    }

    /// A number below `bound`, or 0 when that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            0
        } else {
            self.draw() % bound
        }
    }
}

/// `len` bytes that look random and depend on a seed only.
#[must_use]
pub fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut chance = Chance::new(seed);
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| chance.draw().to_le_bytes()).collect();
    bytes.truncate(len);
    bytes
}
