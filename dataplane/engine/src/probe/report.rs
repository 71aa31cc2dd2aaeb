//! What a probe shall do, and its result.

use crate::NodeId;

/// A probe to be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeOrder {
    /// Its number, which distinguishes it from earlier ones.
    pub probe: u64,
    /// The most bytes that this node sends on the link, with headers.
    pub bytes: u64,
    /// How long it may take, in nanoseconds. Waiting for the neighbour's last answer may take 2 s longer.
    pub nanos: u64,
    /// Whether the packets pass the transport of the link only, and not its impairments.
    pub below: bool,
}

/// The result of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeReport {
    /// The probe.
    pub probe: u64,
    /// The neighbour.
    pub remote: NodeId,
    /// Capacity of the direction towards the neighbour in bits per second, headers included; `None` when too little
    /// of the trains arrived.
    pub capacity_bps: Option<u64>,
    /// Median of the round trip in nanoseconds; `None` when no echo was answered.
    pub round_trip_p50_ns: Option<u64>,
    /// Its 99th percentile.
    pub round_trip_p99_ns: Option<u64>,
    /// Echo requests that were sent.
    pub packets_sent: u32,
    /// Those that reached the neighbour.
    pub packets_received: u32,
    /// Those whose answer came back.
    pub packets_answered: u32,
    /// Bytes that were sent for the measurement, with headers.
    pub bytes: u64,
    /// Why the probe failed, if it did; nothing else counts then.
    pub error: Option<String>,
}
