//! Make the message about a node's counters: only what changed since the last one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use nm_engine::{
    DropCause, DropCounters, FiveTuple, FlowMetrics, GroupMetrics, Instant, LinkMetrics, NodeId,
    NodeMetrics, Role, SessionReport,
};
use nm_messages::{
    AppFlowColumns, AppFlowStart, DropCounter, Metrics, SessionCounter, APP_FLOW_NUMBERS,
    GROUP_NUMBERS, LINK_NUMBERS,
};

use super::flow_key::{flow_key, flow_name};

/// Flows in one message; of more, those that ended and then those with the most bytes are sent, the others later.
const MOST_FLOWS: usize = 256;

/// Flows that wait for a later message: 600 kB. Of more, those that ended are kept.
const MOST_WAITING: usize = 4_096;

/// Both clocks, read together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clocks {
    /// Of the engine, in nanoseconds.
    pub monotonic_ns: u64,
    /// Since 1970, in microseconds.
    pub unix_us: u64,
}

impl Clocks {
    /// A time of the engine in microseconds since 1970.
    fn unix_us(self, at: Instant) -> u64 {
        let (at, origin) = (at.nanos() / 1_000, self.monotonic_ns / 1_000);
        (self.unix_us + at).saturating_sub(origin)
    }
}

/// What was reported last, and the flows that are to be reported.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    links: HashMap<NodeId, LinkMetrics>,
    own_drops: DropCounters,
    totals: [u64; 6],
    groups: Vec<GroupMetrics>,
    sessions: HashMap<u64, SessionCounter>,
    /// Flows of earlier collections that are still to be reported.
    waiting: Vec<FlowMetrics>,
    /// Flows that ended and were given up, because too many waited.
    given_up: u64,
    /// The clocks at the first report: with others the same flow would begin a microsecond earlier or later.
    clocks: Option<Clocks>,
}

impl Reporter {
    /// The message about these counters; `None` when nothing changed.
    pub fn report(
        &mut self,
        mut found: NodeMetrics,
        cpu_ms: u64,
        clocks: Clocks,
    ) -> Option<Metrics> {
        self.keep(std::mem::take(&mut found.flows));
        let flows = self.next_flows();
        let totals = [
            found.tun_rx.packets,
            found.tun_rx.bytes,
            found.tun_tx.packets + found.delivered.packets,
            found.tun_tx.bytes + found.delivered.bytes,
            found.flows_forgotten + self.given_up,
            found.packets_unrecorded,
        ];
        let mut drops = Vec::new();
        let links = self.links(&found, &mut drops);
        self.own_drops(&found, &mut drops);
        let groups = self.groups(&found);
        let sessions = self.sessions(&found);
        let same = links.is_empty() && drops.is_empty() && flows.is_empty() && groups.is_empty();
        if same && sessions.is_empty() && self.totals == totals {
            return None;
        }
        self.totals = totals;
        let (flow_ids, directions) = directions(&flows);
        let app_flows = app_flows(&flows, self.origin(clocks));
        Some(Metrics {
            time_ms: clocks.unix_us / 1_000,
            totals: std::iter::once(cpu_ms).chain(totals).collect(),
            links,
            drops: (!drops.is_empty()).then_some(drops),
            flow_ids: flow_ids.into(),
            flows: directions,
            app_flows: app_flows.map(Box::new),
            groups,
            sessions: (!sessions.is_empty()).then_some(sessions),
        })
    }

    /// The message about flows that began; `None` when none of them is a program's.
    pub fn begun(&mut self, flows: &[FlowMetrics], clocks: Clocks) -> Option<AppFlowStart> {
        Some(AppFlowStart {
            time_ms: clocks.unix_us / 1_000,
            flows: app_flows(flows, self.origin(clocks))?,
        })
    }

    /// Reports everything with the next message, also what did not change. Times of flows keep their origin.
    pub fn begin_again(&mut self) {
        *self = Self {
            waiting: std::mem::take(&mut self.waiting),
            given_up: self.given_up,
            clocks: self.clocks,
            ..Self::default()
        };
    }

    /// Keeps flows for the next report; of a flow the newest counters replace older ones.
    pub fn keep(&mut self, flows: Vec<FlowMetrics>) {
        if self.waiting.is_empty() {
            self.waiting = flows;
        } else {
            let mut known: BTreeMap<(FiveTuple, Instant), usize> = BTreeMap::new();
            for (place, flow) in self.waiting.iter().enumerate() {
                known.insert((flow.outgoing(), flow.first), place);
            }
            for flow in flows {
                match known.get(&(flow.outgoing(), flow.first)) {
                    Some(&place) => self.waiting[place] = flow,
                    None => self.waiting.push(flow),
                }
            }
        }
        if self.waiting.len() > MOST_WAITING {
            self.waiting.sort_by_key(|flow| !flow.ended);
            let rest = self.waiting.split_off(MOST_WAITING);
            // One that runs is reported when it changes again.
            self.given_up += rest.iter().filter(|flow| flow.ended).count() as u64;
        }
    }

