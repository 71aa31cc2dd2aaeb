//! Records of a node's lossless transfers: results, and received bytes that were not fetched yet.
//!
//! The engine hands over the report and the bytes at the end of a transfer and keeps neither. The records are
//! bounded. Of transfers without bytes, or whose bytes were fetched, the latest are kept. Unfetched bytes are never
//! discarded for want of room: above the limit new receive calls are refused until bytes are fetched or transfers
//! cancelled.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use nm_engine::{Role, SessionId, SessionReport, SessionState};

/// Largest number of records of ended transfers without bytes.
pub const RECORD_LIMIT: usize = 4096;

/// Limit of unfetched bytes of all transfers of a node together: a few of the largest objects that such programs move
/// at once (model weights), and small enough that a program which never fetches gets an error before the machine runs
/// out of memory.
pub const UNFETCHED_LIMIT: u64 = 4 << 30;

/// Smallest number of bytes counted for a transfer, so that the number of small transfers is bounded too: by 65,536.
const LEAST_COUNTED: u64 = 64 << 10;

/// The received bytes of a transfer.
pub type Received = Arc<Vec<u8>>;

/// A transfer that has ended.
#[derive(Debug)]
pub struct Record {
    /// Its result for each receiver.
    pub report: SessionReport,
    data: Option<Received>,
    /// Why the data is no longer available.
    removal_reason: &'static str,
}

/// The transfers of a node.
#[derive(Debug, Default)]
pub struct Records {
    /// The last number that was assigned; numbers start at 1.
    last: SessionId,
    running: BTreeSet<SessionId>,
    ended: BTreeMap<SessionId, Record>,
    /// Ended transfers without bytes, in the order in which they lost them.
    empty: VecDeque<SessionId>,
    unfetched: u64,
}

/// The state of a transfer, as far as it is recorded.
#[derive(Debug, PartialEq, Eq)]
pub enum Status {
    /// It is running.
    Running,
    /// It has ended.
    Ended(SessionState),
    /// It ended so long ago that its record was removed.
    Forgotten,
    /// No transfer of this node had that number.
    Unknown,
}

impl Records {
    /// Records the start of a transfer.
    pub fn opened(&mut self, session: SessionId) {
        self.last = self.last.max(session);
        self.running.insert(session);
    }

    /// Records the end of a transfer, with the bytes received.
    pub fn ended(&mut self, report: SessionReport, data: Option<Received>) {
        let session = report.session;
        self.running.remove(&session);
        match &data {
            Some(data) => self.unfetched += counted(data),
            None => self.empty.push_back(session),
        }
        let record = Record {
            report,
            data,
            removal_reason: "",
        };
        self.ended.insert(session, record);
        self.prune();
    }

    /// The state of a transfer.
    pub fn status(&self, session: SessionId) -> Status {
        match self.ended.get(&session) {
            Some(record) => Status::Ended(record.report.state),
            None if self.running.contains(&session) => Status::Running,
            None if (1..=self.last).contains(&session) => Status::Forgotten,
            None => Status::Unknown,
        }
    }

    /// The record of a transfer that has ended.
    pub fn get(&self, session: SessionId) -> Option<&Record> {
        self.ended.get(&session)
    }

    /// The bytes of an ended transfer; `consume` removes them from the record. The error is the reason why there are
    /// none.
    pub fn data(&mut self, session: SessionId, consume: bool) -> Result<Received, String> {
        let Some(record) = self.ended.get_mut(&session) else {
            return Err("it is not complete".to_owned());
        };
        let Some(data) = record.data.clone() else {
            return Err(match &record.report {
                _ if !record.removal_reason.is_empty() => record.removal_reason.to_owned(),
                report if report.role == Role::Sender => "it sends".to_owned(),
                report => format!("it ended as {}: {}", report.state.as_str(), report.reason),
            });
        };
        if consume {
            self.release(session, "it was consumed");
        }
        Ok(data)
    }

