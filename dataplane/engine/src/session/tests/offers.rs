//! Test which receive call accepts which offer, and the state that ended transfers leave.

use proptest::prelude::*;

use super::*;

#[test]
fn a_receive_call_that_waits_again_keeps_its_position() {
    let mut fixture = Fixture::new();
    let (first, second) = (fixture.receive(100), fixture.receive(100));
    fixture.offer(3 << 32, &bytes(100, 9));
    fixture.inject_message(3 << 32, &Message::Abort { known: false, reason: String::new() });
    fixture.offer(4 << 32, &bytes(100, 4));
    fixture.offer(5 << 32, &bytes(100, 5));
    fixture.deliver(5 << 32, &bytes(100, 5));
    fixture.deliver(4 << 32, &bytes(100, 4));
    assert_eq!(fixture.received(first), Some(bytes(100, 4)));
    assert_eq!(fixture.received(second), Some(bytes(100, 5)));
}

#[test]
fn a_complete_receive_call_accepts_no_later_offer() {
    let mut fixture = Fixture::new();
    let first = fixture.receive(100);
    fixture.offer(3 << 32, &bytes(100, 3));
    fixture.deliver(3 << 32, &bytes(100, 3));
    fixture.sent_messages();
    fixture.offer(4 << 32, &bytes(100, 4));
    assert_eq!(fixture.sent_messages(), [(4 << 32, Message::Unclaimed)]);
    let second = fixture.receive(100);
    fixture.offer(4 << 32, &bytes(100, 4));
    fixture.deliver(4 << 32, &bytes(100, 4));
    assert_eq!(
        (fixture.received(first), fixture.received(second)),
        (Some(bytes(100, 3)), Some(bytes(100, 4)))
    );
}

#[test]
fn a_cancelled_receive_call_accepts_nothing_and_may_be_cancelled_again() {
    let mut fixture = Fixture::new();
    let session = fixture.receive(100);
    for _ in 0..3 {
        fixture.cancel(session).expect("cancelled");
    }
    assert_eq!(fixture.state(session), SessionState::Failed);
    fixture.sent_messages();
    fixture.offer(3 << 32, &bytes(100, 3));
    assert_eq!(fixture.sent_messages(), [(3 << 32, Message::Unclaimed)]);
    assert_eq!(
        fixture.cancel(session + 1).expect_err("never opened"),
        CommandError::UnknownSession(session + 1)
    );
}

#[test]
fn invalid_offers_are_ignored() {
    let mut fixture = Fixture::new();
    fixture.receive(u64::from(u32::MAX) >> 8);
    fixture.sent_messages();
    for (total, segment_size) in [(0, 1460), (u64::MAX, 1460), (1 << 48, 536), (1000, 0), (1 << 24, 1)] {
        let terms = Terms { total, segment_size, interval: ReportInterval::for_receivers(1) };
        fixture.inject_message(9 << 32, &Message::Manifest { dest: u32::from(HERE), terms, listed: vec![1] });
        assert_eq!(fixture.sent_messages(), [], "{total} {segment_size}");
    }
}

#[test]
fn the_next_transfer_is_offered_when_the_previous_one_was_accepted_or_has_ended() {
    let mut fixture = Fixture::new();
    let (first, second, third) = (fixture.send(b"a"), fixture.send(b"b"), fixture.send(b"c"));
    let offers = |fixture: &mut Fixture| {
        let numbers = fixture.sent_messages().into_iter().filter_map(|(number, message)| match message {
            Message::Manifest { listed, .. } if listed == [SENDER] => Some(number),
            _ => None,
        });
        numbers.collect::<BTreeSet<u64>>()
    };
    fixture.advance(1);
    let a = offers(&mut fixture);
    assert_eq!(a.len(), 1, "only the first");
    fixture.advance(1_000);
    assert_eq!(offers(&mut fixture), a, "however long it takes");
    fixture.inject_message(*a.first().expect("one"), &Message::Ready { capacity: 9 });
    let b = offers(&mut fixture);
    assert_eq!(b.len(), 1, "the second immediately");
    assert_ne!(a, b);
    fixture.cancel(second).expect("cancelled");
    let c = offers(&mut fixture);
    assert_eq!(c.len(), 1, "the third");
    fixture.inject_message(*c.first().expect("one"), &Message::Unclaimed);
    fixture.advance(10_000);
    let reason = fixture.peer(third).reason;
    assert_eq!(reason, "no receive call waited for it within 10000 ms");
    assert_eq!(fixture.peer(first).state, SessionState::Active);
}

