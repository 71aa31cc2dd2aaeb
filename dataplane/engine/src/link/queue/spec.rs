//! What a link's specification says about its queue: checks and defaults.

use super::red::{Settings, TYPICAL_BYTES};
use crate::{ClassKey, Classes, LinkSpec, QueueDiscipline, Scheduler};

/// The most weights or priorities that a scheduler may have.
const MOST_WEIGHTS: usize = 1_024;
/// Default probability of [`QueueDiscipline::Red`] (Floyd, "RED: Discussions of Setting Parameters", 1997).
const PROBABILITY: f64 = 0.1;
/// The upper threshold as a share of the queue limit (the default of tc-red(8)).
const LIMIT_PER_MAX: f64 = 4.0;
/// The upper threshold as a multiple of the lower one (Floyd 1997).
const MAX_PER_MIN: f64 = 3.0;

impl LinkSpec {
    /// The settings of random early detection, with the defaults. Without it they have no meaning.
    pub(super) fn red_settings(&self) -> Settings {
        let (min_bytes, max_bytes, probability) = match self.queue {
            QueueDiscipline::Red { min_bytes, max_bytes, probability } => (min_bytes, max_bytes, probability),
            _ => (None, None, None),
        };
        let packets = self.limit_packets.map(|packets| packets.saturating_mul(self.full_packet()));
        let limit = packets.into_iter().chain(self.queue_limit_bytes()).min().unwrap_or(u64::MAX);
        let max = match (max_bytes, min_bytes) {
            (Some(max), _) => max as f64,
            (None, Some(min)) => min as f64 * MAX_PER_MIN,
            (None, None) => limit as f64 / LIMIT_PER_MAX,
        };
        Settings {
            min: min_bytes.map_or(max / MAX_PER_MIN, |min| min as f64),
            max,
            probability: probability.unwrap_or(PROBABILITY),
            packet_ns: TYPICAL_BYTES * 8e9 / self.nominal_rate_bps().unwrap_or(u64::MAX) as f64,
        }
    }

    /// Checks what concerns the queue.
    pub(crate) fn check_queue(&self) -> Result<(), String> {
        if self.nominal_rate_bps().is_none() {
            return self.check_no_queue();
        }
        self.check_discipline()?;
        match &self.scheduler {
            Scheduler::Fifo => Ok(()),
            Scheduler::Drr(classes) => check_classes(classes),
            Scheduler::Priority(classes) if classes.weights.is_empty() => {
                Err("a priority scheduler needs the priority of at least one class; the others have 1"
                    .to_owned())
            }
            Scheduler::Priority(classes) => check_classes(classes),
        }
    }

    /// Without a rate nothing waits for the serializer.
    fn check_no_queue(&self) -> Result<(), String> {
        let stated = [
            (self.queue != QueueDiscipline::TailDrop, "a queue discipline"),
            (self.ecn, "ecn"),
            (self.scheduler != Scheduler::Fifo, "a scheduler"),
            (self.limit_us.is_some(), "a queue limit in time"),
        ];
        match stated.iter().find(|(stated, _)| *stated) {
            Some((_, what)) => {
                Err(format!("{what} needs a rate: without one no packet waits for transmission"))
            }
            None => Ok(()),
        }
    }

    fn check_discipline(&self) -> Result<(), String> {
        match self.queue {
            QueueDiscipline::TailDrop if self.ecn => Err(
                "a taildrop queue marks nothing, because it acts only when it is full; ecn needs red or codel".to_owned(),
            ),
            QueueDiscipline::Codel { target_us, interval_us } if target_us >= interval_us => Err(format!(
                "a codel target of {target_us} us is not less than the interval of {interval_us} us"
            )),
            QueueDiscipline::Red { probability: Some(p), .. } if !(0.0..=1.0).contains(&p) => {
                Err(format!("a red probability of {p} is not between 0 and 1"))
            }
            QueueDiscipline::Red { min_bytes, max_bytes, .. } => {
                let settings = self.red_settings();
                if settings.min < settings.max {
                    return Ok(());
                }
                let bytes = |stated: Option<u64>| stated.map_or("the default".to_owned(), |n| n.to_string());
                let (min, max) = (bytes(min_bytes), bytes(max_bytes));
                Err(format!("a red minimum of {min} bytes is not less than the maximum of {max} bytes"))
            }
            _ => Ok(()),
        }
    }
}

fn check_classes(classes: &Classes) -> Result<(), String> {
    let Classes { by, weights } = classes;
    if *by == ClassKey::Flow && !weights.is_empty() {
        return Err("flows have no numbers, so none can have a weight of its own".to_owned());
    }
    if weights.len() > MOST_WEIGHTS {
        return Err(format!("{} weights are more than {MOST_WEIGHTS}", weights.len()));
    }
    if let Some((class, _)) = weights.iter().find(|(_, &weight)| weight == 0) {
        return Err(format!("class {class} has a weight of 0, but at least 1 is needed"));
    }
    let most = match by {
        ClassKey::DstPort | ClassKey::SrcPort => u32::from(u16::MAX),
        ClassKey::Dscp => 63,
        ClassKey::Flow | ClassKey::Source | ClassKey::Destination => u32::MAX,
    };
    match weights.keys().find(|&&class| class > most) {
        Some(class) => Err(format!("there is no class {class}: the largest is {most}")),
        None => Ok(()),
    }
}
