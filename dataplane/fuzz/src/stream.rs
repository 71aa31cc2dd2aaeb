//! Fuzz the frames of a link between two processes, read in chunks of any size.

use std::io::IoSlice;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use nm_driver::runtime::link::frame::{FrameHeader, CONTROL, HEADER};
use nm_driver::runtime::link::stream::{Received, Stream, STAGING};
use nm_driver::runtime::link::wire::Wire;
use nm_engine::{Packet, Pool, VnetHeader};
use nm_kernel::ring::RingMemory;

use crate::input::Input;

/// Bytes of one input: more than a socket and a ring hold, so they are written in several turns.
const STEPS: usize = 64;
const CHUNK: usize = 70_000;
/// Single bytes before the rest: a header, and the next one's if the packet between them is short.
const SMALL_CHUNKS: usize = 40;

/// Writes the frames that the bytes describe in the chunks that they describe, reads them, and compares the result
/// with that of a simple reader of the same bytes in one piece.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.u8();
    let (near, mut far) = wires(mode & 1 != 0);
    let mut stream = if mode & 2 != 0 && mode & 1 == 0 {
        // As after the last but one message of the handshake: a descriptor may come with the bytes.
        let mut stream = Stream::new(near);
        stream.expect_descriptor();
        stream
    } else {
        Stream::new(near)
    };
    let mut pool = Pool::standalone();
    let (mut staging, mut received) = (vec![0; STAGING], Vec::new());
    let (mut sent, mut fault) = (Vec::new(), None);
    for _ in 0..STEPS {
        if input.is_empty() || fault.is_some() {
            break;
        }
        let piece = piece(&mut input);
        let mut rest = &piece[..];
        // Small chunks for the headers; the rest of a long packet comes in a few.
        let choice = usize::from(input.u8());
        let (small, many) = match choice {
            0 => (1, SMALL_CHUNKS),
            few @ 1..=64 => (few * 16, 4),
            _ => (0, 0),
        };
        let mut chunks = std::iter::repeat_n(small, many).chain(std::iter::repeat(CHUNK));
        while let Some(chunk) = chunks
            .next()
            .filter(|_| !rest.is_empty() && fault.is_none())
        {
            let count = chunk.min(rest.len());
            // A full wire accepts nothing until it is read, which follows.
            let written = far.write(&[IoSlice::new(&rest[..count])]).unwrap_or(0);
            sent.extend_from_slice(&rest[..written]);
            rest = &rest[written..];
            fault = stream.read(&mut staging, &mut pool, &mut received).err();
        }
    }
    far.ring_doorbell();
    drop(far);
    // As many reads as the bytes can need, and the one that finds the end.
    for _ in 0..sent.len() / 1024 + 1000 {
        if fault.is_some() {
            break;
        }
        stream.wire_mut().clear_doorbell();
        fault = stream.read(&mut staging, &mut pool, &mut received).err();
    }
    assert!(fault.is_some(), "a stream ends when its peer is closed");
    compare(&sent, &received);
    send_on(received, &mut pool);
}

fn wires(shared: bool) -> (Wire, Wire) {
    let (near, far) = UnixStream::pair().expect("a pair");
    let (near, far) = (Wire::Unix(near), Wire::Unix(far));
    near.prepare().expect("a local socket");
    far.prepare().expect("a local socket");
    if !shared {
        return (near, far);
    }
    let (out, back, memory) = RingMemory::make().expect("memory");
    let taken = RingMemory::take(memory.as_fd()).expect("the same memory");
    (near.share((out, back)), far.share(taken))
}

/// A valid frame, a message between drivers, or arbitrary bytes.
fn piece(input: &mut Input<'_>) -> Vec<u8> {
    let choice = input.u8();
    if choice % 4 == 3 {
        let length = usize::from(input.u8());
        return input.bytes(length).to_vec();
    }
    let control = choice % 4 == 2;
    let mut body = match control {
        true => {
            let length = usize::from(input.u16() % 2100);
            input.bytes(length).to_vec()
        }
        false => vec![choice; usize::from(input.u16() & input.one_of(&[0x3f, 0x7ff, 0xffff]))],
    };
    let flags = if control {
        CONTROL | u16::from(input.u8() % 8)
    } else {
        u16::from(choice) & 0x70
    };
    let vnet = VnetHeader::from_bytes(&input.array());
    let hops = input.u16();
    let header = FrameHeader {
        length: body.len(),
        flags,
        hops,
        // Not an input of its own, so that stored inputs keep their meaning.
        route: u32::from(hops) << 9,
        vnet,
    };
    let mut frame = header.encode().to_vec();
    frame.append(&mut body);
    frame
}

/// Every complete frame up to the first invalid one was received, and nothing else.
fn compare(sent: &[u8], received: &[Received]) {
    let mut received = received.iter();
    let mut rest = sent;
    while rest.len() >= HEADER {
        let word = |at: usize| u16::from_le_bytes([rest[at], rest[at + 1]]);
        let length = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        let (flags, hops) = (word(4), word(6));
        let control = flags & 0x8000 != 0;
        if length > if control { 2048 } else { 65_535 } || rest.len() - HEADER < length {
            break;
        }
        let body = &rest[HEADER..HEADER + length];
        match received.next() {
            Some(Received::Packet(packet)) => {
                assert!(!control);
                assert_eq!((packet.bytes(), packet.hops()), (body, hops));
                assert_eq!(packet.route().to_le_bytes(), rest[8..12]);
                assert_eq!(packet.vnet().to_bytes(), rest[12..HEADER]);
            }
            Some(Received::Control(_)) => assert!(control),
            // An invalid message ends the stream.
            None => {
                assert!(control, "a packet was lost");
                return;
            }
        }
        rest = &rest[HEADER + length..];
    }
    assert!(
        received.next().is_none(),
        "something came that was not sent"
    );
}

/// Received packets are sent unchanged on another stream, parsed or not.
fn send_on(received: Vec<Received>, pool: &mut Pool) {
    let packets: Vec<Packet> = received
        .into_iter()
        .filter_map(|item| match item {
            Received::Packet(packet) => Some(packet),
            Received::Control(_) => None,
        })
        .collect();
    let (near, far) = wires(false);
    let (mut out, mut back) = (Stream::new(near), Stream::new(far));
    let (mut staging, mut again) = (vec![0; STAGING], Vec::new());
    for mut packet in packets {
        // Valid packets are sent with the header that the engine has parsed, others unchanged.
        let _ = packet.parse(1500);
        let (bytes, vnet) = (packet.bytes().to_vec(), packet.vnet());
        out.push(packet, pool);
        while out.queued() > 0 {
            out.flush(pool).expect("the other end is there");
            back.read(&mut staging, pool, &mut again)
                .expect("good frames");
        }
        back.read(&mut staging, pool, &mut again)
            .expect("good frames");
        let Some(Received::Packet(came)) = again.pop() else {
            panic!("a packet was sent")
        };
        assert_eq!((came.bytes(), came.vnet()), (&bytes[..], vnet));
        assert!(again.is_empty());
    }
}
