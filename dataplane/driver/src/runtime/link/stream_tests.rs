//! Tests of streams over each kind of wire; the test acts as the peer.

use super::*;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use nm_engine::VnetHeader;
use nm_kernel::ring::RingMemory;

use crate::runtime::link::wire::Carrier;

const CARRIERS: [Carrier; 3] = [Carrier::Tcp, Carrier::Unix, Carrier::Shared];

fn pair(carrier: Carrier) -> (Wire, Wire) {
    if carrier == Carrier::Tcp {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connect");
        let (far, _) = listener.accept().expect("accept");
        return prepared(Wire::Tcp(near), Wire::Tcp(far));
    }
    let (near, far) = UnixStream::pair().expect("a pair");
    let (near, far) = prepared(Wire::Unix(near), Wire::Unix(far));
    if carrier == Carrier::Unix {
        return (near, far);
    }
    let (out, back, memory) = RingMemory::make().expect("memory");
    let taken = RingMemory::take(memory.as_fd()).expect("the same memory");
    (near.share((out, back)), far.share(taken))
}

fn prepared(near: Wire, far: Wire) -> (Wire, Wire) {
    near.prepare().expect("prepared");
    far.prepare().expect("prepared");
    (near, far)
}

fn put(far: &mut Wire, bytes: &[u8]) {
    let sent = far.write(&[IoSlice::new(bytes)]).expect("room");
    assert_eq!(sent, bytes.len());
    far.ring_doorbell();
}

