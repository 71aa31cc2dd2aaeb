//! Seeded chance: one independent stream per link and direction, equal on every run and machine.

/// Mixes the bits of a number so that near inputs have far outputs (the finaliser of SplitMix64, Steele et al. 2014).
pub(crate) const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A stream of random numbers: xoshiro256++ (Blackman and Vigna, 2019).
#[derive(Debug, Clone)]
pub(crate) struct Rng([u64; 4]);

impl Rng {
    /// A stream that depends on a seed and on names, and on nothing else.
    pub(crate) fn new(seed: u64, names: &[&str]) -> Self {
        let mut state = mix(seed ^ 0x9e37_79b9_7f4a_7c15);
        for name in names {
            // FNV-1a, then mixed; the length keeps ("ab", "c") and ("a", "bc") apart.
            let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
            state = mix(state ^ hash ^ (name.len() as u64).rotate_left(48));
        }
        let mut words = [0; 4];
        for word in &mut words {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            *word = mix(state);
        }
        Self(words)
    }

    /// A stream of its own that starts from this one.
    pub(crate) fn fork(&mut self) -> Self {
        Self::new(self.next(), &[])
    }

    pub(crate) fn next(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number in (0, 1]: never zero, so that its logarithm exists.
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }
}
