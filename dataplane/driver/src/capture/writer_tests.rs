//! Test the frames of a capture: which blocks, which comments, which counts.

use std::sync::atomic::AtomicU64;

use nm_engine::{Command, DropCause, Engine, Io, LinkSpec, NodeConfig, Packet, Pool};
use nm_engine::{TapPoint, Tapped, VnetHeader};

use super::*;
use crate::capture::filter::Instruction;
use crate::runtime::{Interface, Point};

/// What a program would read: blocks, and the last statistics.
struct Stream {
    blocks: Vec<u8>,
    statistics: String,
}

fn frames(mut bytes: &[u8]) -> Stream {
    let (mut blocks, mut statistics) = (Vec::new(), String::new());
    while let Some((head, rest)) = bytes.split_first_chunk::<5>() {
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let (content, rest) = rest.split_at(length);
        match head[4] {
            b'B' => blocks.extend_from_slice(content),
            _ => statistics = String::from_utf8(content.to_vec()).expect("JSON"),
        }
        bytes = rest;
    }
    Stream { blocks, statistics }
}

/// A super-packet of three datagrams of 100 bytes, as an engine has parsed it.
fn datagrams(io: &mut Io) -> Packet {
    let mut engine = Engine::new(NodeConfig::new(1));
    let added = Command::AddLink {
        remote: 2,
        remote_name: "n2".into(),
        spec: LinkSpec::default(),
    };
    let now = nm_engine::Instant::ZERO;
    engine.handle_command(now, added, io).expect("a link");
    engine.handle_link_state(now, 0, true, io);
    let table = Some(vec![0, 0, 2]);
    let routes = Command::InstallRoutes {
        table,
        routes: vec![],
        removed: vec![],
    };
    engine.handle_command(now, routes, io).expect("routes");
    let mut bytes = vec![0; 28 + 300];
    bytes[..20].copy_from_slice(&[
        0x45, 0, 1, 72, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    bytes[20..28].copy_from_slice(&[0, 9, 0, 53, 1, 52, 0, 0]);
    let vnet = VnetHeader {
        flags: nm_engine::vnet::F_NEEDS_CSUM,
        gso_type: nm_engine::vnet::GSO_UDP_L4,
        hdr_len: 28,
        gso_size: 100,
        csum_start: 20,
        csum_offset: 6,
    };
    let mut packet = io.pool.get();
    packet.fill(&bytes, vnet).expect("a new buffer");
    engine.handle_tun(now, packet, io);
    io.transmits.pop().expect("sent").1
}

fn captured(points: &[TapPoint], filter: Filter, snaplen: u32) -> Stream {
    let interface = |number, point| Interface {
        number,
        point,
        missed: AtomicU64::new(0),
    };
    let tap = Arc::new(Tap::new(vec![
        interface(0, Point::Before(2)),
        interface(7, Point::Dropped(2)),
    ]));
    let mut io = Io::new(Pool::standalone());
    let packet = datagrams(&mut io);
    for point in points {
        let dropped = matches!(point, TapPoint::Dropped(..));
        tap.record(&Tapped {
            at: nm_engine::Instant(1_000),
            point: *point,
            packet: packet.clone_ref(),
            first: u32::from(dropped),
            count: if dropped { 1 } else { 3 },
        });
    }
    let mut bytes = Vec::new();
    Writer::new(tap, filter, snaplen, 500).run(&mut bytes, &Ended::default(), || {});
    frames(&bytes)
}

const OFFERED: TapPoint = TapPoint::Offered(2);

#[test]
fn a_super_packet_is_written_as_its_segments() {
    let stream = captured(&[OFFERED], Filter::default(), 65_535);
    assert_eq!(stream.blocks.len(), 3 * (32 + 128));
    for (index, block) in stream.blocks.chunks(160).enumerate() {
        assert_eq!(
            block[8..20],
            [0, 0, 0, 0, 0, 0, 0, 0, 220, 5, 0, 0],
            "1,500 ns"
        );
        assert_eq!(block[20..28], [128, 0, 0, 0, 128, 0, 0, 0]);
        assert_eq!(block[28 + 4..28 + 6], (index as u16).to_be_bytes());
    }
    let wanted = r#"{"interface":0,"received":3,"accepted":3,"bytes":384,"missed":0}"#;
    assert!(stream.statistics.contains(wanted), "{}", stream.statistics);
}

#[test]
fn a_dropped_segment_has_its_cause_as_comment_on_the_interface_of_drops() {
    let dropped = TapPoint::Dropped(2, DropCause::QueueFull);
    let stream = captured(&[dropped], Filter::default(), 65_535);
    assert_eq!(stream.blocks[8], 7);
    let text = String::from_utf8_lossy(&stream.blocks);
    assert!(text.contains("dropped: queue_full"), "{text}");
    assert_eq!(stream.blocks[32 + 1], 1, "the identification of segment 1");
}

#[test]
fn the_filter_and_the_kept_length_apply_to_segments() {
    let op = |code, jt, jf, k| Instruction { code, jt, jf, k };
    // The identification of the IP header is 2.
    let second = vec![
        op(0x28, 0, 0, 4),
        op(0x15, 0, 1, 2),
        op(0x06, 0, 0, 1),
        op(0x06, 0, 0, 0),
    ];
    let filter = Filter::new(second).expect("valid");
    let stream = captured(&[OFFERED], filter, 64);
    assert_eq!(stream.blocks.len(), 32 + 64);
    assert_eq!(stream.blocks[20..28], [64, 0, 0, 0, 128, 0, 0, 0]);
    let wanted = r#""received":3,"accepted":1,"bytes":128"#;
    assert!(stream.statistics.contains(wanted), "{}", stream.statistics);
}

#[test]
fn a_program_that_went_away_ends_the_recording() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let tap = sent(1);
    let held = [tap.clone(), tap.clone()]; // as by the shard and the capture's thread
    let stopped = std::cell::Cell::new(0);
    let stop = || stopped.set(stopped.get() + 1);
    Writer::new(tap, Filter::default(), 99, 0).run(Gone, &Ended::default(), stop);
    assert_eq!((stopped.get(), held.len()), (1, 2));
}

#[test]
fn a_program_that_does_not_read_ends_the_recording_after_the_time_limit_of_its_socket() {
    let (near, _far) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let limit = std::time::Duration::from_millis(50);
    near.set_write_timeout(Some(limit)).expect("a time limit");
    let tap = sent(4096); // two megabytes of blocks, more than a socket takes
    let _held = [tap.clone(), tap.clone()];
    let stopped = std::cell::Cell::new(0);
    let stop = || stopped.set(stopped.get() + 1);
    Writer::new(tap, Filter::default(), 65_535, 0).run(&near, &Ended::default(), stop);
    assert_eq!(stopped.get(), 1);
}

#[test]
fn a_signal_while_a_frame_is_written_changes_nothing() {
    struct Signals(Vec<u8>, bool);
    impl Write for Signals {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            self.0.push(bytes[0]);
            Ok(1)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut signals = Signals(Vec::new(), false);
    send_frame(&mut signals, b'S', b"[]").expect("written");
    assert_eq!(signals.0, *b"\x02\0\0\0S[]");
}

/// A tap with records of what the node's programs sent.
fn sent(records: usize) -> Arc<Tap> {
    let tap = Arc::new(Tap::new(vec![Interface {
        number: 0,
        point: Point::Node,
        missed: AtomicU64::new(0),
    }]));
    let mut io = Io::new(Pool::standalone());
    let packet = datagrams(&mut io);
    for _ in 0..records {
        tap.record(&Tapped {
            at: nm_engine::Instant(0),
            point: TapPoint::Sent,
            packet: packet.clone_ref(),
            first: 0,
            count: 3,
        });
    }
    tap
}
