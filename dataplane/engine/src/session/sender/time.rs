//! Retransmission of requests, and the time limit for peers that do not answer.

use super::{Phase, Sender, MS};
use crate::session::peer::Peer;
use crate::session::report::SessionState;
use crate::session::send_queue::{Envelope, SendQueue};
use crate::session::wire::{self, Message, Terms, IP_UDP};
use crate::{Instant, Io, NodeId, Pool};

/// First and longest interval between manifests: short enough that a late receiver starts quickly, and that on a path
/// which loses nine of ten round trips one succeeds before the time limit.
pub(super) const OFFER_NS: (u64, u64) = (20 * MS, 200 * MS);
/// Interval between requests: without a measured round-trip time, the minimum, and the maximum for the reason above.
const REQUEST_NS: (u64, u64, u64) = (100 * MS, 10 * MS, 200 * MS);
/// Factor between consecutive intervals, in eighths: small, since a request is short and probably just lost.
const REQUEST_GROWTH: u64 = 10;
/// A receiver without a message for this long, and for eight round trips, no longer delays the others.
const UNRESPONSIVE_NS: u64 = 1_000 * MS;
/// How long the last messages of a gone receiver may take to arrive: the report of the controller uses another path,
/// which may be faster than links with a queue and a delay.
pub(super) const LATE_MESSAGE_NS: u64 = 500 * MS;

impl Sender {
    /// `blocked`: the transport of the outgoing link is full, so pacing is not what delays data.
    pub(in crate::session) fn deadline(&self, blocked: bool) -> Option<Instant> {
        let pending = match self.phase {
            Phase::Done => return None,
            Phase::Sending if !blocked => {
                self.next_data().map_or(self.next_request, |at| at.min(self.next_request))
            }
            Phase::Offering | Phase::Sending | Phase::Requesting(_) => self.next_request,
        };
        Some(pending)
    }

    /// Retransmits requests and ends receivers whose time limit is over.
    pub(in crate::session) fn tick(&mut self, now: Instant, queue: &mut SendQueue, io: &mut Io) {
        if self.is_done() {
            return;
        }
        self.check_timeouts(now, io);
        if now >= self.next_request {
            self.send_request(queue, &mut io.pool);
            let longest = if self.phase == Phase::Offering {
                OFFER_NS.1
            } else {
                REQUEST_NS.2.max(self.shortest_request_interval())
            };
            self.schedule_request(now, (self.request_interval * REQUEST_GROWTH / 8).min(longest));
        }
        self.advance(now, queue, io);
    }

    pub(super) fn send_request(&self, queue: &mut SendQueue, pool: &mut Pool) {
        let envelope = Envelope { round: self.round as u8, ..self.envelope(self.dest) };
        match self.phase {
            Phase::Offering => {
                let waits = |peer: &Peer| peer.may_offer && peer.state == SessionState::Waiting;
                // Sent even with an empty list: receivers that are ready recognise by it that the sender is alive.
                self.send_offer(self.dest, waits, queue, pool);
            }
            Phase::Sending => {
                let index = self.plan.sent_end();
                queue.send(Envelope { index, ..envelope }, &Message::Poll, pool);
            }
            // The first round is complete, so the digest exists.
            Phase::Requesting(_) => {
                let digest = self.digest.unwrap_or_default();
                queue.send(envelope, &Message::SourceDone { digest }, pool);
            }
            Phase::Done => {}
        }
    }

    /// Sends a manifest to `to`, listing the receivers that `which` selects.
    fn send_offer(&self, to: u32, which: impl Fn(&Peer) -> bool, queue: &mut SendQueue, pool: &mut Pool) {
        let listed: Vec<NodeId> =
            self.peers.iter().filter(|peer| which(peer)).map(|peer| peer.node).collect();
        let room = usize::from(queue.mtu) - IP_UDP - wire::HEADER - wire::NUMBER - wire::MANIFEST;
        let (segment_size, interval) = (self.segment_size as u16, self.interval);
        let terms = Terms { total: self.total, segment_size, interval };
        let mut parts = listed.chunks(room / wire::LISTED);
        let mut part: &[NodeId] = parts.next().unwrap_or_default();
        loop {
            let manifest = Message::Manifest { dest: self.dest, terms, listed: part.to_vec() };
            queue.send(self.envelope(to), &manifest, pool);
            match parts.next() {
                Some(next) => part = next,
                None => break,
            }
        }
    }

