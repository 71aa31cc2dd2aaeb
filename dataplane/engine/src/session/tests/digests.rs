//! What a digest covers, and what is complete by it.

use proptest::prelude::*;

use super::*;
use crate::rng::Rng;

#[test]
fn only_this_transfers_number_and_digest_complete_it() {
    let mut bench = Bench::new();
    let data = b"the same bytes";
    let old = bench.send(data);
    let old_number = bench.offered();
    let digest = digest(data);
    bench.get_ready(old_number);
    assert!(bench.said().contains(&(old_number, Message::SourceDone { digest })), "it says what it has sent");
    bench.tell(old_number, &Message::Complete { bytes: 14, digest });
    assert_eq!(bench.state(old), SessionState::Complete);
    assert!(bench.said().contains(&(old_number, Message::Ack)));
    let session = bench.send(data);
    let number = bench.offered();
    assert_ne!(number, old_number);
    bench.tell(old_number, &Message::Complete { bytes: 14, digest });
    bench.tell(number ^ 1, &Message::Complete { bytes: 14, digest });
    assert_eq!(bench.peer(session).state, SessionState::Waiting);
    bench.get_ready(number);
    bench.tell(number, &Message::Complete { bytes: 14, digest: Digest::of(b"other bytes...", UNIT) });
    let peer = bench.peer(session);
    assert_eq!(peer.state, SessionState::Failed);
    assert!(peer.reason.starts_with("digest differs"), "{}", peer.reason);
    bench.tell(number, &Message::Complete { bytes: 14, digest });
    assert_eq!(bench.peer(session).state, SessionState::Failed, "it has ended");
}

#[test]
fn a_receiver_says_that_it_is_complete_when_it_knows_what_was_sent_and_not_before() {
    let mut bench = Bench::new();
    let (data, number) = (bytes(5000, 1), 3 << 32);
    let digest = digest(&data);
    let session = bench.receive(5000);
    bench.offer(number, &data);
    bench.segments(number, &data);
    bench.tell(number, &Message::Ack);
    assert_eq!(bench.state(session), SessionState::Active);
    let claims = |said: Vec<(u64, Message)>| {
        said.into_iter().filter(|(_, message)| matches!(message, Message::Complete { .. })).count()
    };
    bench.pass(51);
    let said = bench.said();
    assert!(said.contains(&(number, Message::Ready { capacity: 5000 })), "it asks");
    assert_eq!(claims(said), 0);
    bench.tell(number, &Message::SourceDone { digest });
    assert_eq!(bench.received(session), Some(data));
    assert_eq!(bench.said(), [(number, Message::Complete { bytes: 5000, digest })]);
    bench.pass(51);
    assert_eq!(claims(bench.said()), 1, "it says so again until that is known");
    bench.tell(number, &Message::Ack);
    bench.pass(5_000);
    assert_eq!(bench.said(), []);
}

#[test]
fn a_receiver_that_has_missed_the_digest_is_told_when_it_asks() {
    let mut bench = Bench::new();
    bench.send(b"data");
    let number = bench.offered();
    bench.get_ready(number);
    bench.said();
    bench.tell(number, &Message::Ready { capacity: 9 });
    assert_eq!(bench.said(), [(number, Message::SourceDone { digest: digest(b"data") })]);
}

#[test]
fn a_large_transfer_is_complete_at_once_with_the_segment_that_it_lacked() {
    let mut bench = Bench::new();
    let data = bytes(10_000_000, 1);
    let session = bench.receive(data.len() as u64);
    let number = 3 << 32;
    bench.offer(number, &data);
    for (index, part) in data.chunks(UNIT).enumerate().skip(1) {
        bench.hand(&segment(number, 0, index, part));
    }
    bench.tell(number, &Message::SourceDone { digest: digest(&data) });
    assert_eq!(bench.state(session), SessionState::Active);
    bench.hand(&segment(number, 1, 0, &data[..UNIT]));
    assert_eq!(bench.received(session), Some(data));
}

#[test]
fn what_a_receiver_has_is_digested_and_not_what_a_segment_says_of_itself() {
    let mut bench = Bench::new();
    let (data, number) = (bytes(3 * UNIT, 1), 3 << 32);
    let session = bench.receive(data.len() as u64);
    bench.offer(number, &data);
    let mut parts: Vec<&[u8]> = data.chunks(UNIT).collect();
    parts.swap(0, 2);
    for (index, part) in parts.iter().enumerate() {
        bench.hand(&segment(number, 0, index, part));
    }
    bench.tell(number, &Message::SourceDone { digest: digest(&data) });
    assert!(bench.peer(session).reason.starts_with("digest differs"));
}

proptest! {
    #[test]
    fn segments_are_digested_alike_in_any_order_round_and_company(
        len in 1usize..12 * UNIT, seed: u64, rounds in 0u8..4,
    ) {
        let mut bench = Bench::new();
        let (data, number) = (bytes(len, 1), 3 << 32);
        let session = bench.receive(len as u64);
        bench.offer(number, &data);
        let mut rng = Rng::new(seed, &["order"]);
        let mut order: Vec<usize> = (0..len.div_ceil(UNIT)).collect();
        for at in (1..order.len()).rev().filter(|_| rounds > 0) {
            order.swap(at, (rng.next() % (at as u64 + 1)) as usize);
        }
        // Each segment comes several times: in the end nothing is missing.
        for round in 0..=rounds {
            for &index in order.iter().filter(|_| round == rounds || rng.next().is_multiple_of(2)) {
                let part = data.chunks(UNIT).nth(index).expect("within the data");
                bench.hand(&segment(number, round, index, part));
            }
        }
        bench.tell(number, &Message::SourceDone { digest: digest(&data) });
        prop_assert_eq!(bench.state(session), SessionState::Complete);
        prop_assert_eq!(bench.received(session), Some(data));
    }
}

#[test]
fn a_packet_whose_headers_are_wrong_in_the_middle_gives_what_is_right_in_it() {
    let mut bench = Bench::new();
    let (data, number) = (bytes(4 * UNIT, 1), 3 << 32);
    let session = bench.receive(data.len() as u64);
    bench.offer(number, &data);
    let parts = |wrong: bool| -> Vec<u8> {
        let middle = |index| if wrong && index == 1 { 4 << 32 } else { number };
        data.chunks(UNIT)
            .enumerate()
            .flat_map(|(index, part)| segment(middle(index), 0, index, part))
            .collect()
    };
    bench.hand_super(&parts(true));
    assert_eq!(bench.peer(session).bytes, 3 * UNIT as u64);
    bench.hand_super(&parts(false));
    bench.tell(number, &Message::SourceDone { digest: digest(&data) });
    assert_eq!(bench.received(session), Some(data));
}
