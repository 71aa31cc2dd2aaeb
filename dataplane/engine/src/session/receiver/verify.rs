//! Verify a received transfer by its digest.

use super::{Receiver, RETRANSMIT_NS};
use crate::digest::Digest;
use crate::session::report::SessionState;
use crate::session::send_queue::SendQueue;
use crate::session::transfer::Transfer;
use crate::session::wire::Message;
use crate::{Instant, Io};

impl Receiver {
    /// Computes the digest when every byte has arrived, and compares it. True when the session has ended.
    pub(super) fn verify(&mut self, now: Instant, queue: &mut SendQueue, io: &mut Io) -> bool {
        let Some(found) = self.transfer.as_ref().and_then(Transfer::computed_digest) else {
            return false;
        };
        self.digest = found;
        self.retransmit = Some((now.plus_nanos(RETRANSMIT_NS.0), RETRANSMIT_NS.0));
        self.compare_digests(now, queue, io)
    }

    /// Compares both digests when every byte and the sender's digest have arrived. Only then is the session complete
    /// and reported as such: a sender that receives the report may end immediately and could not reply any more.
    pub(super) fn compare_digests(&mut self, now: Instant, queue: &mut SendQueue, io: &mut Io) -> bool {
        let known = self
            .transfer
            .as_ref()
            .and_then(|transfer| Some((transfer.computed_digest()?, transfer.expected_digest?)));
        let Some((found, expected_digest)) = known.filter(|_| self.state == SessionState::Active) else {
            return false;
        };
        if found == expected_digest {
            self.end(now, SessionState::Complete, String::new(), queue.node_id, io);
            self.answer(self.complete_message(), queue, &mut io.pool);
            self.retransmit = Some((now.plus_nanos(RETRANSMIT_NS.0), RETRANSMIT_NS.0));
        } else {
            let reason = "digest differs: the received bytes are not those that were sent".to_owned();
            self.end(now, SessionState::Failed, reason.clone(), queue.node_id, io);
            self.answer(Message::Leave { failed: true, reason }, queue, &mut io.pool);
        }
        true
    }

    pub(super) fn complete_message(&self) -> Message {
        let bytes = self.transfer.as_ref().map_or(0, |transfer| transfer.bytes);
        Message::Complete { bytes, digest: self.digest }
    }

    /// Stores the digest of the sender. The first one is kept: it does not change.
    pub(super) fn set_expected_digest(&mut self, digest: Digest) {
        if let Some(transfer) = &mut self.transfer {
            transfer.expected_digest.get_or_insert(digest);
        }
    }
}
