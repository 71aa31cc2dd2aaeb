//! End flows of a worker, and report them: those that run each second, those that ended at once.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use super::flow::{Flow, FlowKey, Stage, DOWN, UP};
use super::worker::Worker;
use super::FlowReport;

impl Worker {
    /// Resets a flow here, and at the neighbours of this process; those of others learn it from their connection.
    pub(super) fn reset(&mut self, key: FlowKey, reason: &str) {
        if let Some(mut flow) = self.take(key) {
            flow.ends = [None, None];
            self.report_end(flow, reason);
        }
    }

    /// Ends a flow that was refused; `flow` has told its client why.
    pub(super) fn take(&mut self, key: FlowKey) -> Option<Flow> {
        let flow = self.flows.remove(key)?;
        self.count -= 1;
        if let Some(member) = self.members.get_mut(&flow.node) {
            member.flows -= 1;
        }
        Some(flow)
    }

    pub(super) fn reset_broken(&mut self) {
        while let Some((key, reason)) = self.broken.pop() {
            self.reset(key, &reason);
        }
    }

    /// Resets every flow.
    pub fn reset_all(&mut self) {
        let keys: Vec<FlowKey> = self.flows.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.reset(key, "the process of the node ends");
        }
        self.broken.clear();
        self.runnable.clear();
    }

    /// Reports the end of a flow that was taken out of the table, and breaks its parts at neighbours if it was reset.
    pub(super) fn report_end(&mut self, flow: Flow, reason: &str) {
        if !reason.is_empty() {
            let partners = flow.partners.into_iter().flatten();
            self.broken
                .extend(partners.map(|partner| (partner, reason.to_owned())));
        }
        if let Some(mut report) = flow.report {
            if let Stage::Open(directions) = &flow.stage {
                // A flow may break within a turn that has moved bytes.
                (report.sent, report.received) = (directions[UP].bytes, directions[DOWN].bytes);
            }
            report.end_us = Some(unix_micros());
            report.reason = reason.to_owned();
            self.send_reports(flow.node, vec![*report]);
        }
    }

    pub(super) fn send_reports(&self, number: u64, reports: Vec<FlowReport>) {
        if let Some(member) = self.members.get(&number) {
            member.setup.sink.flows(reports);
        }
    }

    /// Reports the flows that moved bytes since they were reported.
    pub(super) fn report_running(&mut self) {
        let mut changed: HashMap<u64, Vec<FlowReport>> = HashMap::new();
        for (_, flow) in self.flows.iter() {
            let Stage::Open(directions) = &mut flow.stage else {
                continue;
            };
            if let Some(report) = &flow.report {
                if directions
                    .iter_mut()
                    .any(|direction| direction.take_progress())
                {
                    changed
                        .entry(flow.node)
                        .or_default()
                        .push((**report).clone());
                }
            }
        }
        for (number, reports) in changed {
            self.send_reports(number, reports);
        }
    }
}

/// Microseconds since 1970 (Unix time).
pub(super) fn unix_micros() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
