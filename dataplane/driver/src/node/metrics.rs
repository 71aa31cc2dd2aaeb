//! Make the message about a node's counters: only what changed since the last one.

use std::collections::HashMap;

use nm_engine::{
    DropCause, DropCounters, FlowMetrics, GroupMetrics, LinkMetrics, NodeId, NodeMetrics, Role,
    SessionReport,
};
use nm_messages::{
    AppFlowColumns, DropCounter, FlowColumns, GroupColumns, LinkColumns, Metrics, SessionCounter,
};

use super::flow_key::{flow_key, flow_name};

/// Flows in one message; of more, those with the most bytes are sent, and those that ended.
const MOST_FLOWS: usize = 256;

/// The clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clocks {
    /// Of the engine, in nanoseconds.
    pub monotonic_ns: u64,
    /// Since 1970, in microseconds.
    pub unix_us: u64,
}

impl Clocks {
    /// A moment of the engine in microseconds since 1970.
    fn unix_us(self, at: nm_engine::Instant) -> u64 {
        let (at, origin) = (at.nanos() / 1_000, self.monotonic_ns / 1_000);
        (self.unix_us + at).saturating_sub(origin)
    }
}

/// What was reported last.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    links: HashMap<NodeId, LinkMetrics>,
    own_drops: DropCounters,
    totals: [u64; 6],
    groups: Vec<GroupMetrics>,
    sessions: HashMap<u64, SessionCounter>,
    /// The clocks at the first report: with others the same flow would begin a microsecond earlier or later.
    clocks: Option<Clocks>,
}

impl Reporter {
    /// The message about these counters; `None` when nothing changed.
    pub fn report(
        &mut self,
        found: &NodeMetrics,
        process: u64,
        cpu_ms: u64,
        clocks: Clocks,
    ) -> Option<Metrics> {
        let totals = [
            found.tun_rx.packets,
            found.tun_rx.bytes,
            found.tun_tx.packets + found.delivered.packets,
            found.tun_tx.bytes + found.delivered.bytes,
            found.flows_forgotten,
            found.packets_unrecorded,
        ];
        let mut drops = Vec::new();
        let links = self.links(found, &mut drops);
        self.own_drops(found, &mut drops);
        let groups = self.groups(found);
        let sessions = self.sessions(found);
        let (flows, app_flows) = flow_columns(&found.flows, *self.clocks.get_or_insert(clocks));
        let same = links.is_none() && drops.is_empty() && flows.is_none() && groups.is_none();
        if same && sessions.is_empty() && std::mem::replace(&mut self.totals, totals) == totals {
            return None;
        }
        self.totals = totals;
        let [packets_out, bytes_out, packets_in, bytes_in, flows_forgotten, packets_unrecorded] =
            totals;
        Some(Metrics {
            time_ms: clocks.unix_us / 1_000,
            process,
            cpu_ms,
            packets_out,
            bytes_out,
            packets_in,
            bytes_in,
            flows_forgotten,
            packets_unrecorded,
            links: links.map(Box::new),
            drops: (!drops.is_empty()).then_some(drops),
            flows: flows.map(Box::new),
            app_flows: app_flows.map(Box::new),
            groups: groups.map(Box::new),
            sessions: (!sessions.is_empty()).then_some(sessions),
        })
    }

    fn links(&mut self, found: &NodeMetrics, drops: &mut Vec<DropCounter>) -> Option<LinkColumns> {
        let mut columns = LinkColumns::default();
        for link in &found.links {
            let before = self.links.get(&link.remote);
            let dropped = before.map_or_else(DropCounters::default, |it| it.tx.drops.clone());
            let used = link.tx.frames + link.rx.frames + link.queued_packets > 0;
            if before == Some(link) || (before.is_none() && !used && link.tx.drops == dropped) {
                continue;
            }
            if link.tx.drops != dropped {
                drops.push(DropCounter {
                    remote_node_id: link.remote,
                    drops: by_cause(&link.tx.drops),
                });
            }
            columns.remote_node_id.push(u64::from(link.remote));
            columns.tx_packets.push(link.tx.packets);
            columns.tx_bytes.push(link.tx.bytes);
            columns.rx_packets.push(link.rx.packets);
            columns.rx_bytes.push(link.rx.bytes);
            columns.queued_packets.push(link.queued_packets);
            columns.queued_bytes.push(link.queued_bytes);
            self.links.insert(link.remote, link.clone());
        }
        (!columns.remote_node_id.is_empty()).then_some(columns)
    }

    fn own_drops(&mut self, found: &NodeMetrics, drops: &mut Vec<DropCounter>) {
        let received = found.links.iter().map(|link| &link.rx);
        let own = [&found.tun_rx, &found.tun_tx, &found.delivered].into_iter();
        let mut sum = DropCounters::default();
        for traffic in own.chain(received) {
            for (cause, count) in traffic.drops.iter() {
                sum.add(cause, count);
            }
        }
        if sum != self.own_drops {
            drops.push(DropCounter {
                remote_node_id: 0,
                drops: by_cause(&sum),
            });
            self.own_drops = sum;
        }
    }