    /// Sends the offer to one receiver, on its request or when its earlier transfers are accepted.
    pub(in crate::session) fn solicited(&self, by: NodeId, queue: &mut SendQueue, pool: &mut Pool) {
        let waits = |peer: &Peer| peer.node == by && peer.may_offer && peer.state == SessionState::Waiting;
        if self.phase == Phase::Offering && self.peers.iter().any(waits) {
            self.send_offer(queue.addr(by), waits, queue, pool);
        }
    }

    fn check_timeouts(&mut self, now: Instant, io: &mut Io) {
        let limits = self.limits.clone();
        let rtt = self.longest_rtt();
        for index in 0..self.peers.len() {
            let peer = &mut self.peers[index];
            let silent = now.nanos_since(peer.last_received);
            if let Some((_, reason)) = peer.gone.take_if(|(at, _)| now.nanos_since(*at) >= LATE_MESSAGE_NS) {
                if !peer.state.is_final() {
                    self.end_peer(now, index, SessionState::Failed, reason, io);
                }
                continue;
            }
            let failure = match peer.state {
                SessionState::Waiting if now.nanos_since(self.started) >= limits.ready_grace_ms * MS => {
                    let grace = limits.ready_grace_ms;
                    Some(match peer {
                        Peer { unclaimed: true, .. } => {
                            format!("no receive call waited for it within {grace} ms")
                        }
                        Peer { may_offer: false, .. } => {
                            format!(
                                "not ready within {grace} ms; it has not taken an earlier transfer either"
                            )
                        }
                        _ if self.bytes_sent == 0 => {
                            format!("not ready within {grace} ms; no packet could be sent towards it")
                        }
                        _ => format!("not ready within {grace} ms"),
                    })
                }
                SessionState::Active if self.phase == Phase::Offering => None,
                SessionState::Active if silent >= limits.peer_timeout_ms * MS => {
                    Some(format!("silent for {} ms", limits.peer_timeout_ms))
                }
                SessionState::Active if now.nanos_since(peer.advanced) >= 4 * limits.peer_timeout_ms * MS => {
                    Some(format!(
                        "sends messages, but received no data for {} ms",
                        4 * limits.peer_timeout_ms
                    ))
                }
                SessionState::Active => {
                    peer.unresponsive =
                        peer.gone.is_some() || silent >= UNRESPONSIVE_NS.max(8 * rtt.unwrap_or(0));
                    None
                }
                _ => None,
            };
            if let Some(reason) = failure {
                self.end_peer(now, index, SessionState::TimedOut, reason, io);
            }
        }
    }

    pub(super) fn schedule_request(&mut self, now: Instant, interval: u64) {
        self.request_interval = interval;
        self.next_request = now.plus_nanos(interval);
    }

    pub(super) fn longest_rtt(&self) -> Option<u64> {
        let known = self.peers.iter().filter(|peer| peer.is_responsive()).filter_map(|peer| peer.path.rtt());
        known.map(|rtt| rtt as u64).max()
    }

    pub(super) fn shortest_request_interval(&self) -> u64 {
        let least = match self.phase {
            // Receivers report without a request in this phase; a request is only needed when reports are missing.
            Phase::Sending => REQUEST_NS.1.max(4 * self.interval.nanos()),
            _ => REQUEST_NS.1,
        };
        self.longest_rtt().map_or(REQUEST_NS.0, |rtt| (2 * rtt).max(least))
    }
}
