//! Specifications of links from the bytes of an input.

use nm_engine::{ClassKey, Classes, Distribution, LinkSpec, QueueDiscipline, Scheduler};

use crate::input::Input;

/// The standard deviation of the table of jitter below.
const TABLE_DEVIATION: f64 = 0.777_281_587_757_401_2;

/// Adds duplication, reordering, corruption and a burst of the rate, if the last bit of `byte` says so.
pub fn damaged(spec: LinkSpec, byte: usize, input: &mut Input<'_>) -> LinkSpec {
    if byte & 128 == 0 {
        return spec;
    }
    let shares = [0.0, 0.1, 0.5, 1.0];
    let byte = usize::from(input.u8());
    let reorder = shares[byte & 3];
    let damaged = LinkSpec {
        reorder,
        reorder_gap: input
            .one_of(&[None, Some(1), Some(3), Some(u32::MAX)])
            .filter(|_| reorder > 0.0),
        duplicate: shares[byte >> 2 & 3],
        corrupt: shares[byte >> 4 & 3],
        rate_burst_bytes: input.one_of(&[None, Some(1_500), Some(100_000), Some(u64::MAX)]),
        ..spec
    };
    debug_assert_eq!(damaged.check(), Ok(()));
    damaged
}

/// Adds a discipline, marks, a scheduler and a limit in time, where there is a rate.
pub fn queued(spec: LinkSpec, input: &mut Input<'_>) -> LinkSpec {
    if spec.rate_bps.is_none() {
        return spec;
    }
    let byte = input.u8();
    let queue = match byte & 3 {
        0 => QueueDiscipline::TailDrop,
        1 => QueueDiscipline::Red {
            min_bytes: Some(input.one_of(&[0, 1_000, 50_000])),
            max_bytes: Some(input.one_of(&[50_001, u64::MAX])),
            probability: Some(input.one_of(&[0.0, 0.1, 1.0])),
        },
        2 => QueueDiscipline::Red {
            min_bytes: None,
            max_bytes: None,
            probability: None,
        },
        _ => QueueDiscipline::Codel {
            target_us: input.one_of(&[0, 1, 5_000]),
            interval_us: input.one_of(&[5_001, 100_000, u64::MAX]),
        },
    };
    let by = input.one_of(&[
        ClassKey::DstPort,
        ClassKey::SrcPort,
        ClassKey::Source,
        ClassKey::Destination,
        ClassKey::Dscp,
    ]);
    let weights = [(0, 1), (2, 3), (7, input.one_of(&[1, 2, u32::MAX]))];
    let classes = Classes {
        by,
        weights: weights.into(),
    };
    let queued = LinkSpec {
        ecn: byte & 4 != 0 && queue != QueueDiscipline::TailDrop,
        queue,
        scheduler: match byte >> 3 & 3 {
            0 => Scheduler::Fifo,
            1 => Scheduler::Drr(Classes::default()),
            2 => Scheduler::Drr(classes),
            _ => Scheduler::Priority(classes),
        },
        limit_us: Some(input.one_of(&[0, 1, 50_000, u64::MAX])).filter(|&limit| limit > 0),
        ..spec
    };
    assert_eq!(queued.check(), Ok(()));
    queued
}

/// Adds jitter and bursts of loss that go with the delay and the loss.
pub fn impaired(spec: LinkSpec, byte: usize) -> LinkSpec {
    let table = [-1.25, -0.75, 0.0, 0.75, 1.25].map(|value| value / TABLE_DEVIATION);
    let jittered = LinkSpec {
        jitter_table: (byte & 32 != 0).then(|| table.into()),
        jitter_us: if byte & 1 == 0 { 0 } else { spec.delay_us },
        jitter_distribution: match byte >> 1 & 3 {
            0 => Distribution::Uniform,
            1 => Distribution::Pareto,
            _ => Distribution::Normal,
        },
        jitter_reorder: byte & 8 != 0,
        loss_burst: (byte & 16 != 0 && spec.loss < 1.0).then_some(2.0),
        ..spec
    };
    debug_assert_eq!(jittered.check(), Ok(()));
    jittered
}
