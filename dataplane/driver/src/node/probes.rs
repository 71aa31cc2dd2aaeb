//! Report the results of probes to the controller.

use nm_engine::ProbeReport;
use nm_messages::ProbeResult;

/// The message that has a result.
pub(super) fn result(report: &ProbeReport) -> ProbeResult {
    let micros = |nanos: u64| nanos as f64 / 1e3;
    ProbeResult {
        remote_node_id: report.remote,
        probe_id: report.probe,
        mbps: report.capacity_bps.map_or(0.0, |bps| bps as f64 / 1e6),
        error: report.error.clone().unwrap_or_default(),
        round_trip_p50_us: report.round_trip_p50_ns.map(micros),
        round_trip_p99_us: report.round_trip_p99_ns.map(micros),
        packets_sent: report.packets_sent,
        packets_received: report.packets_received,
        packets_answered: report.packets_answered,
        sent_bytes: report.bytes,
    }
}
