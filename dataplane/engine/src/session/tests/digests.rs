//! Test what the digest covers, and when a transfer is complete.

use proptest::prelude::*;

use super::*;
use crate::rng::Rng;

#[test]
fn a_transfer_is_completed_only_by_its_own_number_and_digest() {
    let mut fixture = Fixture::new();
    let data = b"the same bytes";
    let old = fixture.send(data);
    let old_number = fixture.offered();
    let digest = digest(data);
    fixture.get_ready(old_number);
    assert!(
        fixture.sent_messages().contains(&(old_number, Message::SourceDone { digest })),
        "it sends its digest"
    );
    fixture.inject_message(old_number, &Message::Complete { bytes: 14, digest });
    assert_eq!(fixture.state(old), SessionState::Complete);
    assert!(fixture.sent_messages().contains(&(old_number, Message::Ack)));
    let session = fixture.send(data);
    let number = fixture.offered();
    assert_ne!(number, old_number);
    fixture.inject_message(old_number, &Message::Complete { bytes: 14, digest });
    fixture.inject_message(number ^ 1, &Message::Complete { bytes: 14, digest });
    assert_eq!(fixture.peer(session).state, SessionState::Waiting);
    fixture.get_ready(number);
    fixture.inject_message(
        number,
        &Message::Complete { bytes: 14, digest: Digest::of(b"other bytes...", UNIT) },
    );
    let peer = fixture.peer(session);
    assert_eq!(peer.state, SessionState::Failed);
    assert!(peer.reason.starts_with("digest differs"), "{}", peer.reason);
    fixture.inject_message(number, &Message::Complete { bytes: 14, digest });
    assert_eq!(fixture.peer(session).state, SessionState::Failed, "it has ended");
}

#[test]
fn a_receiver_reports_complete_only_after_it_has_the_digest_of_the_sender() {
    let mut fixture = Fixture::new();
    let (data, number) = (bytes(5000, 1), 3 << 32);
    let digest = digest(&data);
    let session = fixture.receive(5000);
    fixture.offer(number, &data);
    fixture.segments(number, &data);
    fixture.inject_message(number, &Message::Ack);
    assert_eq!(fixture.state(session), SessionState::Active);
    let claims = |sent_messages: Vec<(u64, Message)>| {
        sent_messages.into_iter().filter(|(_, message)| matches!(message, Message::Complete { .. })).count()
    };
    fixture.advance(51);
    let sent_messages = fixture.sent_messages();
    assert!(sent_messages.contains(&(number, Message::Ready { capacity: 5000 })), "it sends its state");
    assert_eq!(claims(sent_messages), 0);
    fixture.inject_message(number, &Message::SourceDone { digest });
    assert_eq!(fixture.received(session), Some(data));
    assert_eq!(fixture.sent_messages(), [(number, Message::Complete { bytes: 5000, digest })]);
    fixture.advance(51);
    assert_eq!(claims(fixture.sent_messages()), 1, "it repeats the report until it is acknowledged");
    fixture.inject_message(number, &Message::Ack);
    fixture.advance(5_000);
    assert_eq!(fixture.sent_messages(), []);
}

#[test]
fn a_lost_digest_is_sent_again_on_request() {
    let mut fixture = Fixture::new();
    fixture.send(b"data");
    let number = fixture.offered();
    fixture.get_ready(number);
    fixture.sent_messages();
    fixture.inject_message(number, &Message::Ready { capacity: 9 });
    assert_eq!(fixture.sent_messages(), [(number, Message::SourceDone { digest: digest(b"data") })]);
}

#[test]
fn a_large_transfer_completes_with_its_last_missing_segment() {
    let mut fixture = Fixture::new();
    let data = bytes(10_000_000, 1);
    let session = fixture.receive(data.len() as u64);
    let number = 3 << 32;
    fixture.offer(number, &data);
    for (index, part) in data.chunks(UNIT).enumerate().skip(1) {
        fixture.inject(&segment(number, 0, index, part));
    }
    fixture.inject_message(number, &Message::SourceDone { digest: digest(&data) });
    assert_eq!(fixture.state(session), SessionState::Active);
    fixture.inject(&segment(number, 1, 0, &data[..UNIT]));
    assert_eq!(fixture.received(session), Some(data));
}

#[test]
fn the_digest_covers_the_received_bytes_and_not_the_headers_of_segments() {
    let mut fixture = Fixture::new();
    let (data, number) = (bytes(3 * UNIT, 1), 3 << 32);
    let session = fixture.receive(data.len() as u64);
    fixture.offer(number, &data);
    let mut parts: Vec<&[u8]> = data.chunks(UNIT).collect();
    parts.swap(0, 2);
    for (index, part) in parts.iter().enumerate() {
        fixture.inject(&segment(number, 0, index, part));
    }
    fixture.inject_message(number, &Message::SourceDone { digest: digest(&data) });
    assert!(fixture.peer(session).reason.starts_with("digest differs"));
}

proptest! {
    #[test]
    fn the_digest_does_not_depend_on_order_round_or_grouping_of_segments(
        len in 1usize..12 * UNIT, seed: u64, rounds in 0u8..4,
    ) {
        let mut fixture = Fixture::new();
        let (data, number) = (bytes(len, 1), 3 << 32);
        let session = fixture.receive(len as u64);
        fixture.offer(number, &data);
        let mut rng = Rng::new(seed, &["order"]);
        let mut order: Vec<usize> = (0..len.div_ceil(UNIT)).collect();
        for at in (1..order.len()).rev().filter(|_| rounds > 0) {
            order.swap(at, (rng.next() % (at as u64 + 1)) as usize);
        }
        // Each segment is sent several times, so that none is missing in the end.
        for round in 0..=rounds {
            for &index in order.iter().filter(|_| round == rounds || rng.next().is_multiple_of(2)) {
                let part = data.chunks(UNIT).nth(index).expect("within the data");
                fixture.inject(&segment(number, round, index, part));
            }
        }
        fixture.inject_message(number, &Message::SourceDone { digest: digest(&data) });
        prop_assert_eq!(fixture.state(session), SessionState::Complete);
        prop_assert_eq!(fixture.received(session), Some(data));
    }
}

#[test]
fn valid_segments_of_a_packet_with_an_invalid_header_are_accepted() {
    let mut fixture = Fixture::new();
    let (data, number) = (bytes(4 * UNIT, 1), 3 << 32);
    let session = fixture.receive(data.len() as u64);
    fixture.offer(number, &data);
    let parts = |wrong: bool| -> Vec<u8> {
        let middle = |index| if wrong && index == 1 { 4 << 32 } else { number };
        data.chunks(UNIT)
            .enumerate()
            .flat_map(|(index, part)| segment(middle(index), 0, index, part))
            .collect()
    };
    fixture.inject_super(&parts(true));
    assert_eq!(fixture.peer(session).bytes, 3 * UNIT as u64);
    fixture.inject_super(&parts(false));
    fixture.inject_message(number, &Message::SourceDone { digest: digest(&data) });
    assert_eq!(fixture.received(session), Some(data));
}
