//! One engine, and frames made by hand from the node on the other end of its link.

mod digests;
mod lives;
mod offers;

use std::net::Ipv4Addr;

use super::cadence::Cadence;
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

/// Node 1 with a link to node 2, which is the test.
struct Bench {
    engine: Engine,
    io: Io,
    now: Instant,
}

impl Bench {
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

    /// Hands a session payload from node 2 to the engine.
    fn hand(&mut self, payload: &[u8]) {
        self.hand_as(payload, VnetHeader::default());
    }

    /// The same for many segments in one packet.
    fn hand_super(&mut self, payload: &[u8]) {
        let (gso_size, hdr_len) = ((UNIT + wire::HEADER) as u16, outbox::IP_UDP as u16);
        self.hand_as(
            payload,
            VnetHeader { gso_type: GSO_UDP_L4, gso_size, hdr_len, ..VnetHeader::default() },
        );
    }

    fn hand_as(&mut self, payload: &[u8], vnet: VnetHeader) {
        let mut packet = self.io.pool.get_for(outbox::IP_UDP + payload.len());
        let len = outbox::IP_UDP + payload.len();
        if let Some(storage) = packet.storage_mut() {
            let out = &mut storage[HEADROOM..HEADROOM + len];
            out[outbox::IP_UDP..].copy_from_slice(payload);
            outbox::emit_headers(out, u32::from(HERE) + 1, u32::from(HERE));
        }
        packet.set_frame(HEADROOM, len, vnet);
        packet.parse(1500).expect("a good packet");
        self.engine.handle_link(self.now, 0, packet, &mut self.io);
    }

    fn tell(&mut self, number: u64, message: &Message) {
        self.hand(&frame(number, message));
    }

    fn offer(&mut self, number: u64, data: &[u8]) {
        let terms = Terms { total: data.len() as u64, unit: UNIT as u16, cadence: Cadence::for_receivers(1) };
        self.tell(number, &Message::Manifest { dest: u32::from(HERE), terms, listed: vec![1] });
    }

    /// Hands over all of the data and says that this was it.
    fn deliver(&mut self, number: u64, data: &[u8]) {
        self.segments(number, data);
        self.tell(number, &Message::SourceDone { digest: digest(data) });
    }

    fn segments(&mut self, number: u64, data: &[u8]) {
        for (index, part) in data.chunks(UNIT).enumerate() {
            self.hand(&segment(number, 0, index, part));
        }
    }

    /// What the engine has sent to node 2 since the last time.
    fn said(&mut self) -> Vec<(u64, Message)> {
        let read = |packet: &Packet| {
            let (header, body) = Header::read(packet.payload())?;
            Message::read(header.kind, body)
        };
        let said = self.io.transmits.iter().filter_map(|(_, packet)| read(packet)).collect();
        self.io.transmits.clear();
        said
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

    /// Gets ready for what our sender offers, and lets it send everything.
    fn get_ready(&mut self, number: u64) {
        self.tell(number, &Message::Ready { capacity: 1 << 20 });
        while self.engine.poll_transmit(self.now, &mut self.io) {}
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.plus_nanos(ms * 1_000_000);
        self.engine.handle_timeout(self.now, &mut self.io);
    }

    /// The number that our sender offers.
    fn offered(&mut self) -> u64 {
        self.pass(1);
        let found = self.said().into_iter().find_map(|(number, message)| match message {
            Message::Manifest { .. } => Some(number),
            _ => None,
        });
        found.expect("an offer")
    }
}

fn frame(number: u64, message: &Message) -> Vec<u8> {
    let mut payload = vec![0; wire::HEADER];
    Header { kind: message.kind(), round: 0, tag: tag_of(number), offset: 0 }.write(&mut payload);
    payload.extend_from_slice(&number.to_be_bytes());
    message.write(&mut payload);
    payload
}

/// What a sender of these bytes says.
fn digest(data: &[u8]) -> Digest {
    Digest::of(data, UNIT)
}

fn segment(number: u64, round: u8, index: usize, part: &[u8]) -> Vec<u8> {
    let mut payload = vec![0; wire::HEADER];
    let offset = (index * UNIT) as u64;
    Header { kind: wire::DATA, round, tag: tag_of(number), offset }.write(&mut payload);
    payload.extend_from_slice(part);
    payload
}

fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|index| (index as u8).wrapping_mul(31) ^ seed).collect()
}
