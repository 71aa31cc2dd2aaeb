//! Test messages of earlier incarnations, late duplicates, and collisions of numbers.

use super::*;

#[test]
fn data_of_another_transfer_with_the_same_tag_never_completes_one() {
    let mut fixture = Fixture::new();
    let session = fixture.receive(5000);
    let (new, old) = (7 << 32 | 1, 7 << 32 | 2);
    fixture.offer(new, &bytes(5000, 1));
    fixture.segments(old, &bytes(5000, 2));
    assert_eq!(fixture.state(session), SessionState::Active, "the digest of the sender has not arrived");
    fixture.inject_message(new, &Message::SourceDone { digest: digest(&bytes(5000, 1)) });
    let report = fixture.report(session);
    assert_eq!(report.state, SessionState::Failed);
    assert!(report.reason.starts_with("digest differs"), "{}", report.reason);
    let sent_messages = fixture.sent_messages();
    assert!(matches!(sent_messages.last(), Some((number, Message::Leave { failed: true, reason }))
        if *number == new && reason.starts_with("digest differs")));
}

#[test]
fn one_late_segment_of_an_earlier_incarnation_fails_the_receiver_with_a_reason() {
    let mut fixture = Fixture::new();
    let session = fixture.receive(5000);
    let number = 7 << 32;
    fixture.offer(number, &bytes(5000, 1));
    fixture.segments(number | 5, &bytes(UNIT, 9));
    fixture.deliver(number, &bytes(5000, 1));
    assert_eq!(fixture.state(session), SessionState::Failed);
    assert_eq!(fixture.received(session), None);
}

#[test]
fn concurrent_transfers_with_one_tag_complete_or_fail_with_a_reason() {
    let mut fixture = Fixture::new();
    let (first, second) = (fixture.receive(5000), fixture.receive(5000));
    fixture.offer(7 << 32 | 1, &bytes(5000, 1));
    fixture.offer(7 << 32 | 2, &bytes(5000, 2));
    fixture.deliver(7 << 32 | 2, &bytes(5000, 2));
    assert_eq!(fixture.received(second), Some(bytes(5000, 2)));
    assert_eq!(fixture.state(first), SessionState::Active);
    fixture.advance(20_000);
    assert_eq!(fixture.state(first), SessionState::TimedOut);
}

#[test]
fn a_duplicate_of_an_old_offer_does_not_occupy_a_receive_call() {
    let mut fixture = Fixture::new();
    let session = fixture.receive(5000);
    let (old, new) = (3 << 32, 4 << 32);
    fixture.offer(old, &bytes(5000, 9));
    assert!(fixture.sent_messages().contains(&(old, Message::Ready { capacity: 5000 })));
    fixture.offer(new, &bytes(5000, 1));
    assert!(fixture.sent_messages().contains(&(new, Message::Unclaimed)));
    fixture.inject_message(old, &Message::Abort { known: false, reason: "unknown".into() });
    assert_eq!(fixture.state(session), SessionState::Waiting);
    assert!(fixture.sent_messages().contains(&(0, Message::Solicit { dest: u32::from(HERE) })));
    fixture.offer(old, &bytes(5000, 9));
    assert_eq!(fixture.sent_messages(), [], "the old offer is known to be withdrawn");
    fixture.offer(new, &bytes(5000, 1));
    fixture.deliver(new, &bytes(5000, 1));
    assert_eq!(fixture.received(session), Some(bytes(5000, 1)));
}

#[test]
fn a_transfer_that_its_sender_does_not_know_ends_at_the_receiver() {
    let mut fixture = Fixture::new();
    let session = fixture.receive(5000);
    fixture.offer(3 << 32, &bytes(5000, 1));
    fixture.segments(3 << 32, &bytes(UNIT, 1));
    fixture.sent_messages();
    fixture.advance(1_001);
    assert!(
        fixture.sent_messages().iter().any(|(_, message)| matches!(message, Message::Ready { .. })),
        "it sends its state"
    );
    fixture.inject_message(3 << 32, &Message::Abort { known: false, reason: "was it restarted?".into() });
    assert_eq!(fixture.state(session), SessionState::Failed);
    assert!(fixture.report(session).reason.contains("restarted"));
}

#[test]
fn a_receiver_of_an_earlier_incarnation_gets_an_abort() {
    let mut fixture = Fixture::new();
    let unknown = 99 << 32;
    let progress = wire::Progress::default();
    let digest = digest(b"x");
    for message in [
        Message::Ready { capacity: 9 },
        Message::Progress(progress),
        Message::Need { last: true, bytes: 0, runs: vec![(0, 1)] },
        Message::Complete { bytes: 1, digest },
    ] {
        fixture.inject_message(unknown, &message);
        let sent_messages = fixture.sent_messages();
        assert!(
            matches!(sent_messages[..], [(99_u64.., Message::Abort { known: false, .. })]),
            "{sent_messages:?}"
        );
    }
    fixture.inject_message(unknown, &Message::Leave { failed: true, reason: String::new() });
    fixture.inject_message(unknown, &Message::Unclaimed);
    assert_eq!(fixture.sent_messages(), []);
}

#[test]
fn transfer_numbers_of_two_incarnations_are_disjoint() {
    let numbers = |incarnation| {
        let mut sessions = Sessions::new(&NodeConfig { incarnation, ..NodeConfig::new(1) });
        (0..1000).map(|_| sessions.draw_number()).collect::<BTreeSet<u64>>()
    };
    let (one, other) = (numbers(1), numbers(2));
    assert_eq!((one.len(), other.len()), (1000, 1000));
    assert_eq!(one.intersection(&other).count(), 0);
    assert_eq!(numbers(1), one, "and one incarnation is repeatable");
}
