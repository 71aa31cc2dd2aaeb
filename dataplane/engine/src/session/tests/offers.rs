//! Who takes which offer, and what is left of it.

use proptest::prelude::*;

use super::*;

#[test]
fn a_receive_call_that_goes_back_keeps_its_place() {
    let mut bench = Bench::new();
    let (first, second) = (bench.receive(100), bench.receive(100));
    bench.offer(3 << 32, &bytes(100, 9));
    bench.tell(3 << 32, &Message::Abort { known: false, reason: String::new() });
    bench.offer(4 << 32, &bytes(100, 4));
    bench.offer(5 << 32, &bytes(100, 5));
    bench.deliver(5 << 32, &bytes(100, 5));
    bench.deliver(4 << 32, &bytes(100, 4));
    assert_eq!(bench.received(first), Some(bytes(100, 4)));
    assert_eq!(bench.received(second), Some(bytes(100, 5)));
}

#[test]
fn what_arrived_and_was_not_fetched_never_takes_a_later_offer() {
    let mut bench = Bench::new();
    let first = bench.receive(100);
    bench.offer(3 << 32, &bytes(100, 3));
    bench.deliver(3 << 32, &bytes(100, 3));
    bench.said();
    bench.offer(4 << 32, &bytes(100, 4));
    assert_eq!(bench.said(), [(4 << 32, Message::Unclaimed)]);
    let second = bench.receive(100);
    bench.offer(4 << 32, &bytes(100, 4));
    bench.deliver(4 << 32, &bytes(100, 4));
    assert_eq!((bench.received(first), bench.received(second)), (Some(bytes(100, 3)), Some(bytes(100, 4))));
}

#[test]
fn a_cancelled_receive_call_takes_nothing_and_cancelling_again_is_fine() {
    let mut bench = Bench::new();
    let session = bench.receive(100);
    for _ in 0..3 {
        bench.cancel(session).expect("cancelled");
    }
    assert_eq!(bench.state(session), SessionState::Failed);
    bench.said();
    bench.offer(3 << 32, &bytes(100, 3));
    assert_eq!(bench.said(), [(3 << 32, Message::Unclaimed)]);
    assert_eq!(
        bench.cancel(session + 1).expect_err("never opened"),
        CommandError::UnknownSession(session + 1)
    );
}

#[test]
fn absurd_offers_are_ignored() {
    let mut bench = Bench::new();
    bench.receive(u64::from(u32::MAX) >> 8);
    bench.said();
    for (total, unit) in [(0, 1460), (u64::MAX, 1460), (1 << 48, 536), (1000, 0), (1 << 24, 1)] {
        let terms = Terms { total, unit, cadence: Cadence::for_receivers(1) };
        bench.tell(9 << 32, &Message::Manifest { dest: u32::from(HERE), terms, listed: vec![1] });
        assert_eq!(bench.said(), [], "{total} {unit}");
    }
}

#[test]
fn the_next_transfer_is_offered_when_the_one_before_was_taken_or_has_ended() {
    let mut bench = Bench::new();
    let (first, second, third) = (bench.send(b"a"), bench.send(b"b"), bench.send(b"c"));
    let offers = |bench: &mut Bench| {
        let numbers = bench.said().into_iter().filter_map(|(number, message)| match message {
            Message::Manifest { listed, .. } if listed == [SENDER] => Some(number),
            _ => None,
        });
        numbers.collect::<BTreeSet<u64>>()
    };
    bench.pass(1);
    let a = offers(&mut bench);
    assert_eq!(a.len(), 1, "only the first");
    bench.pass(1_000);
    assert_eq!(offers(&mut bench), a, "however long it takes");
    bench.tell(*a.first().expect("one"), &Message::Ready { capacity: 9 });
    let b = offers(&mut bench);
    assert_eq!(b.len(), 1, "the second at once");
    assert_ne!(a, b);
    bench.cancel(second).expect("cancelled");
    let c = offers(&mut bench);
    assert_eq!(c.len(), 1, "the third");
    bench.tell(*c.first().expect("one"), &Message::Unclaimed);
    bench.pass(10_000);
    let reason = bench.peer(third).reason;
    assert_eq!(reason, "no receive call waited for it within 10000 ms");
    assert_eq!(bench.peer(first).state, SessionState::Active);
}

#[test]
fn whoever_stands_behind_an_unclaimed_transfer_is_unclaimed_too() {
    let mut bench = Bench::new();
    let (first, second) = (bench.send(b"a"), bench.send(b"b"));
    let number = bench.offered();
    bench.tell(number, &Message::Unclaimed);
    bench.pass(10_001);
    for session in [first, second] {
        assert_eq!(bench.peer(session).reason, "no receive call waited for it within 10000 ms");
    }
}

#[test]
fn a_hundred_thousand_transfers_leave_no_more_than_the_last_few() {
    let mut bench = Bench::new();
    for round in 0..50_000u64 {
        let incoming = bench.receive(4);
        bench.offer((round + 1) << 32, b"data");
        bench.deliver((round + 1) << 32, b"data");
        bench.tell((round + 1) << 32, &Message::Ack);
        let outgoing = bench.send(b"data");
        let number = bench.offered();
        bench.get_ready(number);
        bench.tell(number, &Message::Complete { bytes: 4, digest: digest(b"data") });
        assert_eq!((incoming, outgoing), (2 * round + 1, 2 * round + 2));
        bench.io.events.clear();
        bench.io.transmits.clear();
    }
    let sessions = &bench.engine.sessions;
    assert_eq!((sessions.senders.len(), sessions.receivers.len()), (0, 0));
    assert_eq!((sessions.offered.len(), sessions.waiting.len(), sessions.tags.len()), (0, 0, 0));
    assert_eq!((sessions.sent.len(), sessions.taken.len()), (PAST, PAST));
    assert_eq!(
        (sessions.sender_history.values().count(), sessions.receiver_history.values().count()),
        (PAST, PAST)
    );
    assert_eq!(bench.engine.stats().sessions.len(), 2 * PAST);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Frames of any kind about our transfers and others, with bodies cut and changed.
    #[test]
    fn invalid_messages_from_a_peer_never_panic_and_never_complete_anything(
        frames in proptest::collection::vec(
            (0u8..16, any::<u8>(), 0usize..3, any::<u64>(), proptest::collection::vec(any::<u8>(), 0..90), 0u64..400),
            1..60,
        ),
    ) {
        let mut bench = Bench::new();
        let outgoing = bench.send(&bytes(5000, 1));
        let number = bench.offered();
        let incoming = bench.receive(5000);
        bench.offer(8 << 32, &bytes(5000, 2));
        for (kind, round, whose, offset, body, ms) in frames {
            let number = [number, 8 << 32, 77 << 32][whose];
            let mut payload = vec![0; wire::HEADER];
            let offset = offset % 6000;
            Header { kind, round, tag: tag_of(number), offset }.write(&mut payload);
            if kind != wire::DATA {
                payload.extend_from_slice(&number.to_be_bytes());
            }
            payload.extend_from_slice(&body);
            bench.hand(&payload);
            bench.pass(ms);
            while bench.engine.poll_transmit(bench.now, &mut bench.io) {}
            bench.said();
        }
        prop_assert_ne!(bench.state(outgoing), SessionState::Complete);
        prop_assert_ne!(bench.state(incoming), SessionState::Complete);
    }
}