    fn groups(&mut self, found: &NodeMetrics) -> Option<GroupColumns> {
        let mut columns = GroupColumns::default();
        for group in found
            .groups
            .iter()
            .filter(|group| !self.groups.contains(group))
        {
            columns.group_id.push(u64::from(group.group_id));
            columns.tx_packets.push(group.tx_packets);
            columns.tx_bytes.push(group.tx_bytes);
            columns.rx_packets.push(group.rx_packets);
            columns.rx_bytes.push(group.rx_bytes);
        }
        self.groups.clone_from(&found.groups);
        (!columns.group_id.is_empty()).then_some(columns)
    }

    fn sessions(&mut self, found: &NodeMetrics) -> Vec<SessionCounter> {
        let before = std::mem::take(&mut self.sessions);
        let mut changed = Vec::new();
        for report in &found.sessions {
            let counter = session_counter(report);
            if before.get(&counter.session) != Some(&counter) {
                changed.push(counter.clone());
            }
            self.sessions.insert(counter.session, counter);
        }
        changed
    }
}

fn session_counter(report: &SessionReport) -> SessionCounter {
    SessionCounter {
        session: report.session,
        role: match report.role {
            Role::Sender => "sender",
            Role::Receiver => "receiver",
        }
        .to_owned(),
        source: report.source,
        state: report.state.as_str().to_owned(),
        total_bytes: report.total_bytes,
        done_bytes: report
            .peers
            .iter()
            .map(|peer| peer.bytes)
            .min()
            .unwrap_or_default(),
        sent_bytes: report.bytes_sent,
        repair_bytes: report.repair_bytes,
        receivers: u32::try_from(report.peers.len()).unwrap_or(u32::MAX),
        rtt_us: report.rtt_ns.unwrap_or_default() / 1_000,
    }
}

/// Dropped packets by cause; causes without any are left out.
fn by_cause(counters: &DropCounters) -> std::collections::BTreeMap<String, u64> {
    let named = |(cause, count): (DropCause, u64)| (cause.as_str().to_owned(), count);
    counters
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(named)
        .collect()
}

/// The flows that ended and, of the others, those with the most bytes.
fn flow_columns(
    found: &[FlowMetrics],
    clocks: Clocks,
) -> (Option<FlowColumns>, Option<AppFlowColumns>) {
    let mut order: Vec<&FlowMetrics> = found.iter().collect();
    order.sort_by_key(|flow| {
        (
            !flow.ended,
            std::cmp::Reverse(flow.bytes_out + flow.bytes_in),
        )
    });
    order.truncate(MOST_FLOWS);
    let (mut directions, mut apps) = (FlowColumns::default(), AppFlowColumns::default());
    for flow in order {
        let out = flow_key(
            flow.local,
            flow.remote,
            flow.local_port,
            flow.remote_port,
            flow.protocol,
        );
        let back = flow_key(
            flow.remote,
            flow.local,
            flow.remote_port,
            flow.local_port,
            flow.protocol,
        );
        let ways = [
            (out, flow.packets_out, flow.bytes_out),
            (back, flow.packets_in, flow.bytes_in),
        ];
        for (key, packets, bytes) in ways.into_iter().filter(|(_, packets, _)| *packets > 0) {
            directions.flow_id.push(key.to_vec().into());
            directions.packets.push(packets);
            directions.size_bytes.push(bytes);
        }
        if flow.started_here && flow.application {
            add_app_flow(&mut apps, flow, out, clocks);
        }
    }
    (
        (!directions.flow_id.is_empty()).then_some(directions),
        (!apps.flow_id.is_empty()).then_some(apps),
    )
}

fn add_app_flow(apps: &mut AppFlowColumns, flow: &FlowMetrics, key: [u8; 16], clocks: Clocks) {
    apps.flow_id.push(key.to_vec().into());
    apps.name.push(flow_name(
        (flow.local, flow.local_port),
        (flow.remote, flow.remote_port),
        flow.protocol,
    ));
    apps.dst_node_id.push(u64::from(flow.peer));
    apps.start_us.push(clocks.unix_us(flow.first));
    apps.finish_us.push(if flow.ended {
        clocks.unix_us(flow.last)
    } else {
        0
    });
    apps.tx_packets.push(flow.packets_out);
    apps.tx_bytes.push(flow.bytes_out);
    apps.rx_packets.push(flow.packets_in);
    apps.rx_bytes.push(flow.bytes_in);
    apps.answered_us
        .push(flow.answered_ns.map_or(0, |nanos| (nanos / 1_000).max(1)));
}

#[cfg(test)]
mod tests;
