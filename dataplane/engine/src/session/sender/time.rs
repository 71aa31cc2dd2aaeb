//! Retransmission of requests, and the time limit for peers that do not answer.

use super::{Phase, Sender, MS};
use crate::session::outbox::{Envelope, Outbox, IP_UDP};
use crate::session::peer::Peer;
use crate::session::report::SessionState;
use crate::session::wire::{self, Message, Terms};
use crate::{Instant, Io, NodeId, Pool};

/// First pause before a manifest is repeated, and the longest: short enough that a late receiver starts at once, and
/// that a path which loses nine of ten round trips brings one of them through before the time limit.
pub(super) const INVITE_NS: (u64, u64) = (20 * MS, 200 * MS);
/// Pause before a question is repeated: while no round trip was measured, the least, and the longest one for the
/// reason above.
const ASK_NS: (u64, u64, u64) = (100 * MS, 10 * MS, 200 * MS);
/// Every repetition waits this much longer, in eighths: gently, since a question is small and may just be lost.
const ASK_GROWTH: u64 = 10;
/// A receiver that is silent for this long, and for eight round trips, no longer holds up the others.
const MUTE_NS: u64 = 1_000 * MS;
/// How long what a gone receiver said last may take to arrive: the controller's word comes by another way, which may
/// be faster than links with a queue and a delay.
pub(super) const LAST_WORD_NS: u64 = 500 * MS;

impl Sender {
    /// `blocked`: the way out is full, so the pace is not what data waits for.
    pub(in crate::session) fn deadline(&self, blocked: bool) -> Option<Instant> {
        let pending = match self.phase {
            Phase::Done => return None,
            Phase::Sending if !blocked => self.next_data().map_or(self.next_ask, |at| at.min(self.next_ask)),
            Phase::Inviting | Phase::Sending | Phase::Asking(_) => self.next_ask,
        };
        Some(pending)
    }

    /// Repeats questions and gives up receivers whose time is over.
    pub(in crate::session) fn tick(&mut self, now: Instant, outbox: &mut Outbox, io: &mut Io) {
        if self.is_done() {
            return;
        }
        self.give_up(now, io);
        if now >= self.next_ask {
            self.ask(outbox, &mut io.pool);
            let longest =
                if self.phase == Phase::Inviting { INVITE_NS.1 } else { ASK_NS.2.max(self.ask_pause()) };
            self.ask_again_after(now, (self.pause * ASK_GROWTH / 8).min(longest));
        }
        self.go_on(now, outbox, io);
    }

    pub(super) fn ask(&self, outbox: &mut Outbox, pool: &mut Pool) {
        let envelope = Envelope { round: self.round as u8, ..self.envelope(self.dest) };
        match self.phase {
            Phase::Inviting => {
                let waits = |peer: &Peer| peer.turn && peer.state == SessionState::Waiting;
                // Also when it lists nobody: those that are ready wait, and hear from us by it.
                self.invite(self.dest, waits, outbox, pool);
            }
            Phase::Sending => {
                let offset = self.plan.sent_end().into();
                outbox.send(Envelope { offset, ..envelope }, &Message::Poll, pool);
            }
            // The first round is out, so there is a digest.
            Phase::Asking(_) => {
                let digest = self.digest.unwrap_or_default();
                outbox.send(envelope, &Message::SourceDone { digest }, pool);
            }
            Phase::Done => {}
        }
    }

    /// Sends a manifest to `to`, for the receivers that `which` picks.
    fn invite(&self, to: u32, which: impl Fn(&Peer) -> bool, outbox: &mut Outbox, pool: &mut Pool) {
        let listed: Vec<NodeId> =
            self.peers.iter().filter(|peer| which(peer)).map(|peer| peer.node).collect();
        let room = usize::from(outbox.mtu) - IP_UDP - wire::HEADER - wire::NUMBER - wire::MANIFEST;
        let (unit, cadence) = (self.unit as u16, self.cadence);
        let terms = Terms { total: self.total, unit, cadence };
        let mut parts = listed.chunks(room / wire::LISTED);
        let mut part: &[NodeId] = parts.next().unwrap_or_default();
        loop {
            let manifest = Message::Manifest { dest: self.dest, terms, listed: part.to_vec() };
            outbox.send(self.envelope(to), &manifest, pool);
            match parts.next() {
                Some(next) => part = next,
                None => break,
            }
        }
    }

    /// Invites one receiver: it asks whether we have something for it, or its turn has come.
    pub(in crate::session) fn solicited(&self, by: NodeId, outbox: &mut Outbox, pool: &mut Pool) {
        let waits = |peer: &Peer| peer.node == by && peer.turn && peer.state == SessionState::Waiting;
        if self.phase == Phase::Inviting && self.peers.iter().any(waits) {
            self.invite(outbox.addr(by), waits, outbox, pool);
        }
    }

    fn give_up(&mut self, now: Instant, io: &mut Io) {
        let limits = self.limits.clone();
        let rtt = self.longest_rtt();
        for index in 0..self.peers.len() {
            let peer = &mut self.peers[index];
            let silent = now.nanos_since(peer.heard);
            if let Some((_, reason)) = peer.gone.take_if(|(at, _)| now.nanos_since(*at) >= LAST_WORD_NS) {
                if !peer.state.is_final() {
                    self.end_peer(now, index, SessionState::Failed, reason, io);
                }
                continue;
            }
            let verdict = match peer.state {
                SessionState::Waiting if now.nanos_since(self.started) >= limits.ready_grace_ms * MS => {
                    let grace = limits.ready_grace_ms;
                    Some(match peer {
                        Peer { unclaimed: true, .. } => {
                            format!("no receive call waited for it within {grace} ms")
                        }
                        Peer { turn: false, .. } => {
                            format!(
                                "not ready within {grace} ms; it has not taken an earlier transfer either"
                            )
                        }
                        _ if self.bytes_sent == 0 => {
                            format!("not ready within {grace} ms; nothing could leave this node towards it")
                        }
                        _ => format!("not ready within {grace} ms"),
                    })
                }
                SessionState::Active if self.phase == Phase::Inviting => None,
                SessionState::Active if silent >= limits.peer_timeout_ms * MS => {
                    Some(format!("silent for {} ms", limits.peer_timeout_ms))
                }
                SessionState::Active if now.nanos_since(peer.advanced) >= 4 * limits.peer_timeout_ms * MS => {
                    Some(format!("answers, but got no data for {} ms", 4 * limits.peer_timeout_ms))
                }
                SessionState::Active => {
                    peer.muted = peer.gone.is_some() || silent >= MUTE_NS.max(8 * rtt.unwrap_or(0));
                    None
                }
                _ => None,
            };
            if let Some(reason) = verdict {
                self.end_peer(now, index, SessionState::TimedOut, reason, io);
            }
        }
    }

    pub(super) fn ask_again_after(&mut self, now: Instant, pause: u64) {
        self.pause = pause;
        self.next_ask = now.plus_nanos(pause);
    }

    pub(super) fn longest_rtt(&self) -> Option<u64> {
        let known = self.peers.iter().filter(|peer| peer.counts()).filter_map(|peer| peer.track.rtt());
        known.map(|rtt| rtt as u64).max()
    }

    pub(super) fn ask_pause(&self) -> u64 {
        let least = match self.phase {
            // Reports come by themselves here; only their absence is worth a question.
            Phase::Sending => ASK_NS.1.max(4 * self.cadence.nanos()),
            _ => ASK_NS.1,
        };
        self.longest_rtt().map_or(ASK_NS.0, |rtt| (2 * rtt).max(least))
    }
}
