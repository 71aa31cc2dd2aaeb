//! Seeded random numbers: one independent stream per link and direction, reproducible on every machine.

use rand_xoshiro::rand_core::{Rng as _, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Mixes the bits of a number so that similar inputs have unrelated outputs (the finaliser of SplitMix64, Steele et
/// al. 2014).
pub(crate) const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A stream of random numbers: xoshiro256++ (Blackman and Vigna, 2019).
#[derive(Debug, Clone)]
pub(crate) struct Rng(Xoshiro256PlusPlus);

impl Rng {
    /// A stream that depends only on a seed and on names.
    pub(crate) fn new(seed: u64, names: &[&str]) -> Self {
        let mut state = mix(seed ^ 0x9e37_79b9_7f4a_7c15);
        for name in names {
            // FNV-1a, then mixed; the length distinguishes ("ab", "c") from ("a", "bc").
            let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
            state = mix(state ^ hash ^ (name.len() as u64).rotate_left(48));
        }
        Self(Xoshiro256PlusPlus::seed_from_u64(state))
    }

    /// An independent stream that is seeded from this one.
    pub(crate) fn fork(&mut self) -> Self {
        Self::new(self.next(), &[])
    }

    /// Like [`Rng::fork`], with a name that distinguishes streams of the same seed.
    pub(crate) fn derive(mut self, name: &str) -> Self {
        Self::new(self.next(), &[name])
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in (0, 1].
    pub(crate) fn unit(&mut self) -> f64 {
        unit(self.next())
    }
}

/// Random numbers that can be drawn in any order: the outputs of SplitMix64 (Steele et al. 2014) by their index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbered(u64);

impl Numbered {
    /// A sequence that is seeded from a stream.
    pub(crate) fn new(mut rng: Rng) -> Self {
        Self(rng.next())
    }

    pub(crate) const fn at(self, index: u64) -> u64 {
        mix(self.0.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// A number in (0, 1].
    pub(crate) fn unit_at(self, index: u64) -> f64 {
        unit(self.at(index))
    }
}

/// The upper bits as a number in (0, 1]: never zero, so that its logarithm exists.
pub(crate) fn unit(bits: u64) -> f64 {
    ((bits >> 11) + 1) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs of a lab with equal seeds draw equal numbers, with later versions of the program too.
    #[test]
    fn equal_seed_and_names_give_equal_numbers() {
        let mut rng = Rng::new(7, &["link", "node-1", "node-2"]);
        let mut fork = rng.clone().fork();
        assert_eq!(rng.next(), 0x0595_7bd3_89fc_9659);
        assert_eq!(rng.next(), 0xc975_f72b_2f47_91ef);
        assert_eq!((fork.next(), fork.next()), (0xc8ce_779a_3b8e_3064, 0x2ba1_c7cc_08d6_dd12));
        assert_eq!(fork.unit(), 0.428_862_605_209_006_43);
    }
}
