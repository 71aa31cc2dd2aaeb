//! Test messages of earlier incarnations, late duplicates, and collisions of numbers.

use super::*;

#[test]
fn data_of_another_transfer_with_the_same_tag_never_completes_one() {
    let mut bench = Bench::new();
    let session = bench.receive(5000);
    let (new, old) = (7 << 32 | 1, 7 << 32 | 2);
    bench.offer(new, &bytes(5000, 1));
    bench.segments(old, &bytes(5000, 2));
    assert_eq!(bench.state(session), SessionState::Active, "the sender has not said what it has sent");
    bench.tell(new, &Message::SourceDone { digest: digest(&bytes(5000, 1)) });
    let report = bench.report(session);
    assert_eq!(report.state, SessionState::Failed);
    assert!(report.reason.starts_with("digest differs"), "{}", report.reason);
    let said = bench.said();
    assert!(matches!(said.last(), Some((number, Message::Leave { failed: true, reason }))
        if *number == new && reason.starts_with("digest differs")));
}

#[test]
fn one_late_segment_of_an_earlier_incarnation_is_enough_to_fail_by_name() {
    let mut bench = Bench::new();
    let session = bench.receive(5000);
    let number = 7 << 32;
    bench.offer(number, &bytes(5000, 1));
    bench.segments(number | 5, &bytes(UNIT, 9));
    bench.deliver(number, &bytes(5000, 1));
    assert_eq!(bench.state(session), SessionState::Failed);
    assert_eq!(bench.received(session), None);
}

#[test]
fn two_transfers_with_one_tag_side_by_side_are_confused_by_name_at_worst() {
    let mut bench = Bench::new();
    let (first, second) = (bench.receive(5000), bench.receive(5000));
    bench.offer(7 << 32 | 1, &bytes(5000, 1));
    bench.offer(7 << 32 | 2, &bytes(5000, 2));
    bench.deliver(7 << 32 | 2, &bytes(5000, 2));
    assert_eq!(bench.received(second), Some(bytes(5000, 2)));
    assert_eq!(bench.state(first), SessionState::Active);
    bench.pass(20_000);
    assert_eq!(bench.state(first), SessionState::TimedOut);
}

#[test]
fn a_copy_of_an_old_offer_does_not_take_a_receive_call_away() {
    let mut bench = Bench::new();
    let session = bench.receive(5000);
    let (old, new) = (3 << 32, 4 << 32);
    bench.offer(old, &bytes(5000, 9));
    assert!(bench.said().contains(&(old, Message::Ready { capacity: 5000 })));
    bench.offer(new, &bytes(5000, 1));
    assert!(bench.said().contains(&(new, Message::Unclaimed)));
    bench.tell(old, &Message::Abort { known: false, reason: "unknown".into() });
    assert_eq!(bench.state(session), SessionState::Waiting);
    assert!(bench.said().contains(&(0, Message::Solicit { dest: u32::from(HERE) })));
    bench.offer(old, &bytes(5000, 9));
    assert_eq!(bench.said(), [], "the old one is known to be none");
    bench.offer(new, &bytes(5000, 1));
    bench.deliver(new, &bytes(5000, 1));
    assert_eq!(bench.received(session), Some(bytes(5000, 1)));
}

#[test]
fn a_sender_that_has_forgotten_a_running_transfer_ends_it() {
    let mut bench = Bench::new();
    let session = bench.receive(5000);
    bench.offer(3 << 32, &bytes(5000, 1));
    bench.segments(3 << 32, &bytes(UNIT, 1));
    bench.said();
    bench.pass(1_001);
    assert!(bench.said().iter().any(|(_, message)| matches!(message, Message::Ready { .. })), "it asks");
    bench.tell(3 << 32, &Message::Abort { known: false, reason: "was it restarted?".into() });
    assert_eq!(bench.state(session), SessionState::Failed);
    assert!(bench.report(session).reason.contains("restarted"));
}

#[test]
fn a_receiver_of_an_old_life_is_told_that_there_is_no_such_transfer() {
    let mut bench = Bench::new();
    let unknown = 99 << 32;
    let progress = wire::Progress::default();
    let digest = digest(b"x");
    for message in [
        Message::Ready { capacity: 9 },
        Message::Progress(progress),
        Message::Need { last: true, bytes: 0, runs: vec![(0, 1)] },
        Message::Complete { bytes: 1, digest },
    ] {
        bench.tell(unknown, &message);
        let said = bench.said();
        assert!(matches!(said[..], [(99_u64.., Message::Abort { known: false, .. })]), "{said:?}");
    }
    bench.tell(unknown, &Message::Leave { failed: true, reason: String::new() });
    bench.tell(unknown, &Message::Unclaimed);
    assert_eq!(bench.said(), []);
}

#[test]
fn numbers_of_two_lives_have_nothing_in_common() {
    let numbers = |incarnation| {
        let mut sessions = Sessions::new(&NodeConfig { incarnation, ..NodeConfig::new(1) });
        (0..1000).map(|_| sessions.draw_number()).collect::<BTreeSet<u64>>()
    };
    let (one, other) = (numbers(1), numbers(2));
    assert_eq!((one.len(), other.len()), (1000, 1000));
    assert_eq!(one.intersection(&other).count(), 0);
    assert_eq!(numbers(1), one, "and one life is repeatable");
}
