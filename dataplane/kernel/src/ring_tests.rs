//! Test the shared-memory ring with both ends in one process, each with its own mapping.

use rand_xoshiro::rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;

use super::*;

type Ends = (RingWriter, RingReader);

fn pair() -> (Ends, Ends) {
    let (out, back, fd) = RingMemory::make().expect("memory");
    let (their_out, their_back) = RingMemory::take(fd.as_fd()).expect("the same memory");
    ((out, back), (their_out, their_back))
}

/// A reproducible generator of lengths.
fn lengths(seed: u64) -> impl FnMut(usize) -> usize {
    let mut random = SplitMix64::seed_from_u64(seed);
    move |below| (random.next_u64() % below as u64) as usize
}

fn byte_at(position: usize) -> u8 {
    (position ^ (position >> 8) ^ (position >> 16)) as u8
}

#[test]
fn writes_of_any_length_are_read_in_order_in_both_directions() {
    const TOTAL: usize = 24 << 20;
    let (near, far) = pair();
    let run = |(mut out, mut back): Ends, seed: u64| {
        let mut draw = lengths(seed);
        let (mut sent, mut received) = (0, 0);
        let mut room = vec![0; 100_000];
        while sent < TOTAL || received < TOTAL {
            let (first, second) = (draw(40).min(TOTAL - sent), draw(90_000));
            let second = second.min(TOTAL - sent - first);
            let bytes: Vec<u8> = (sent..sent + first + second).map(byte_at).collect();
            let pieces = [IoSlice::new(&bytes[..first]), IoSlice::new(&bytes[first..])];
            sent += out.write(&pieces).expect("unbroken");
            let (first, second) = (draw(40), draw(90_000));
            let (one, two) = room[..first + second].split_at_mut(first);
            let got = back
                .read(&mut [IoSliceMut::new(one), IoSliceMut::new(two)])
                .expect("unbroken");
            let right = room[..got]
                .iter()
                .enumerate()
                .all(|(index, &byte)| byte == byte_at(received + index));
            assert!(right, "between {received} and {}", received + got);
            received += got;
            if got == 0 {
                std::thread::yield_now();
            }
        }
    };
    let other = std::thread::spawn(move || run(far, 2));
    run(near, 1);
    other.join().expect("all bytes are correct");
}

#[test]
fn a_full_ring_accepts_no_bytes_and_an_empty_one_returns_none() {
    let ((mut out, _), (_, mut back)) = pair();
    let bytes = vec![7; RING_BYTES + 10];
    assert_eq!(back.read(&mut [IoSliceMut::new(&mut [0; 9])]), Ok(0));
    assert_eq!(out.write(&[IoSlice::new(&bytes)]), Ok(RING_BYTES));
    assert_eq!(out.write(&[IoSlice::new(&bytes)]), Ok(0));
    assert_eq!(back.read(&mut [IoSliceMut::new(&mut [0; 9])]), Ok(9));
    assert_eq!(out.write(&[IoSlice::new(&bytes)]), Ok(9));
}

#[test]
fn writing_to_an_empty_ring_starts_at_offset_zero() {
    let ((mut out, _), (_, mut back)) = pair();
    let (mut sent, mut received) = (vec![0; 10_000], vec![0; 10_000]);
    for round in 1..=200u8 {
        sent.fill(round);
        assert_eq!(out.write(&[IoSlice::new(&sent)]), Ok(10_000));
        // Read in two parts; every second time more bytes are written in between.
        let mut got = back.read(&mut [IoSliceMut::new(&mut received[..4000])]);
        assert_eq!(got, Ok(4000));
        if round % 2 == 0 {
            assert_eq!(out.write(&[IoSlice::new(&sent)]), Ok(10_000));
            got = back.read(&mut [IoSliceMut::new(&mut received[..])]);
            assert_eq!(got, Ok(10_000));
        }
        got = back.read(&mut [IoSliceMut::new(&mut received[4000..])]);
        assert_eq!(got, Ok(6000));
        assert!(received.iter().all(|&byte| byte == round));
    }
    let lane = &back.lane;
    // SAFETY: inside the mapping, and no other thread writes there now.
    let beyond =
        unsafe { std::slice::from_raw_parts(lane.at(lane.data + 20_000), RING_BYTES - 20_000) };
    assert!(beyond.iter().all(|&byte| byte == 0), "never written");
}

