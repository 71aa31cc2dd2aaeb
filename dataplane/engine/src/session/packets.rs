//! Map received packets to sessions, and answer packets of unknown transfers.

use std::collections::BTreeSet;

use super::receiver::Receiver;
use super::send_queue::Envelope;
use super::wire::{self, tag_of, Header, Message, Terms};
use super::{Sessions, LEFT};
use crate::{Instant, Io, NodeId, Packet};

impl Sessions {
    pub(crate) fn handle_packet(&mut self, now: Instant, from: NodeId, packet: &Packet, io: &mut Io) {
        let Some((header, body)) = Header::read(packet.payload()) else {
            return;
        };
        if header.kind == wire::DATA {
            let Some(&id) = self.tags.get(&(from, header.tag)) else {
                return;
            };
            if let Some(receiver) = self.receivers.get_mut(&id) {
                if receiver.data(now, packet, &mut self.queue, io) {
                    self.after_receiver(id);
                }
            }
            return;
        }
        let Some((number, message)) = Message::read(header.kind, body) else {
            return;
        };
        match message {
            Message::Manifest { dest, terms, listed } => {
                if listed.contains(&self.queue.node_id) {
                    self.handle_offer(now, from, dest, number, terms, io);
                } else if let Some(receiver) = self.receiver_of(from, number) {
                    receiver.mark_received(now);
                }
            }
            Message::Solicit { dest } => {
                let first = self.offered.get(&(dest, from)).and_then(BTreeSet::first);
                if let Some(sender) = first.and_then(|id| self.senders.get(id)) {
                    sender.solicited(from, &mut self.queue, &mut io.pool);
                }
            }
            Message::SourceDone { .. } | Message::Abort { .. } | Message::Ack | Message::Poll => {
                self.handle_from_sender(now, from, header, number, &message, io);
            }
            _ => self.handle_from_receiver(now, from, header.round, number, message, io),
        }
    }

    /// The receiving session of a transfer, if it is not in the history.
    fn receiver_of(&mut self, source: NodeId, number: u64) -> Option<&mut Receiver> {
        self.receivers.get_mut(self.accepted.get(&(source, number))?)
    }

    fn handle_from_receiver(
        &mut self,
        now: Instant,
        from: NodeId,
        round: u8,
        number: u64,
        message: Message,
        io: &mut Io,
    ) {
        let id = self.sent.get(&number).copied();
        if let Some(sender) = id.and_then(|id| self.senders.get_mut(&id)) {
            if message == Message::Unclaimed {
                let dest = sender.dest;
                for behind in self.offered.get(&(dest, from)).into_iter().flatten() {
                    if let Some(sender) = self.senders.get_mut(behind) {
                        sender.unclaimed(from);
                    }
                }
                return;
            }
            let id = sender.id();
            sender.handle(now, from, round, message, &mut self.queue, io);
            self.after_sender(id, io);
            return;
        }
        let answer = match id.and_then(|id| self.sender_history.get(id)) {
            Some(sender) => sender.late_answer(from, &message),
            None => Some(Message::Abort {
                known: false,
                reason: "the sender does not know this transfer; was it restarted?".to_owned(),
            }),
        };
        let waits = matches!(
            message,
            Message::Ready { .. } | Message::Progress(_) | Message::Need { .. } | Message::Complete { .. }
        );
        if let Some(answer) = answer.filter(|_| waits) {
            let to = self.queue.addr(from);
            let envelope = Envelope { to, number, session: id, ..Envelope::default() };
            self.queue.send(envelope, &answer, &mut io.pool);
        }
    }

    fn handle_from_sender(
        &mut self,
        now: Instant,
        from: NodeId,
        header: Header,
        number: u64,
        message: &Message,
        io: &mut Io,
    ) {
        let id = self.accepted.get(&(from, number)).copied();
        if let Some(receiver) = id.and_then(|id| self.receivers.get_mut(&id)) {
            let id = receiver.id;
            receiver.handle(now, header, message, &mut self.queue, io);
            self.after_receiver(id);
            return;
        }
        if !matches!(message, Message::Poll | Message::SourceDone { .. }) {
            return;
        }
        if let Some(receiver) = id.and_then(|id| self.receiver_history.get(id)) {
            receiver.send_state(&mut self.queue, &mut io.pool);
            return;
        }
        // Either the transfer is for other nodes, which ignore this, or this node was restarted and the sender must
        // not wait for it.
        let reason = "it does not know the transfer; was it restarted?".to_owned();
        let leave = Message::Leave { failed: true, reason };
        let (to, round) = (self.queue.addr(from), header.round);
        self.queue.send(Envelope { to, number, round, ..Envelope::default() }, &leave, &mut io.pool);
    }

    /// Processes an offer: the session that accepted it repeats its state; otherwise the oldest waiting receive call
    /// accepts it.
    fn handle_offer(
        &mut self,
        now: Instant,
        from: NodeId,
        dest: u32,
        number: u64,
        terms: Terms,
        io: &mut Io,
    ) {
        if let Some(&id) = self.accepted.get(&(from, number)) {
            if let Some(receiver) = self.receivers.get_mut(&id) {
                receiver.reply_with_state(now, &mut self.queue, &mut io.pool);
            } else if let Some(receiver) = self.receiver_history.get(id) {
                receiver.send_state(&mut self.queue, &mut io.pool);
            }
            return;
        }
        if self.withdrawn.contains(&(from, number)) {
            return;
        }
        let first = self.waiting.get(&(dest, from)).and_then(BTreeSet::first).copied();
        let Some((id, receiver)) = first.and_then(|id| Some((id, self.receivers.get_mut(&id)?))) else {
            let to = self.queue.addr(from);
            let envelope = Envelope { to, number, ..Envelope::default() };
            let answer = match self.left.contains(&dest) {
                true => Message::Leave { failed: false, reason: LEFT.to_owned() },
                false => Message::Unclaimed,
            };
            self.queue.send(envelope, &answer, &mut io.pool);
            return;
        };
        self.accepted.insert((from, number), id);
        self.tags.insert((from, tag_of(number)), id);
        receiver.accept(now, number, terms, &mut self.queue, io);
        self.after_receiver(id);
    }
}
