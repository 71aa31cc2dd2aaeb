//! The segments of a round: runs in ascending order, and the position of the next one to send.

/// The segments of one round.
#[derive(Debug, Default)]
pub(super) struct Plan {
    runs: Vec<Run>,
    /// The current run, and the number of its segments that were sent.
    index: usize,
    within: u32,
    left: u32,
    total: u32,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    first: u32,
    count: u32,
    /// Number of segments of earlier runs.
    before: u32,
}

impl Plan {
    pub(super) fn new(runs: impl Iterator<Item = (u32, u32)>) -> Self {
        let mut total = 0;
        let runs = runs
            .map(|(first, count)| {
                let run = Run { first, count, before: total };
                total += count;
                run
            })
            .collect();
        Self { runs, index: 0, within: 0, left: total, total }
    }

    /// Number of segments still to be sent.
    pub(super) const fn left(&self) -> u32 {
        self.left
    }

    /// Number of segments of the whole round.
    pub(super) const fn total(&self) -> u32 {
        self.total
    }

    /// The next segment to send.
    pub(super) fn next(&mut self) -> Option<u32> {
        let run = self.runs.get(self.index)?;
        let segment = run.first + self.within;
        self.within += 1;
        self.left -= 1;
        if self.within == run.count {
            self.index += 1;
            self.within = 0;
        }
        Some(segment)
    }

    /// One more than the highest segment that was sent.
    pub(super) fn sent_end(&self) -> u32 {
        match self.runs.get(self.index) {
            Some(run) if self.within > 0 => run.first + self.within,
            _ => self.index.checked_sub(1).map_or(0, |last| self.runs[last].first + self.runs[last].count),
        }
    }

    /// How many segments of the round lie below `segment`.
    pub(super) fn below(&self, segment: u32) -> u32 {
        let index = self.runs.partition_point(|run| run.first < segment);
        index.checked_sub(1).map_or(0, |index| {
            let run = self.runs[index];
            run.before + run.count.min(segment - run.first)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_returns_its_segments_in_order_and_counts_those_left() {
        let mut plan = Plan::new([(2, 2), (7, 1), (10, 3)].into_iter());
        let all = [2, 3, 7, 10, 11, 12];
        assert_eq!((plan.total(), plan.sent_end()), (6, 0));
        for (count, segment) in all.into_iter().enumerate() {
            assert_eq!(plan.below(segment) as usize, count);
            assert_eq!(plan.next(), Some(segment));
            assert_eq!(plan.sent_end(), segment + 1);
            assert_eq!(plan.left() as usize, all.len() - count - 1);
        }
        assert_eq!(plan.next(), None);
        assert_eq!((plan.below(0), plan.below(9), plan.below(99)), (0, 3, 6));
    }
}