    /// Removes the bytes of a transfer that will not be fetched, and returns them, so that the calling thread frees
    /// them.
    pub fn release(&mut self, session: SessionId, why: &'static str) -> Option<Received> {
        let record = self.ended.get_mut(&session)?;
        let data = record.data.take()?;
        record.removal_reason = why;
        self.unfetched -= counted(&data);
        self.empty.push_back(session);
        self.prune();
        Some(data)
    }

    /// Why no further transfer may be received now, if that is so.
    pub fn refusal(&self) -> Option<String> {
        let waiting = || {
            self.ended
                .iter()
                .filter(|(_, record)| record.data.is_some())
        };
        (self.unfetched >= UNFETCHED_LIMIT).then(|| {
            let oldest = waiting().next().map_or(0, |(session, _)| *session);
            format!(
                "{} transfers of this node hold {} MB that were not fetched, session {oldest} first",
                waiting().count(),
                self.unfetched / 1_000_000
            )
        })
    }

    fn prune(&mut self) {
        while self.empty.len() > RECORD_LIMIT {
            if let Some(oldest) = self.empty.pop_front() {
                self.ended.remove(&oldest);
            }
        }
    }
}

fn counted(data: &Received) -> u64 {
    (data.len() as u64).max(LEAST_COUNTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(session: SessionId, state: SessionState) -> SessionReport {
        SessionReport {
            session,
            role: Role::Receiver,
            source: 1,
            state,
            reason: String::new(),
            total_bytes: 0,
            seconds: 0.0,
            repair_rounds: 0,
            bytes_sent: 0,
            repair_bytes: 0,
            rtt_ns: None,
            peers: Vec::new(),
        }
    }

    fn end(records: &mut Records, session: SessionId, data: Option<usize>) {
        records.opened(session);
        let data = data.map(|len| Arc::new(vec![7; len]));
        records.ended(report(session, SessionState::Complete), data);
    }

    #[test]
    fn the_latest_records_are_kept_and_earlier_ones_are_reported_as_removed() {
        let mut records = Records::default();
        for session in 1..=100_000 {
            end(&mut records, session, None);
        }
        assert_eq!(
            (records.ended.len(), records.running.len()),
            (RECORD_LIMIT, 0)
        );
        assert_eq!(records.status(1), Status::Forgotten);
        let ended = Status::Ended(SessionState::Complete);
        assert_eq!(records.status(100_000), ended);
        assert_eq!(records.status(100_001), Status::Unknown);
        assert_eq!(records.status(0), Status::Unknown);
    }

    #[test]
    fn unfetched_bytes_are_kept_after_later_transfers() {
        let mut records = Records::default();
        end(&mut records, 1, Some(10));
        for session in 2..=3 * RECORD_LIMIT as u64 {
            end(&mut records, session, None);
        }
        assert_eq!(records.data(1, false).expect("kept").len(), 10);
        assert_eq!(records.data(1, true).expect("kept").len(), 10);
        assert_eq!(
            records.data(1, true).expect_err("removed"),
            "it was consumed"
        );
        assert_eq!(records.unfetched, 0);
    }

    #[test]
    fn too_many_unfetched_bytes_refuse_new_transfers_until_they_are_fetched() {
        let mut records = Records::default();
        let most = UNFETCHED_LIMIT / LEAST_COUNTED;
        for session in 1..=most {
            assert_eq!(records.refusal(), None);
            end(&mut records, session, Some(1));
        }
        let refusal = records.refusal().expect("full");
        assert!(refusal.contains("65536 transfers"), "{refusal}");
        assert!(refusal.contains("session 1 first"), "{refusal}");
        records.data(5, true).expect("there");
        assert_eq!(records.refusal(), None);
        end(&mut records, most + 1, Some(1));
        assert!(records.release(1, "it was cancelled").is_some());
        assert!(records.release(1, "it was cancelled").is_none(), "once");
        assert_eq!(records.refusal(), None);
        assert_eq!(
            records.data(1, true).expect_err("removed"),
            "it was cancelled"
        );
    }
}
