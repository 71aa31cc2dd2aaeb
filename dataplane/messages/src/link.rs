//! The impairments of a link, as messages carry them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// The distribution of a delay with jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distribution {
    /// Normal.
    Normal,
    /// Uniform.
    Uniform,
    /// Pareto.
    Pareto,
    /// A table of quantiles: `LinkSpec::jitter_table`.
    Table,
}

/// When a queue drops or marks packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Queue {
    /// Only when it is full.
    Taildrop,
    /// Random early detection.
    Red,
    /// Controlled delay.
    Codel,
}

/// The order in which queued packets are transmitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheduler {
    /// First in, first out.
    Fifo,
    /// Deficit round robin.
    Drr,
    /// Strict priority.
    Priority,
}

/// The property of a packet by which a scheduler sorts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassKey {
    /// The 5-tuple.
    Flow,
    /// The destination port.
    DstPort,
    /// The source port.
    SrcPort,
    /// The node that sent it.
    Source,
    /// The node or group to which it goes.
    Destination,
    /// The differentiated services code point.
    Dscp,
}

/// Impairments of one direction of a link; an absent field means none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkSpec {
    /// Bits per second, headers included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_bps: Option<u64>,
    /// Bytes that may leave back to back after the link was idle; absent for one packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_burst_bytes: Option<u64>,
    /// One-way delay in microseconds; its mean where there is jitter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_us: Option<u64>,
    /// Standard deviation of the delay in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_us: Option<u64>,
    /// How the delay is distributed; absent for the normal distribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_distribution: Option<Distribution>,
    /// Quantiles at equal steps of probability, ascending, with mean 0 and standard deviation 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_table: Option<Vec<f64>>,
    /// Whether packets whose delay is shorter overtake earlier ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_reorder: Option<bool>,
    /// Probability that an MTU segment is lost, 0 to 1.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "fraction"
    )]
    pub loss: Option<f64>,
    /// Mean number of consecutive MTU segments that are lost together, at least 1; absent for independent losses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_burst: Option<f64>,
    /// Probability that an MTU segment is delivered twice, 0 to 1.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "fraction"
    )]
    pub duplicate: Option<f64>,
    /// Probability that later MTU segments overtake one, 0 to 1.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "fraction"
    )]
    pub reorder: Option<f64>,
    /// Number of segments that overtake it; absent for 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reorder_gap: Option<u32>,
    /// Probability that one bit of the payload of an MTU segment is flipped, 0 to 1.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "fraction"
    )]
    pub corrupt: Option<f64>,
    /// Queue limit in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// Queue limit in MTU segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_packets: Option<u64>,
    /// Queue limit in microseconds of the rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_us: Option<u64>,
    /// When the queue drops or marks packets; absent for `taildrop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// RED: average length in bytes from which packets are dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub red_min_bytes: Option<u64>,
    /// RED: average length in bytes from which all packets are dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub red_max_bytes: Option<u64>,
    /// RED: probability of a drop at an average just below the upper length, 0 to 1.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "fraction"
    )]
    pub red_probability: Option<f64>,
    /// `CoDel`: acceptable waiting time in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codel_target_us: Option<u64>,
    /// `CoDel`: how long the waiting time exceeds the target before packets are dropped, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codel_interval_us: Option<u64>,
    /// Whether the queue marks ECN-capable packets instead of dropping them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecn: Option<bool>,
    /// The order in which queued packets are transmitted; absent for `fifo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// The property of a packet that is its class; absent for `flow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler_by: Option<ClassKey>,
    /// The weight or priority of a class, at least 1; others have 1. On the wire, the classes are text.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "weights")]
    pub scheduler_weights: Option<BTreeMap<u32, u32>>,
    /// Largest IP packet that the link carries, in bytes; absent for no limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// The digest of the recorded trace that the link plays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// The name of its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_file: Option<String>,
    /// Which of `rate`, `delay` and `loss` it sets, separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_sets: Option<String>,
    /// Its mean rate in bits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_rate_bps: Option<u64>,
    /// Whether it repeats after its last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_loop: Option<bool>,
    /// The factor of its rates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_scale: Option<f64>,
    /// The time of the trace at its start, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_shift_us: Option<u64>,
    /// The trace, encoded as `nm_engine::Trace` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_data: Option<ByteBuf>,
}

fn fraction<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<f64>, D::Error> {
    match Option::<f64>::deserialize(input)? {
        Some(value) if !(0.0..=1.0).contains(&value) => Err(serde::de::Error::custom(format!(
            "it is {value}, but a probability lies between 0 and 1"
        ))),
        value => Ok(value),
    }
}

/// A map with numbers as its keys, which are text on the wire as in JSON and TOML.
mod weights {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(
        weights: &Option<BTreeMap<u32, u32>>,
        output: S,
    ) -> Result<S::Ok, S::Error> {
        output.collect_map(
            weights
                .iter()
                .flatten()
                .map(|(class, weight)| (class.to_string(), weight)),
        )
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<Option<BTreeMap<u32, u32>>, D::Error> {
        let Some(read) = Option::<BTreeMap<String, u32>>::deserialize(input)? else {
            return Ok(None);
        };
        let numbered = read.into_iter().map(|(class, weight)| {
            let number = class.parse().map_err(|_| {
                serde::de::Error::custom(format!("{class:?} is not the number of a class"))
            })?;
            Ok((number, weight))
        });
        numbered.collect::<Result<_, D::Error>>().map(Some)
    }
}
