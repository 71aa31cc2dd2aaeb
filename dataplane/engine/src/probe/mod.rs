//! Probes: measure capacity, round trip and loss of one link, through its impairments or below them.
//!
//! The node that probes sends, its neighbour counts what arrives and answers. Both sides exchange requests and reports
//! below the impairments, so a link that loses packets is measured, and not the exchange. A probe is bounded in
//! bytes and in time, and a node probes each of its links once at a time: a new probe of a link ends the one before.

mod answer;
pub(crate) mod report;
mod run;
mod wire;

use std::collections::BTreeMap;

use crate::link::Links;
use crate::{CommandError, Event, Instant, Io, LinkId, Packet, ProbeOrder, ProbeReport};
use answer::Answer;
use run::{Action, Run};
use wire::{Header, Kind, Received};

/// The addresses of this node, for the packets of probes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnAddress {
    pub ends: (u32, u32),
    pub mtu: u16,
}

/// The probes of a node, and what it has received of those of its neighbours.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    runs: BTreeMap<LinkId, Run>,
    answers: BTreeMap<LinkId, Answer>,
}

impl Probes {
    /// Begins a probe of a link; `own` has the addresses of its ends, this node's first.
    pub(crate) fn start(
        &mut self,
        now: Instant,
        link: LinkId,
        order: ProbeOrder,
        own: OwnAddress,
        links: &mut Links,
        io: &mut Io,
    ) -> Result<(), CommandError> {
        let Some(terms) = links.terms(link) else {
            return Err(CommandError::Invalid("the link was removed".to_owned()));
        };
        let remote = terms.remote;
        if links.refusal(link, order.below) == Some(crate::DropCause::LinkDown) {
            return Err(CommandError::Invalid(format!("the link to node {remote} is down")));
        }
        // The controller orders one probe of a link at a time, so it has given up one that runs, as when it was
        // restarted meanwhile.
        if let Some(mut run) = self.runs.remove(&link) {
            finish(run.failed(format!("probe {} of the link began", order.probe)), io);
        }
        self.runs.insert(link, Run::new(now, order, own.ends, own.mtu, terms));
        self.handle_timeout(now, links, io);
        Ok(())
    }

    /// Whether [`Probes::poll`] has something to send: a train, on a link whose transport is not full.
    pub(crate) fn may_transmit(&self, links: &Links) -> bool {
        self.runs.iter().any(|(&link, run)| run.sends_train() && !links.is_congested(link))
    }

    /// Sends one packet of a train per link. True when there may be more.
    pub(crate) fn poll(&mut self, now: Instant, links: &mut Links, io: &mut Io) -> bool {
        for (&link, run) in &mut self.runs {
            if run.sends_train() && !links.is_congested(link) {
                let action = run.poll(now, &mut io.pool);
                carry_out(now, link, run, action, links, io);
            }
        }
        self.may_transmit(links)
    }

    /// The next instant at which [`Probes::handle_timeout`] must be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.runs.values().map(Run::deadline).min()
    }

    /// Sends requests that are due, and ends probes whose neighbour does not answer.
    pub(crate) fn handle_timeout(&mut self, now: Instant, links: &mut Links, io: &mut Io) {
        self.runs.retain(|&link, run| {
            if run.deadline() > now {
                return true;
            }
            match run.handle_timeout(now, &mut io.pool) {
                Ok(action) => {
                    carry_out(now, link, run, action, links, io);
                    true
                }
                Err(error) => {
                    finish(run.failed(error), io);
                    false
                }
            }
        });
    }

    /// Ends the probes of a link that went down, and forgets those of the neighbour.
    pub(crate) fn link_down(&mut self, link: LinkId, io: &mut Io) {
        self.answers.remove(&link);
        if let Some(mut run) = self.runs.remove(&link) {
            let error = format!("the link to node {} went down", run.remote());
            finish(run.failed(error), io);
        }
    }

    /// Handles a packet of a neighbour; returns it when it belongs to no probe.
    pub(crate) fn handle_packet(
        &mut self,
        now: Instant,
        link: LinkId,
        packet: Packet,
        ends: (u32, u32),
        links: &mut Links,
        io: &mut Io,
    ) -> Option<Packet> {
        let Some(header) = Header::read(packet.payload()) else {
            return Some(packet);
        };
        match header.kind {
            Kind::Train | Kind::EchoRequest | Kind::ReportRequest => {
                let answer = self.answers.entry(link).or_default();
                answer.turn_to(&header);
                match header.kind {
                    Kind::Train => answer.train(now, &header, &packet),
                    Kind::EchoRequest => {
                        answer.echo(&header);
                        let echo =
                            wire::build(ends, Header { kind: Kind::Echo, ..header }, None, &mut io.pool);
                        links.send_probe(now, link, echo, header.below, io);
                    }
                    _ => {
                        let report = Received { echo_ns: echo_ns(links, link), ..answer.received() };
                        let header = Header { kind: Kind::Report, ..header };
                        let report = wire::build(ends, header, Some(&report), &mut io.pool);
                        links.send_probe(now, link, report, true, io);
                    }
                }
            }
            Kind::Echo | Kind::Report => self.handle_answer(now, link, &header, &packet, io),
        }
        io.pool.put(packet);
        None
    }

    fn handle_answer(&mut self, now: Instant, link: LinkId, header: &Header, packet: &Packet, io: &mut Io) {
        let Some(run) = self.runs.get_mut(&link).filter(|run| run.order().probe == header.probe) else {
            return;
        };
        if header.kind == Kind::Echo {
            run.echoed(now, header);
        } else if let Some(report) = Received::read(packet.payload()) {
            if let Some(result) = run.report(now, header, report) {
                self.runs.remove(&link);
                finish(result, io);
            }
        }
    }
}

fn finish(report: ProbeReport, io: &mut Io) {
    io.events.push(Event::ProbeFinished { report: Box::new(report) });
}

fn carry_out(now: Instant, link: LinkId, run: &Run, action: Action, links: &mut Links, io: &mut Io) {
    match action {
        Action::Below(packet) => links.send_probe(now, link, packet, true, io),
        Action::Measured(packet) => links.send_probe(now, link, packet, run.order().below, io),
        Action::Nothing => {}
    }
}

/// Nanoseconds for which an echo occupies a link at its rate.
fn echo_ns(links: &Links, link: LinkId) -> u64 {
    let rate = links.terms(link).and_then(|terms| terms.rate_bps);
    rate.map_or(0, |rate| wire::ECHO * 8 * 1_000_000_000 / rate.max(1))
}
