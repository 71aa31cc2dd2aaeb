//! The flows that this node is the source of, by number: waiting, running, ended.

use std::collections::BTreeMap;

use nm_engine::Instant;

use crate::flow::{FlowEnd, FlowSpec};

/// Ended flows that are remembered, so that a repeated request reports the result again instead of running the flow a
/// second time. 7 MB.
const REMEMBERED: usize = 65_536;

/// A flow of this node.
#[derive(Debug)]
pub(crate) enum Record {
    /// It begins when the topology is ready.
    Waiting { spec: FlowSpec, since: Instant },
    /// The connection with this index.
    Running(usize),
    /// Its result.
    Ended(FlowEnd),
}

/// All flows of this node.
#[derive(Debug, Default)]
pub(crate) struct Records {
    by_id: BTreeMap<u64, Record>,
    ended: std::collections::VecDeque<u64>,
}

impl Records {
    pub(crate) fn get(&self, id: u64) -> Option<&Record> {
        self.by_id.get(&id)
    }

    pub(crate) fn set(&mut self, id: u64, record: Record) {
        self.by_id.insert(id, record);
    }

    /// Stores the result of a flow; the oldest result is forgotten when there are too many.
    pub(crate) fn end(&mut self, end: FlowEnd) {
        self.ended.push_back(end.id);
        self.by_id.insert(end.id, Record::Ended(end));
        if self.ended.len() > REMEMBERED {
            if let Some(oldest) = self.ended.pop_front() {
                self.by_id.remove(&oldest);
            }
        }
    }

    /// Takes out the flows that wait for the start.
    pub(crate) fn take_waiting(&mut self) -> Vec<(FlowSpec, Instant)> {
        let waiting = self.by_id.values().filter_map(|record| match record {
            Record::Waiting { spec, since } => Some((spec.clone(), *since)),
            _ => None,
        });
        let waiting: Vec<_> = waiting.collect();
        for (spec, _) in &waiting {
            self.by_id.remove(&spec.id);
        }
        waiting
    }

    /// Number and connection of each running flow.
    pub(crate) fn running(&self) -> impl Iterator<Item = (u64, usize)> + '_ {
        self.by_id.iter().filter_map(|(id, record)| match record {
            Record::Running(index) => Some((*id, *index)),
            _ => None,
        })
    }
}
