//! Fuzz the lossless protocol: messages to a node that sends and receives.

use std::net::Ipv4Addr;

use nm_engine::vnet::GSO_UDP_L4;
use nm_engine::{
    Command, CommandOutput, Engine, Event, Instant, Io, LinkId, NodeConfig, NodeId, Pool,
    SharedBytes, VnetHeader, SESSION_PORT,
};

use crate::input::Input;
use crate::reference::Shape;
use crate::setup::{self, GROUP};

const NODE: NodeId = 1;
const PEERS: [NodeId; 2] = [2, 3];
const STEPS: usize = 64;
/// Bytes of a transfer: some hundred segments.
const TRANSFER: usize = 300_000;
/// Where a session message begins in its packet, and the length of the fields before its body.
const PAYLOAD: usize = 28;
const HEADER: usize = 12;
/// Largest number of messages after one step: a reply about missing segments takes 64 messages, and each of the
/// sessions that the steps may have opened sends a few when time passes.
const MOST_ANSWERS: usize = 64 + 4 * STEPS;

/// Runs the messages that the bytes describe against open sessions.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut io = Io::new(Pool::standalone());
    let mut node = Node::new(&mut io);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        node.step(&mut input, &mut io);
    }
}

struct Node {
    engine: Engine,
    link: LinkId,
    now: Instant,
    /// Tags that the node itself has sent, and the tags of offers that it may have accepted.
    tags: Vec<u32>,
    /// The transfers that the node has named.
    numbers: Vec<u64>,
}

impl Node {
    fn new(io: &mut Io) -> Self {
        let mut engine = Engine::new(NodeConfig::new(NODE));
        let now = Instant(1);
        let link = setup::add_link(&mut engine, now, 2, io);
        setup::install(&mut engine, now, vec![0, 0, 2, 2], NODE, &[2], io);
        let mut node = Self {
            engine,
            link,
            now,
            tags: vec![0],
            numbers: Vec::new(),
        };
        for dest in [GROUP, Ipv4Addr::new(10, 0, 0, 2)] {
            node.send(dest, io);
        }
        for source in PEERS {
            node.receive(GROUP, source, io);
            node.receive(Ipv4Addr::new(10, 0, 0, 1), source, io);
        }
        node.take_effects(io);
        node
    }

    fn send(&mut self, dest: Ipv4Addr, io: &mut Io) {
        let receivers = if dest == GROUP {
            PEERS.to_vec()
        } else {
            vec![2]
        };
        let data = SharedBytes::new(vec![7u8; TRANSFER]);
        let send = Command::SendData {
            dest,
            receivers,
            data,
        };
        self.engine
            .handle_command(self.now, send, io)
            .expect("a valid transfer");
    }

    fn receive(&mut self, dest: Ipv4Addr, source: NodeId, io: &mut Io) {
        let receive = Command::ReceiveData {
            dest,
            source,
            expected_bytes: TRANSFER as u64,
        };
        let answer = self.engine.handle_command(self.now, receive, io);
        assert!(
            matches!(answer, Ok(CommandOutput::Session(_))),
            "{answer:?}"
        );
    }

    fn step(&mut self, input: &mut Input<'_>, io: &mut Io) {
        match input.u8() % 8 {
            0 => {
                let pause = u64::from(input.u16()) << (input.u8() % 32);
                self.now = Instant(self.now.nanos().saturating_add(pause));
                self.engine.handle_timeout(self.now, io);
            }
            1 => {
                for _ in 0..input.u8() % 8 {
                    self.engine.poll_transmit(self.now, io);
                }
            }
            2 if input.u8().is_multiple_of(8) => match input.u8() % 3 {
                0 => self.send(GROUP, io),
                1 => self.receive(GROUP, input.one_of(&PEERS), io),
                _ => {
                    let gone = Command::NodeGone {
                        node: input.one_of(&PEERS),
                        reason: "gone".into(),
                    };
                    self.engine
                        .handle_command(self.now, gone, io)
                        .expect("always done");
                }
            },
            _ => self.message(input, io),
        }
        self.take_effects(io);
    }

