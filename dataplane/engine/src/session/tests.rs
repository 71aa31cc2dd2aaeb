//! Test sessions of one engine with hand-made frames from its neighbour.

mod digests;
mod incarnations;
mod offers;

use std::net::Ipv4Addr;

use super::report_interval::ReportInterval;
use super::wire::{Header, Message, Terms};
use super::*;
use crate::digest::Digest;
use crate::vnet::GSO_UDP_L4;
use crate::{
    Command, CommandOutput, Engine, LinkSpec, NodeConfig, Packet, PeerReport, Pool, SharedBytes, VnetHeader,
    HEADROOM,
};

const SENDER: NodeId = 2;
const HERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const UNIT: usize = 1460;

/// Node 1 with a link to node 2; the test sends and receives the packets of node 2.
struct Fixture {
    engine: Engine,
    io: Io,
    now: Instant,
}

impl Fixture {
    fn new() -> Self {
        let mut io = Io::new(Pool::standalone());
        let mut engine = Engine::new(NodeConfig { incarnation: 1, ..NodeConfig::new(1) });
        let link = Command::AddLink { remote: SENDER, remote_name: "n2".into(), spec: LinkSpec::default() };
        let routes =
            Command::InstallRoutes { table: Some(vec![0, 0, SENDER]), routes: vec![], removed: vec![] };
        for command in [link, routes] {
            engine.handle_command(Instant::ZERO, command, &mut io).expect("accepted");
        }
        engine.handle_link_state(Instant::ZERO, 0, true, &mut io);
        Self { engine, io, now: Instant::ZERO }
    }

    fn session(&mut self, command: Command) -> SessionId {
        match self.engine.handle_command(self.now, command, &mut self.io) {
            Ok(CommandOutput::Session(id)) => id,
            other => panic!("a session, not {other:?}"),
        }
    }

    fn receive(&mut self, expected_bytes: u64) -> SessionId {
        self.session(Command::ReceiveData { dest: HERE, source: SENDER, expected_bytes })
    }

    fn send(&mut self, data: &[u8]) -> SessionId {
        let dest = Ipv4Addr::new(10, 0, 0, 2);
        let data = SharedBytes::new(data.to_vec());
        self.session(Command::SendData { dest, receivers: vec![SENDER], data })
    }

    fn cancel(&mut self, session: SessionId) -> Result<CommandOutput, CommandError> {
        self.engine.handle_command(self.now, Command::CancelSession { session }, &mut self.io)
    }

    /// Passes a session payload from node 2 to the engine.
    fn inject(&mut self, payload: &[u8]) {
        self.inject_with(payload, VnetHeader::default());
    }

    /// The same for many segments in one packet.
    fn inject_super(&mut self, payload: &[u8]) {
        let (gso_size, hdr_len) = ((UNIT + wire::HEADER) as u16, wire::IP_UDP as u16);
        self.inject_with(
            payload,
            VnetHeader { gso_type: GSO_UDP_L4, gso_size, hdr_len, ..VnetHeader::default() },
        );
    }

    fn inject_with(&mut self, payload: &[u8], vnet: VnetHeader) {
        let mut packet = self.io.pool.get_for(wire::IP_UDP + payload.len());
        let len = wire::IP_UDP + payload.len();
        if let Some(storage) = packet.storage_mut() {
            let out = &mut storage[HEADROOM..HEADROOM + len];
            out[wire::IP_UDP..].copy_from_slice(payload);
            send_queue::emit_headers(out, u32::from(HERE) + 1, u32::from(HERE));
        }
        packet.set_frame(HEADROOM, len, vnet);
        packet.parse(1500).expect("a valid packet");
        self.engine.handle_link(self.now, 0, packet, &mut self.io);
    }

    fn inject_message(&mut self, number: u64, message: &Message) {
        self.inject(&frame(number, message));
    }

    fn offer(&mut self, number: u64, data: &[u8]) {
        let terms = Terms {
            total: data.len() as u64,
            segment_size: UNIT as u16,
            interval: ReportInterval::for_receivers(1),
        };
        self.inject_message(number, &Message::Manifest { dest: u32::from(HERE), terms, listed: vec![1] });
    }

    /// Passes all data to the engine, followed by the end of the round.
    fn deliver(&mut self, number: u64, data: &[u8]) {
        self.segments(number, data);
        self.inject_message(number, &Message::SourceDone { digest: digest(data) });
    }

    fn segments(&mut self, number: u64, data: &[u8]) {
        for (index, part) in data.chunks(UNIT).enumerate() {
            self.inject(&segment(number, 0, index, part));
        }
    }

    /// The messages that the engine has sent to node 2 since the last call.
    fn sent_messages(&mut self) -> Vec<(u64, Message)> {
        let read = |packet: &Packet| {
            let (header, body) = Header::read(packet.payload())?;
            Message::read(header.kind, body)
        };
        let sent_messages = self.io.transmits.iter().filter_map(|(_, packet)| read(packet)).collect();
        self.io.transmits.clear();
        sent_messages
    }

    fn report(&mut self, session: SessionId) -> SessionReport {
        match self.engine.handle_command(self.now, Command::SessionReport { session }, &mut self.io) {
            Ok(CommandOutput::Report(report)) => *report,
            other => panic!("a report, not {other:?}"),
        }
    }

    fn state(&mut self, session: SessionId) -> SessionState {
        self.report(session).state
    }

    fn peer(&mut self, session: SessionId) -> PeerReport {
        self.report(session).peers.remove(0)
    }

    fn received(&self, session: SessionId) -> Option<Vec<u8>> {
        self.io.events.iter().find_map(|event| match event {
            Event::SessionFinished { report, data: Some(data) } if report.session == session => {
                Some(data.0.to_vec())
            }
            _ => None,
        })
    }

    /// Accepts the offer of the engine's sender and lets it send all data.
    fn get_ready(&mut self, number: u64) {
        self.inject_message(number, &Message::Ready { capacity: 1 << 20 });
        while self.engine.poll_transmit(self.now, &mut self.io) {}
    }

    fn advance(&mut self, ms: u64) {
        self.now = self.now.plus_nanos(ms * 1_000_000);
        self.engine.handle_timeout(self.now, &mut self.io);
    }

    /// The transfer number that the engine's sender offers.
    fn offered(&mut self) -> u64 {
        self.advance(1);
        let found = self.sent_messages().into_iter().find_map(|(number, message)| match message {
            Message::Manifest { .. } => Some(number),
            _ => None,
        });
        found.expect("an offer")
    }
}

fn frame(number: u64, message: &Message) -> Vec<u8> {
    let mut payload = vec![0; wire::HEADER];
    Header { kind: message.kind(), tree: 0, round: 0, tag: tag_of(number), index: 0, sequence: 0 }
        .write(&mut payload);
    payload.extend_from_slice(&number.to_be_bytes());
    message.write(&mut payload);
    payload
}

/// The digest that a sender of these bytes sends.
fn digest(data: &[u8]) -> Digest {
    Digest::of(data, UNIT)
}

fn segment(number: u64, round: u8, index: usize, part: &[u8]) -> Vec<u8> {
    let mut payload = vec![0; wire::HEADER];
    let index = index as u32;
    Header { kind: wire::DATA, tree: 0, round, tag: tag_of(number), index, sequence: index as u16 }
        .write(&mut payload);
    payload.extend_from_slice(part);
    payload
}

fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|index| (index as u8).wrapping_mul(31) ^ seed).collect()
}
