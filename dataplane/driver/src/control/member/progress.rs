//! Progress of the orders about one object: the version requested and the version in force.

/// The versions of one object. Orders have increasing tickets, are carried out in that order, and end one by one.
#[derive(Debug, Default, Clone)]
pub struct Progress {
    requested: Option<u64>,
    /// The ticket of the last order, and of the last order that ended.
    last: u64,
    ended: u64,
    /// The last full order, which does not depend on earlier ones.
    full: u64,
    /// Whether an order since `full` failed: later incremental orders are then invalid.
    broken: bool,
}

impl Progress {
    /// An order has started; a `full` order replaces the complete state, so that earlier failures no longer matter.
    pub fn begin(&mut self, ticket: u64, version: u64, full: bool) {
        self.requested = Some(version);
        self.last = ticket;
        if full {
            self.full = ticket;
            self.broken = false;
        }
    }

    /// An order was refused before it started; later incremental orders are invalid.
    pub fn refuse(&mut self) {
        self.broken = true;
    }

    /// An order has ended.
    pub fn end(&mut self, ticket: u64, done: bool) {
        self.ended = self.ended.max(ticket);
        self.broken |= !done && ticket >= self.full;
    }

    /// Whether an incremental order can still be applied.
    pub fn is_sound(&self) -> bool {
        !self.broken
    }

    /// The version in force; `None` while an order is pending, and after one failed.
    pub fn in_force(&self) -> Option<u64> {
        self.requested
            .filter(|_| !self.broken && self.ended >= self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_in_force_when_its_order_has_succeeded() {
        let mut progress = Progress::default();
        assert_eq!(progress.in_force(), None);
        progress.begin(1, 70, true);
        assert_eq!(progress.in_force(), None);
        progress.begin(2, 71, false);
        progress.end(1, true);
        assert_eq!(progress.in_force(), None, "the second is under way");
        progress.end(2, true);
        assert_eq!(progress.in_force(), Some(71));
    }

    #[test]
    fn incremental_orders_after_a_failure_are_not_in_force_until_a_full_order() {
        let mut progress = Progress::default();
        progress.begin(1, 70, true);
        progress.begin(2, 71, false);
        progress.end(1, false);
        progress.end(2, true);
        assert_eq!(progress.in_force(), None);
        assert!(!progress.is_sound());
        progress.begin(3, 72, true);
        progress.end(3, true);
        assert_eq!(progress.in_force(), Some(72));
    }

    #[test]
    fn a_late_failure_of_an_order_before_a_full_one_is_ignored() {
        let mut progress = Progress::default();
        progress.begin(1, 70, false);
        progress.begin(2, 71, true);
        progress.end(1, false);
        progress.end(2, true);
        assert_eq!(progress.in_force(), Some(71));
    }
}
