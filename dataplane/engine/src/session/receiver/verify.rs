//! Whether what arrived is what was sent.

use super::{Receiver, NUDGE_NS};
use crate::digest::Digest;
use crate::session::outbox::Outbox;
use crate::session::report::SessionState;
use crate::session::transfer::Transfer;
use crate::session::wire::Message;
use crate::{Instant, Io};

impl Receiver {
    /// Looks whether every byte is there. True when it is and the session has ended.
    pub(super) fn verify(&mut self, now: Instant, outbox: &mut Outbox, io: &mut Io) -> bool {
        let Some(found) = self.transfer.as_ref().and_then(Transfer::found) else {
            return false;
        };
        self.digest = found;
        self.nudge = Some((now.plus_nanos(NUDGE_NS.0), NUDGE_NS.0));
        self.judge(now, outbox, io)
    }

    /// Once everything is there and the sender has said what it sent, compares the two. Not before that are we
    /// complete, nor do we say so: a sender that hears it may end at once, and nobody could tell us then.
    pub(super) fn judge(&mut self, now: Instant, outbox: &mut Outbox, io: &mut Io) -> bool {
        let known = self.transfer.as_ref().and_then(|transfer| Some((transfer.found()?, transfer.promised?)));
        let Some((found, promised)) = known.filter(|_| self.state == SessionState::Active) else {
            return false;
        };
        if found == promised {
            self.end(now, SessionState::Complete, String::new(), outbox.node_id, io);
            self.answer(self.complete_message(), outbox, &mut io.pool);
            self.nudge = Some((now.plus_nanos(NUDGE_NS.0), NUDGE_NS.0));
        } else {
            let reason = "digest differs: what arrived is not what the sender has sent".to_owned();
            self.end(now, SessionState::Failed, reason.clone(), outbox.node_id, io);
            self.answer(Message::Leave { failed: true, reason }, outbox, &mut io.pool);
        }
        true
    }

    pub(super) fn complete_message(&self) -> Message {
        let bytes = self.transfer.as_ref().map_or(0, |transfer| transfer.bytes);
        Message::Complete { bytes, digest: self.digest }
    }

    /// The sender says what the digest is. What it said first counts: it cannot change.
    pub(super) fn promise(&mut self, digest: Digest) {
        if let Some(transfer) = &mut self.transfer {
            transfer.promised.get_or_insert(digest);
        }
    }
}
