//! Limits of all programs of a node together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use nm_kernel::shared_file::Mapping;

use crate::node::NodeError;

/// An amount that is in use, and the most that may be.
#[derive(Debug)]
pub(super) struct Limit {
    used: AtomicU64,
    most: u64,
}

impl Limit {
    pub(super) fn new(most: u64) -> Arc<Self> {
        let used = AtomicU64::new(0);
        Arc::new(Limit { used, most })
    }

    /// Counts an amount until the charge is dropped; `None` when it would exceed the limit.
    pub(super) fn charge(self: &Arc<Self>, amount: u64) -> Option<Charge> {
        let more = |used: u64| used.checked_add(amount).filter(|sum| *sum <= self.most);
        let charged = self
            .used
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        // Made only after success: dropping a charge subtracts its amount.
        charged.ok().map(|_| Charge {
            limit: Arc::clone(self),
            amount,
        })
    }
}

/// An amount that counts against a limit until this is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    limit: Arc<Limit>,
    amount: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.limit.used.fetch_sub(self.amount, Ordering::SeqCst);
    }
}

/// Bytes that a program sends, with their charge: it ends when the engine has released them.
pub(super) struct Charged {
    bytes: Mapping,
    _charge: Charge,
}

impl Charged {
    /// `None` when the limit does not allow them.
    pub(super) fn new(bytes: Mapping, limit: &Arc<Limit>) -> Option<Self> {
        let _charge = limit.charge(bytes.as_ref().len() as u64)?;
        Some(Charged { bytes, _charge })
    }
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

/// The error when the programs of a node have too much open together.
pub(super) fn too_many_things() -> NodeError {
    limit("the programs of a node may have 4096 receivers, answers and copies of received bytes at once")
}

/// The error of a program that has too much open.
pub(super) fn limit(message: &str) -> NodeError {
    NodeError::Argument {
        id: "attach.limit",
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_counts_until_its_charge_is_dropped() {
        let limit = Limit::new(10);
        let first = limit.charge(6).expect("free");
        assert!(limit.charge(5).is_none());
        let second = limit.charge(4).expect("the rest");
        assert!(limit.charge(1).is_none());
        drop(first);
        assert!(limit.charge(u64::MAX).is_none(), "no overflow");
        assert!(limit.charge(6).is_some());
        drop(second);
        assert!(limit.charge(10).is_some());
    }

    #[test]
    fn bytes_to_send_are_charged_as_long_as_they_are_held() {
        let limit = Limit::new(4);
        let map = || {
            let file = nm_kernel::shared_file::copy(b"abc").expect("a file");
            nm_kernel::shared_file::map(std::os::fd::AsFd::as_fd(&file)).expect("mapped")
        };
        let sent = nm_engine::SharedBytes::new(Charged::new(map(), &limit).expect("free"));
        let held = sent.clone();
        drop(sent);
        assert!(Charged::new(map(), &limit).is_none());
        assert_eq!(held.as_slice(), b"abc");
        drop(held);
        assert!(Charged::new(map(), &limit).is_some());
    }
}