#[test]
fn a_side_is_woken_only_while_it_sleeps() {
    let ((mut out, _), (_, mut back)) = pair();
    let byte = [IoSlice::new(&[1])];
    out.write(&byte).expect("unbroken");
    assert!(!out.must_wake_reader(), "the reader is awake");
    assert_eq!(back.request_wakeup(), Ok(false), "there are bytes to read");
    assert!(!out.must_wake_reader(), "it did not sleep");
    back.read(&mut [IoSliceMut::new(&mut [0; 9])])
        .expect("unbroken");
    assert_eq!(back.request_wakeup(), Ok(true));
    out.write(&byte).expect("unbroken");
    assert!(out.must_wake_reader());
    assert!(!out.must_wake_reader(), "once is enough");
    assert_eq!(out.request_wakeup(), Ok(false), "there is room");
    out.write(&[IoSlice::new(&vec![0; RING_BYTES])])
        .expect("unbroken");
    assert_eq!(out.request_wakeup(), Ok(true));
    let mut room = vec![0; RING_BYTES / 2 - 1];
    back.read(&mut [IoSliceMut::new(&mut room)])
        .expect("unbroken");
    assert!(!back.must_wake_writer(), "too little room");
    back.read(&mut [IoSliceMut::new(&mut [0; 1])])
        .expect("unbroken");
    assert!(back.must_wake_writer());
    assert!(!back.must_wake_writer(), "once is enough");
}

#[test]
fn no_wake_up_is_lost_when_both_sides_sleep_whenever_possible() {
    const TOTAL: usize = 4 << 20;
    let ((mut out, _), (_, mut back)) = pair();
    let (wake_out, wake_in) = std::sync::mpsc::channel();
    let (room_out, room_in) = std::sync::mpsc::channel();
    let limit = std::time::Duration::from_secs(20);
    let writer = std::thread::spawn(move || {
        let mut draw = lengths(5);
        let mut sent = 0;
        while sent < TOTAL {
            let length = (draw(300_000) + 1).min(TOTAL - sent);
            match out
                .write(&[IoSlice::new(&vec![9; length])])
                .expect("unbroken")
            {
                0 if out.request_wakeup().expect("unbroken") => {
                    room_in.recv_timeout(limit).expect("woken for room");
                }
                count => sent += count,
            }
            if out.must_wake_reader() {
                wake_out.send(()).expect("the channel is open");
            }
        }
        // The reader detects the end by the closed channel.
    });
    let mut received = 0;
    let mut room = vec![0; 200_000];
    while received < TOTAL {
        match back
            .read(&mut [IoSliceMut::new(&mut room)])
            .expect("unbroken")
        {
            0 if back.request_wakeup().expect("unbroken") => {
                wake_in.recv_timeout(limit).expect("woken for bytes");
            }
            count => received += count,
        }
        if back.must_wake_writer() {
            let _ = room_out.send(());
        }
    }
    writer.join().expect("all bytes are sent");
}

#[test]
fn invalid_positions_are_detected_as_a_broken_ring() {
    let wrong_heads = [
        RING_BYTES as u64 + 1, // more than fits
        u64::MAX,              // before the reader
        9,                     // gone back: 10 bytes were there
    ];
    for wrong in wrong_heads {
        let ((mut out, _), (_, mut back)) = pair();
        out.write(&[IoSlice::new(&[3; 10])]).expect("unbroken");
        assert_eq!(back.available(), Ok(10));
        out.lane.control().head.0.store(wrong, Ordering::Release);
        assert_eq!(back.available(), Err(BrokenRing), "{wrong}");
        let mut room = [0; 20];
        assert_eq!(
            back.read(&mut [IoSliceMut::new(&mut room)]),
            Err(BrokenRing)
        );
        assert_eq!(back.request_wakeup(), Err(BrokenRing));
    }
    let wrong_tails = [
        11,       // past the writer
        u64::MAX, // before the beginning
        4,        // gone back: 5 bytes were read
    ];
    for wrong in wrong_tails {
        let ((mut out, _), (_, mut back)) = pair();
        out.write(&[IoSlice::new(&[3; 10])]).expect("unbroken");
        back.read(&mut [IoSliceMut::new(&mut [0; 5])])
            .expect("unbroken");
        assert_eq!(out.room(), Ok(RING_BYTES - 5));
        back.lane.control().tail.0.store(wrong, Ordering::Release);
        assert_eq!(out.room(), Err(BrokenRing), "{wrong}");
        let much = vec![0; RING_BYTES];
        assert_eq!(out.write(&[IoSlice::new(&much)]), Err(BrokenRing));
        assert_eq!(out.request_wakeup(), Err(BrokenRing));
    }
}

#[test]
fn only_memory_with_sealed_size_is_accepted() {
    let file = std::fs::File::open("/dev/null").expect("the file exists");
    assert!(RingMemory::take(file.as_fd()).is_err(), "no memory at all");
    let unsealed = |size: usize| {
        let fd = memfd_create("test", MemfdFlags::ALLOW_SEALING).expect("memory");
        ftruncate(&fd, size as u64).expect("sized");
        fd
    };
    let whole = unsealed(MEMORY_BYTES);
    assert!(RingMemory::take(whole.as_fd()).is_err(), "it could shrink");
    let short = unsealed(MEMORY_BYTES - 1);
    fcntl_add_seals(&short, SealFlags::SHRINK).expect("sealed");
    assert!(RingMemory::take(short.as_fd()).is_err(), "too short");
    let (_, _, fd) = RingMemory::make().expect("memory");
    assert!(ftruncate(&fd, 4096).is_err(), "sealed");
}