    /// A message with a valid header around a body from the input.
    fn message(&mut self, input: &mut Input<'_>, io: &mut Io) {
        let from = input.one_of(&PEERS);
        let kind = input.one_of(&[1, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        let (round, tag) = (input.u8() % 4, self.tag(input));
        let segment_size = usize::from(input.one_of(&[1460u16, 1, 0, 536, u16::MAX]));
        // A position in the transfer, or any.
        let (index, sequence) = match input.u8() % 4 {
            0 => (input.u32(), input.u16()),
            _ => (u32::from(input.u8()), 0),
        };
        let mut header = vec![kind, round];
        header.extend_from_slice(&tag.to_be_bytes());
        header.extend_from_slice(&index.to_be_bytes());
        header.extend_from_slice(&sequence.to_be_bytes());
        let mut body = body(input, kind, segment_size);
        // Messages other than data contain the complete transfer number; the tag is its upper half.
        if kind != 3 {
            let number = u64::from(tag) << 32 | u64::from(self.low(input, tag));
            body.splice(0..0, number.to_be_bytes());
        }
        let length = usize::from(input.u8());
        body.extend_from_slice(input.bytes(length));
        let segment = [header, body].concat();
        let copies = if kind == 3 {
            1 + usize::from(input.u8() % 4)
        } else {
            1
        };
        let dst = input.one_of(&[[10, 0, 0, 1], GROUP.octets()]);
        let bytes = datagram([10, 0, 0, from as u8], dst, &segment.repeat(copies));
        let vnet = match copies {
            1 => VnetHeader::default(),
            _ => VnetHeader {
                gso_type: GSO_UDP_L4,
                gso_size: segment.len() as u16,
                ..VnetHeader::default()
            },
        };
        let mut packet = io.pool.get();
        packet.fill(&bytes, vnet).expect("a large buffer");
        self.tags.push(tag);
        self.engine.handle_link(self.now, self.link, packet, io);
    }

    fn tag(&self, input: &mut Input<'_>) -> u32 {
        match input.u8() {
            0 => input.u32(),
            choice => self.tags[usize::from(choice) % self.tags.len()],
        }
    }

    /// The lower half of a number whose tag is known, or any.
    fn low(&self, input: &mut Input<'_>, tag: u32) -> u32 {
        let known = self
            .numbers
            .iter()
            .find(|number| (**number >> 32) as u32 == tag);
        match (input.u8(), known) {
            (0, _) | (_, None) => input.u32(),
            (_, Some(number)) => *number as u32,
        }
    }

    fn take_effects(&mut self, io: &mut Io) {
        assert!(
            io.transmits.len() <= MOST_ANSWERS,
            "{} answers",
            io.transmits.len()
        );
        assert!(io.events.len() <= 4 * STEPS, "{:?}", io.events);
        assert!(io.deliveries.is_empty());
        for (_, packet) in io.transmits.drain(..) {
            let bytes = packet.bytes();
            if let Some(header) = bytes.get(PAYLOAD..PAYLOAD + HEADER) {
                let tag = u32::from_be_bytes([header[2], header[3], header[4], header[5]]);
                if !self.tags.contains(&tag) {
                    self.tags.push(tag);
                }
                let number = bytes.get(PAYLOAD + HEADER..PAYLOAD + HEADER + 8);
                if let Some(number) = number.and_then(|bytes| <[u8; 8]>::try_from(bytes).ok()) {
                    self.numbers.push(u64::from_be_bytes(number));
                }
            }
            io.pool.put(packet);
        }
        for packet in io.tun.drain(..) {
            io.pool.put(packet);
        }
        // The data of a session has the length in its report, and does not exceed the receive limit.
        for event in io.events.drain(..) {
            if let Event::SessionFinished {
                report,
                data: Some(data),
            } = event
            {
                assert_eq!(data.0.len() as u64, report.total_bytes, "{report:?}");
                assert!(data.0.len() <= TRANSFER);
            }
        }
        assert!(
            io.pool.allocated() <= 1024,
            "{} buffers",
            io.pool.allocated()
        );
    }
}

/// The start of a body: valid for an offer and for data, empty for other messages.
fn body(input: &mut Input<'_>, kind: u8, segment_size: usize) -> Vec<u8> {
    match kind {
        // An offer to this node, for a transfer of some size and segment_size.
        1 => {
            let dest = input.one_of(&[u32::from(GROUP), 0x0a00_0001]);
            let mut body = dest.to_be_bytes().to_vec();
            let total = input.one_of(&[TRANSFER as u64, 0, 1, 1460 * 4, 1 << 47, u64::MAX]);
            body.extend_from_slice(&total.to_be_bytes());
            body.extend_from_slice(&(segment_size as u16).to_be_bytes());
            body.push(input.u8());
            body.extend_from_slice(&NODE.to_be_bytes());
            body
        }
        3 => vec![input.u8(); usize::from(input.u16()).min(segment_size)],
        _ => Vec::new(),
    }
}

/// A datagram between the session ports, with as much of the payload as fits.
fn datagram(src: [u8; 4], dst: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let shape = Shape {
        v6: false,
        src,
        dst,
        protocol: 17,
        ttl: 64,
        ip_options: 0,
        tcp_options: 0,
        flags_and_offset: 0,
        ports: [SESSION_PORT, SESSION_PORT],
        payload: payload.len(),
    };
    let mut bytes = shape.build();
    let room = bytes.len() - PAYLOAD;
    bytes[PAYLOAD..].copy_from_slice(&payload[..room]);
    bytes
}