#[test]
fn transfers_queued_behind_an_unclaimed_one_are_unclaimed_too() {
    let mut fixture = Fixture::new();
    let (first, second) = (fixture.send(b"a"), fixture.send(b"b"));
    let number = fixture.offered();
    fixture.inject_message(number, &Message::Unclaimed);
    fixture.advance(10_001);
    for session in [first, second] {
        assert_eq!(fixture.peer(session).reason, "no receive call waited for it within 10000 ms");
    }
}

#[test]
fn a_hundred_thousand_transfers_leave_only_the_bounded_history() {
    let mut fixture = Fixture::new();
    for round in 0..50_000u64 {
        let incoming = fixture.receive(4);
        fixture.offer((round + 1) << 32, b"data");
        fixture.deliver((round + 1) << 32, b"data");
        fixture.inject_message((round + 1) << 32, &Message::Ack);
        let outgoing = fixture.send(b"data");
        let number = fixture.offered();
        fixture.get_ready(number);
        fixture.inject_message(number, &Message::Complete { bytes: 4, digest: digest(b"data") });
        assert_eq!((incoming, outgoing), (2 * round + 1, 2 * round + 2));
        fixture.io.events.clear();
        fixture.io.transmits.clear();
    }
    let sessions = &fixture.engine.sessions;
    assert_eq!((sessions.senders.len(), sessions.receivers.len()), (0, 0));
    assert_eq!((sessions.offered.len(), sessions.waiting.len(), sessions.tags.len()), (0, 0, 0));
    assert_eq!((sessions.sent.len(), sessions.accepted.len()), (HISTORY_SIZE, HISTORY_SIZE));
    assert_eq!(
        (sessions.sender_history.values().count(), sessions.receiver_history.values().count()),
        (HISTORY_SIZE, HISTORY_SIZE)
    );
    assert_eq!(fixture.engine.stats().sessions.len(), 2 * HISTORY_SIZE);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Frames of every kind about known and unknown transfers, with truncated and changed bodies.
    #[test]
    fn invalid_messages_from_a_peer_never_panic_and_never_complete_anything(
        frames in proptest::collection::vec(
            (0u8..16, any::<u8>(), 0usize..3, any::<u32>(), proptest::collection::vec(any::<u8>(), 0..90), 0u64..400),
            1..60,
        ),
    ) {
        let mut fixture = Fixture::new();
        let outgoing = fixture.send(&bytes(5000, 1));
        let number = fixture.offered();
        let incoming = fixture.receive(5000);
        fixture.offer(8 << 32, &bytes(5000, 2));
        for (kind, round, whose, index, body, ms) in frames {
            let number = [number, 8 << 32, 77 << 32][whose];
            let mut payload = vec![0; wire::HEADER];
            let (tree, tag, index) = (0, tag_of(number), index % 12);
            Header { kind, tree, round, tag, index, sequence: index as u16 }.write(&mut payload);
            if kind != wire::DATA {
                payload.extend_from_slice(&number.to_be_bytes());
            }
            payload.extend_from_slice(&body);
            fixture.inject(&payload);
            fixture.advance(ms);
            while fixture.engine.poll_transmit(fixture.now, &mut fixture.io) {}
            fixture.sent_messages();
        }
        prop_assert_ne!(fixture.state(outgoing), SessionState::Complete);
        prop_assert_ne!(fixture.state(incoming), SessionState::Complete);
    }
}
