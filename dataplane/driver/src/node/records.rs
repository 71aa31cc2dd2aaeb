//! What a node remembers of its lossless transfers: how they ended, and the bytes that nobody has fetched yet.
//!
//! The engine hands over the report and the bytes with the end of a transfer and forgets them. What is kept here is
//! bounded. Of transfers whose bytes were fetched, or that have none, the latest are remembered. Bytes are never
//! thrown away for want of room: whoever lets too many of them lie is refused new receive calls until they are
//! fetched or the transfers cancelled.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use nm_engine::{Role, SessionId, SessionReport, SessionState};

/// Ended transfers without bytes that are remembered.
pub const RECORD_LIMIT: usize = 4096;

/// Bytes that may wait to be fetched, of all transfers of a node together: a few of the largest that a program of
/// this kind moves at once (model weights), and little enough that a program which never fetches is told so before
/// the machine is out of memory.
pub const UNFETCHED_LIMIT: u64 = 4 << 30;

/// Every transfer counts with at least so many bytes, so that many small ones are bounded too: by 65,536.
const LEAST_COUNTED: u64 = 64 << 10;

/// The bytes that a transfer brought.
pub type Received = Arc<Vec<u8>>;

/// A transfer that has ended.
#[derive(Debug)]
pub struct Record {
    /// How it ended, receiver by receiver.
    pub report: SessionReport,
    data: Option<Received>,
    /// Why there is no data any more.
    gone: &'static str,
}

/// The transfers of a node.
#[derive(Debug, Default)]
pub struct Records {
    /// The number given out last: they are counted from 1.
    last: SessionId,
    running: BTreeSet<SessionId>,
    ended: BTreeMap<SessionId, Record>,
    /// Ended ones without bytes, in the order in which they came to have none.
    empty: VecDeque<SessionId>,
    unfetched: u64,
}

/// How a transfer stands, as far as it is remembered.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing {
    /// It runs.
    Running,
    /// It has ended.
    Ended(SessionState),
    /// It has ended so long ago that it is not remembered.
    Forgotten,
    /// No transfer here ever had that number.
    Unknown,
}

impl Records {
    /// A transfer has begun.
    pub fn opened(&mut self, session: SessionId) {
        self.last = self.last.max(session);
        self.running.insert(session);
    }

    /// A transfer has ended, and this is what it brought.
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
            gone: "",
        };
        self.ended.insert(session, record);
        self.prune();
    }

    /// How a transfer stands.
    pub fn standing(&self, session: SessionId) -> Standing {
        match self.ended.get(&session) {
            Some(record) => Standing::Ended(record.report.state),
            None if self.running.contains(&session) => Standing::Running,
            None if (1..=self.last).contains(&session) => Standing::Forgotten,
            None => Standing::Unknown,
        }
    }

    /// The record of a transfer that has ended.
    pub fn get(&self, session: SessionId) -> Option<&Record> {
        self.ended.get(&session)
    }

    /// The bytes of an ended transfer; with `consume` our hold on them ends. An error says why there are none.
    pub fn data(&mut self, session: SessionId, consume: bool) -> Result<Received, String> {
        let Some(record) = self.ended.get_mut(&session) else {
            return Err("it is not complete".to_owned());
        };
        let Some(data) = record.data.clone() else {
            return Err(match &record.report {
                _ if !record.gone.is_empty() => record.gone.to_owned(),
                report if report.role == Role::Sender => "it sends".to_owned(),
                report => format!("it ended as {}: {}", report.state.as_str(), report.reason),
            });
        };
        if consume {
            self.let_go(session, "it was consumed");
        }
        Ok(data)
    }

    /// Nobody will fetch the bytes of a transfer any more. They are returned, to be freed by whoever asked.
    pub fn let_go(&mut self, session: SessionId, why: &'static str) -> Option<Received> {
        let record = self.ended.get_mut(&session)?;
        let data = record.data.take()?;
        record.gone = why;
        self.unfetched -= counted(&data);
        self.empty.push_back(session);
        self.prune();
        Some(data)
    }

    /// Why no further transfer may be received now, if so.
    pub fn refusal(&self) -> Option<String> {
        let waiting = || {
            self.ended
                .iter()
                .filter(|(_, record)| record.data.is_some())
        };
        (self.unfetched >= UNFETCHED_LIMIT).then(|| {
            let oldest = waiting().next().map_or(0, |(session, _)| *session);
            format!(
                "{} transfers of this node hold {} MB that nobody has fetched, session {oldest} first",
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
            peers: Vec::new(),
        }
    }

    fn end(records: &mut Records, session: SessionId, data: Option<usize>) {
        records.opened(session);
        let data = data.map(|len| Arc::new(vec![7; len]));
        records.ended(report(session, SessionState::Complete), data);
    }

    #[test]
    fn the_latest_are_remembered_and_earlier_ones_are_known_to_be_forgotten() {
        let mut records = Records::default();
        for session in 1..=100_000 {
            end(&mut records, session, None);
        }
        assert_eq!(
            (records.ended.len(), records.running.len()),
            (RECORD_LIMIT, 0)
        );
        assert_eq!(records.standing(1), Standing::Forgotten);
        let ended = Standing::Ended(SessionState::Complete);
        assert_eq!(records.standing(100_000), ended);
        assert_eq!(records.standing(100_001), Standing::Unknown);
        assert_eq!(records.standing(0), Standing::Unknown);
    }

    #[test]
    fn bytes_stay_until_they_are_fetched_whatever_comes_after() {
        let mut records = Records::default();
        end(&mut records, 1, Some(10));
        for session in 2..=3 * RECORD_LIMIT as u64 {
            end(&mut records, session, None);
        }
        assert_eq!(records.data(1, false).expect("kept").len(), 10);
        assert_eq!(records.data(1, true).expect("kept").len(), 10);
        assert_eq!(records.data(1, true).expect_err("gone"), "it was consumed");
        assert_eq!(records.unfetched, 0);
    }

    #[test]
    fn whoever_fetches_nothing_is_told_and_may_go_on_after_fetching() {
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
        assert!(records.let_go(1, "it was cancelled").is_some());
        assert!(records.let_go(1, "it was cancelled").is_none(), "once");
        assert_eq!(records.refusal(), None);
        assert_eq!(records.data(1, true).expect_err("gone"), "it was cancelled");
    }
}