    /// Takes the flows of the next message: those that ended, then those with the most bytes.
    fn next_flows(&mut self) -> Vec<FlowMetrics> {
        if self.waiting.len() <= MOST_FLOWS {
            return std::mem::take(&mut self.waiting);
        }
        let most = |flow: &FlowMetrics| (!flow.ended, Reverse(flow.bytes_out + flow.bytes_in));
        self.waiting.sort_by_key(most);
        let rest = self.waiting.split_off(MOST_FLOWS);
        std::mem::replace(&mut self.waiting, rest)
    }

    fn origin(&mut self, clocks: Clocks) -> Clocks {
        *self.clocks.get_or_insert(clocks)
    }

    fn links(&mut self, found: &NodeMetrics, drops: &mut Vec<DropCounter>) -> Vec<u64> {
        let mut numbers = Vec::new();
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
            let row: [u64; LINK_NUMBERS] = [
                u64::from(link.remote),
                link.tx.packets,
                link.tx.bytes,
                link.rx.packets,
                link.rx.bytes,
                link.queued_packets,
                link.queued_bytes,
            ];
            numbers.extend(row);
            self.links.insert(link.remote, link.clone());
        }
        numbers
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

    fn groups(&mut self, found: &NodeMetrics) -> Vec<u64> {
        let changed = |group: &&GroupMetrics| !self.groups.contains(group);
        let row = |group: &GroupMetrics| -> [u64; GROUP_NUMBERS] {
            [
                u64::from(group.group_id),
                group.tx_packets,
                group.tx_bytes,
                group.rx_packets,
                group.rx_bytes,
            ]
        };
        let numbers = found.groups.iter().filter(changed).flat_map(row).collect();
        self.groups.clone_from(&found.groups);
        numbers
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
fn by_cause(counters: &DropCounters) -> BTreeMap<String, u64> {
    let named = |(cause, count): (DropCause, u64)| (cause.as_str().to_owned(), count);
    counters
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(named)
        .collect()
}

/// Identifiers of the directions of flows, and packets and bytes of each.
fn directions(flows: &[FlowMetrics]) -> (Vec<u8>, Vec<u64>) {
    let (mut ids, mut numbers) = (Vec::new(), Vec::new());
    for flow in flows {
        let out = flow.outgoing();
        let back = FiveTuple {
            src: out.dst,
            dst: out.src,
            src_port: out.dst_port,
            dst_port: out.src_port,
            ..out
        };
        let ways = [
            (out, flow.packets_out, flow.bytes_out),
            (back, flow.packets_in, flow.bytes_in),
        ];
        for (way, packets, bytes) in ways.into_iter().filter(|(_, packets, _)| *packets > 0) {
            ids.extend(key_of(&way));
            numbers.extend([packets, bytes]);
        }
    }
    (ids, numbers)
}

/// The flows that programs began here; `None` when there is none.
fn app_flows(flows: &[FlowMetrics], clocks: Clocks) -> Option<AppFlowColumns> {
    let mut columns = AppFlowColumns::default();
    for flow in flows
        .iter()
        .filter(|flow| flow.started_here && flow.application)
    {
        columns.flow_ids.extend(key_of(&flow.outgoing()));
        columns.names.push(flow_name(
            (flow.local, flow.local_port),
            (flow.remote, flow.remote_port),
            flow.protocol,
        ));
        let ended = |at| if flow.ended { clocks.unix_us(at) } else { 0 };
        let answered = |nanos: u64| (nanos / 1_000).max(1);
        let row: [u64; APP_FLOW_NUMBERS] = [
            u64::from(flow.peer),
            clocks.unix_us(flow.first),
            ended(flow.last),
            flow.packets_out,
            flow.bytes_out,
            flow.packets_in,
            flow.bytes_in,
            flow.answered_ns.map_or(0, answered),
            u64::from(flow.route),
        ];
        columns.numbers.extend(row);
    }
    (!columns.names.is_empty()).then_some(columns)
}

fn key_of(flow: &FiveTuple) -> [u8; 16] {
    flow_key(
        flow.src,
        flow.dst,
        flow.src_port,
        flow.dst_port,
        flow.protocol,
    )
}

#[cfg(test)]
mod tests;
