//! A bitmap with one bit per segment.

/// A bitmap of fixed length.
#[derive(Debug, Default, Clone)]
pub(super) struct Bitmap {
    words: Vec<u64>,
    len: u32,
    ones: u32,
}

impl Bitmap {
    /// All zero.
    pub(super) fn new(len: u32) -> Self {
        Self { words: vec![0; (len as usize).div_ceil(64)], len, ones: 0 }
    }

    /// Sets a bit. True when it was not set before; false for an index outside the bitmap.
    #[inline]
    pub(super) fn set(&mut self, index: u32) -> bool {
        if index >= self.len {
            return false;
        }
        let (word, bit) = (&mut self.words[index as usize / 64], 1u64 << (index % 64));
        let new = *word & bit == 0;
        *word |= bit;
        self.ones += u32::from(new);
        new
    }

    /// Sets a run of bits; the part outside the bitmap is ignored.
    pub(super) fn set_range(&mut self, first: u32, count: u32) {
        let end = first.saturating_add(count).min(self.len);
        let mut at = first;
        while at < end {
            let from = at % 64;
            let bits = (64 - from).min(end - at);
            let mask = (u64::MAX >> (64 - bits)) << from;
            let word = &mut self.words[at as usize / 64];
            self.ones += (mask & !*word).count_ones();
            *word |= mask;
            at += bits;
        }
    }

    pub(super) const fn ones(&self) -> u32 {
        self.ones
    }

    /// Runs of bits of one value, in ascending order, as (first, count).
    pub(super) fn runs(&self, kind: bool) -> Runs<'_> {
        Runs { map: self, at: 0, kind }
    }

    /// The index of the first bit from `from` on with value `kind`, or the length.
    pub(super) fn find(&self, from: u32, kind: bool) -> u32 {
        let mut word = from as usize / 64;
        let mut mask = u64::MAX << (from % 64);
        while let Some(&bits) = self.words.get(word) {
            let bits = if kind { bits } else { !bits } & mask;
            if bits != 0 {
                return (word as u32 * 64 + bits.trailing_zeros()).min(self.len);
            }
            word += 1;
            mask = u64::MAX;
        }
        self.len
    }
}

pub(super) struct Runs<'a> {
    map: &'a Bitmap,
    at: u32,
    kind: bool,
}

impl Iterator for Runs<'_> {
    type Item = (u32, u32);

    fn next(&mut self) -> Option<(u32, u32)> {
        let first = self.map.find(self.at, self.kind);
        if first >= self.map.len {
            return None;
        }
        self.at = self.map.find(first, !self.kind);
        Some((first, self.at - first))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_contain_exactly_the_bits_of_their_value(bits in proptest::collection::vec(any::<bool>(), 0..300)) {
            let mut map = Bitmap::new(bits.len() as u32);
            for (index, _) in bits.iter().enumerate().filter(|(_, bit)| **bit) {
                prop_assert!(map.set(index as u32));
                prop_assert!(!map.set(index as u32));
            }
            for kind in [true, false] {
                let mut seen = vec![!kind; bits.len()];
                for (first, count) in map.runs(kind) {
                    prop_assert!(count > 0);
                    for index in first..first + count {
                        seen[index as usize] = kind;
                    }
                }
                prop_assert_eq!(&seen, &bits);
            }
            prop_assert_eq!(map.ones() as usize, bits.iter().filter(|bit| **bit).count());
        }

        #[test]
        fn setting_a_run_equals_setting_its_bits(
            len in 0u32..300, runs in proptest::collection::vec((0u32..400, 0u32..400), 0..4),
        ) {
            let (mut map, mut bits) = (Bitmap::new(len), Bitmap::new(len));
            for (first, count) in runs {
                map.set_range(first, count);
                for index in first..first + count {
                    bits.set(index);
                }
            }
            prop_assert_eq!(&map.words, &bits.words);
            prop_assert_eq!(map.ones(), bits.ones());
        }
    }
}
