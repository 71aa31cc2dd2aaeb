//! Streams against a socket pair whose far side this test plays.

use super::*;
use std::net::TcpListener;

use nm_engine::VnetHeader;

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connect");
    let (far, _) = listener.accept().expect("accept");
    near.set_nonblocking(true).expect("non-blocking");
    (near, far)
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

fn read_all(stream: &mut Stream, pool: &mut Pool, count: usize) -> Vec<Received> {
    let (mut staging, mut all) = (vec![0; STAGING], Vec::new());
    for _ in 0..100_000 {
        stream.read(&mut staging, pool, &mut all).expect("readable");
        if all.len() >= count {
            break;
        }
        std::thread::yield_now();
    }
    all
}

#[test]
fn packets_of_all_sizes_arrive_whole_and_in_order() {
    let mut pool = Pool::standalone();
    let (near, far) = pair();
    far.set_nonblocking(true).expect("non-blocking");
    let (mut out, mut back) = (Stream::new(near), Stream::new(far));
    let sizes = [
        28, 65_535, 1500, 40, 40, 17_000, 65_000, 65_001, 28, 2000, 9000,
    ];
    let (mut received, mut staging) = (Vec::new(), vec![0; STAGING]);
    for round in 0..20u8 {
        for &size in &sizes {
            let next = packet(&mut pool, size, round);
            out.push(next, &mut pool);
        }
        for _ in 0..100_000 {
            out.flush(&mut pool).expect("writable");
            back.read(&mut staging, &mut pool, &mut received)
                .expect("readable");
            if received.len() == sizes.len() {
                break;
            }
        }
        assert_eq!(out.queued(), 0);
        for (item, &size) in received.drain(..).zip(&sizes) {
            let Received::Packet(packet) = item else {
                panic!("a packet was sent")
            };
            assert_eq!(packet.len(), size);
            assert!(packet.bytes()[20..].iter().all(|&b| b == round));
        }
    }
}

#[test]
fn a_frame_in_single_bytes_is_put_together() {
    let mut pool = Pool::standalone();
    let (near, mut far) = pair();
    far.set_nodelay(true).expect("nodelay");
    let mut stream = Stream::new(near);
    let frame = Control::Refuse("because".into()).encode();
    let (mut staging, mut got) = (vec![0; STAGING], Vec::new());
    for byte in frame {
        far.write_all(&[byte]).expect("sent");
        stream
            .read(&mut staging, &mut pool, &mut got)
            .expect("readable");
    }
    if got.is_empty() {
        got = read_all(&mut stream, &mut pool, 1);
    }
    assert!(
        matches!(&got[..], [Received::Control(Control::Refuse(reason))] if reason == "because")
    );
}

#[test]
fn the_end_of_a_stream_is_named_after_where_it_came() {
    let mut pool = Pool::standalone();
    for (sent, expected) in [
        (0, LinkFault::Closed),
        (5, LinkFault::Truncated),
        (HEADER + 3, LinkFault::Truncated),
    ] {
        let (near, mut far) = pair();
        let mut stream = Stream::new(near);
        far.write_all(&Control::Bye("x y z".into()).encode()[..sent])
            .expect("sent");
        drop(far);
        let (mut staging, mut all) = (vec![0; STAGING], Vec::new());
        let fault = loop {
            match stream.read(&mut staging, &mut pool, &mut all) {
                Ok(_) => std::thread::yield_now(),
                Err(fault) => break fault,
            }
        };
        assert_eq!(fault, expected);
    }
}

#[test]
fn a_frame_that_is_too_large_ends_the_stream() {
    let mut pool = Pool::standalone();
    let (near, mut far) = pair();
    let mut stream = Stream::new(near);
    far.write_all(&[0xff; HEADER]).expect("sent");
    let (mut staging, mut all) = (vec![0; STAGING], Vec::new());
    let fault = loop {
        match stream.read(&mut staging, &mut pool, &mut all) {
            Ok(_) => std::thread::yield_now(),
            Err(fault) => break fault,
        }
    };
    assert!(matches!(fault, LinkFault::TooLarge { .. }), "{fault}");
}