/// An IPv4 packet of `len` bytes that carries `tag` throughout.
fn packet(pool: &mut Pool, len: usize, tag: u8) -> Packet {
    let mut bytes = vec![tag; len];
    bytes[..20].copy_from_slice(&[
        0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    bytes[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    let mut packet = pool.get();
    packet.fill(&bytes, VnetHeader::default()).expect("fits");
    packet
}

/// Reads until the stream ends; returns the items and the fault.
fn read_to_the_end(stream: &mut Stream, pool: &mut Pool) -> (Vec<Received>, LinkFault) {
    let (mut staging, mut all) = (vec![0; STAGING], Vec::new());
    loop {
        stream.wire_mut().clear_doorbell();
        match stream.read(&mut staging, pool, &mut all) {
            Ok(_) => std::thread::yield_now(),
            Err(fault) => return (all, fault),
        }
    }
}

#[test]
fn packets_of_all_sizes_arrive_unchanged_and_in_order() {
    let mut pool = Pool::standalone();
    for carrier in CARRIERS {
        let (near, far) = pair(carrier);
        let (mut out, mut back) = (Stream::new(near), Stream::new(far));
        let sizes = [
            28, 65_535, 1500, 40, 40, 17_000, 65_000, 65_001, 28, 2000, 9000,
        ];
        let (mut received, mut staging) = (Vec::new(), vec![0; STAGING]);
        for round in 0..20u8 {
            let (mut sent, mut got) = (0, 0);
            for &size in &sizes {
                let next = packet(&mut pool, size, round);
                out.push(next, &mut pool);
            }
            for _ in 0..100_000 {
                sent += out.flush(&mut pool).expect("writable");
                got += back
                    .read(&mut staging, &mut pool, &mut received)
                    .expect("readable");
                if received.len() == sizes.len() {
                    break;
                }
            }
            assert_eq!(out.queued(), 0);
            let total: usize = sizes.iter().map(|size| size + HEADER).sum();
            assert_eq!((sent, got), (total, total), "{carrier}: every byte counts");
            for (item, &size) in received.drain(..).zip(&sizes) {
                let Received::Packet(packet) = item else {
                    panic!("a packet was sent")
                };
                assert_eq!(packet.len(), size);
                assert!(packet.bytes()[20..].iter().all(|&b| b == round));
            }
        }
    }
}

#[test]
fn a_handshake_message_in_two_pieces_is_read() {
    let mut pool = Pool::standalone();
    let reason = "a reason of some length".to_owned();
    let frame = Control::Refuse(reason.clone()).encode();
    for carrier in [Carrier::Tcp, Carrier::Unix] {
        for cut in 1..frame.len() {
            let (near, mut far) = pair(carrier);
            let mut stream = Stream::handshake(near);
            stream.expect_descriptor();
            let (mut staging, mut received) = (vec![0; STAGING], Vec::new());
            for piece in [&frame[..cut], &frame[cut..]] {
                put(&mut far, piece);
                let mut got = 0;
                while got < piece.len() {
                    got += stream
                        .read(&mut staging, &mut pool, &mut received)
                        .expect("readable");
                }
            }
            let Some(Received::Control(Control::Refuse(text))) = received.pop() else {
                panic!("one message was sent")
            };
            assert_eq!(text, reason, "{carrier}, cut at {cut}");
        }
    }
}

#[test]
fn a_long_random_exchange_arrives_unchanged() {
    let mut pool = Pool::standalone();
    for carrier in CARRIERS {
        let (near, far) = pair(carrier);
        let (mut out, mut back) = (Stream::new(near), Stream::new(far));
        let mut state = 0x2545_f491_4f6c_dd1du64;
        let mut draw = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below) as usize
        };
        let (mut sent, mut received) = (std::collections::VecDeque::new(), Vec::new());
        let mut staging = vec![0; STAGING];
        let mut left = 3000;
        while left > 0 || !sent.is_empty() {
            // More is outstanding than any buffer holds, so that writes stop in the middle of frames.
            for _ in 0..draw(60) {
                if left == 0 || sent.len() > 200 {
                    break;
                }
                left -= 1;
                let size = if draw(3) == 0 {
                    28 + draw(65_000)
                } else {
                    28 + draw(1500)
                };
                let next = packet(&mut pool, size, left as u8);
                sent.push_back((size, left as u8));
                out.push(next, &mut pool);
            }
            out.flush(&mut pool).expect("writable");
            if draw(2) == 0 {
                back.read(&mut staging, &mut pool, &mut received)
                    .expect("readable");
            }
            for item in received.drain(..) {
                let (size, tag) = sent.pop_front().expect("a packet that was sent");
                let Received::Packet(packet) = item else {
                    panic!("a packet was sent")
                };
                assert_eq!(packet.len(), size, "{carrier}");
                assert!(packet.bytes()[20..].iter().all(|&b| b == tag), "{carrier}");
                pool.put(packet);
            }
        }
    }
}

#[test]
fn a_frame_in_single_bytes_is_read() {
    let mut pool = Pool::standalone();
    for carrier in CARRIERS {
        let (near, mut far) = pair(carrier);
        let mut stream = Stream::new(near);
        let (mut staging, mut got) = (vec![0; STAGING], Vec::new());
        for byte in Control::Refuse("because".into()).encode() {
            put(&mut far, &[byte]);
            stream
                .read(&mut staging, &mut pool, &mut got)
                .expect("readable");
        }
        drop(far);
        got.extend(read_to_the_end(&mut stream, &mut pool).0);
        assert!(
            matches!(&got[..], [Received::Control(Control::Refuse(reason))] if reason == "because")
        );
    }
}

#[test]
fn the_fault_tells_whether_the_stream_ended_inside_a_frame() {
    let mut pool = Pool::standalone();
    for carrier in CARRIERS {
        for (sent, expected) in [
            (0, LinkFault::Closed),
            (5, LinkFault::Truncated),
            (HEADER + 3, LinkFault::Truncated),
        ] {
            let (near, mut far) = pair(carrier);
            let mut stream = Stream::new(near);
            let word = &Control::Bye("x y z".into()).encode()[..sent];
            if !word.is_empty() {
                put(&mut far, word);
            }
            drop(far);
            let (_, fault) = read_to_the_end(&mut stream, &mut pool);
            assert_eq!(fault, expected, "{carrier}");
        }
    }
}

#[test]
fn frames_before_the_end_of_a_stream_are_received() {
    let mut pool = Pool::standalone();
    for carrier in CARRIERS {
        let (near, far) = pair(carrier);
        let (mut out, mut back) = (Stream::new(far), Stream::new(near));
        for tag in 0..10 {
            let next = packet(&mut pool, 9000, tag);
            out.push(next, &mut pool);
        }
        out.flush(&mut pool).expect("writable");
        assert_eq!(out.queued(), 0);
        out.send_bye("enough");
        drop(out);
        let (all, fault) = read_to_the_end(&mut back, &mut pool);
        assert_eq!((all.len(), fault), (11, LinkFault::Closed), "{carrier}");
        assert!(matches!(&all[10], Received::Control(Control::Bye(reason)) if reason == "enough"));
    }
}

#[test]
fn a_frame_that_is_too_large_ends_the_stream() {
    let mut pool = Pool::standalone();
    for carrier in CARRIERS {
        let (near, mut far) = pair(carrier);
        put(&mut far, &[0xff; HEADER]);
        let (_, fault) = read_to_the_end(&mut Stream::new(near), &mut pool);
        assert!(matches!(fault, LinkFault::TooLarge { .. }), "{fault}");
    }
}
