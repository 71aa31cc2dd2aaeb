//! Two engines and frames made by hand: old lives, copies that come late, and collisions.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::cadence::Cadence;
use super::wire::{Header, Message, Terms};
use super::*;
use crate::digest::Digest;
use crate::rng::Rng;
use crate::vnet::GSO_UDP_L4;
use crate::{
    Command, CommandOutput, Engine, LinkSpec, NodeConfig, Packet, PeerReport, Pool, SharedBytes, VnetHeader,
    HEADROOM,
};

const SENDER: NodeId = 2;
const HERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const UNIT: usize = 1460;

/// Node 1 with a link to node 2, which is the test.
struct Bench {
    engine: Engine,
    io: Io,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let mut io = Io::new(Pool::standalone());
        let mut engine = Engine::new(NodeConfig { incarnation: 1, ..NodeConfig::new(1) });
        let link = Command::AddLink { remote: SENDER, remote_name: "n2".into(), spec: LinkSpec::default() };
        let routes =
            Command::InstallRoutes { table: Some(vec![0, 0, SENDER]), routes: vec![], removed: vec![] };
        for command in [link, routes] {
            engine.handle_command(Instant::ZERO, command, &mut io).expect("accepted");
        }
        engine.handle_link_state(Instant::ZERO, 0, true, &mut io);
        Self { engine, io, now: Instant::ZERO }
    }

    fn session(&mut self, command: Command) -> SessionId {
        match self.engine.handle_command(self.now, command, &mut self.io) {
            Ok(CommandOutput::Session(id)) => id,
            other => panic!("a session, not {other:?}"),
        }
    }

    fn receive(&mut self, expected_bytes: u64) -> SessionId {
        self.session(Command::ReceiveData { dest: HERE, source: SENDER, expected_bytes, limits: None })
    }

    fn send(&mut self, data: &[u8]) -> SessionId {
        let dest = Ipv4Addr::new(10, 0, 0, 2);
        let data = SharedBytes::new(data.to_vec());
        self.session(Command::SendData { dest, receivers: vec![SENDER], data, limits: None })
    }

    fn cancel(&mut self, session: SessionId) -> Result<CommandOutput, CommandError> {
        self.engine.handle_command(self.now, Command::CancelSession { session }, &mut self.io)
    }

    /// Hands a session payload from node 2 to the engine.
    fn hand(&mut self, payload: &[u8]) {
        self.hand_as(payload, VnetHeader::default());
    }

    /// The same for many segments in one packet.
    fn hand_super(&mut self, payload: &[u8]) {
        let (gso_size, hdr_len) = ((UNIT + wire::HEADER) as u16, outbox::IP_UDP as u16);
        self.hand_as(
            payload,
            VnetHeader { gso_type: GSO_UDP_L4, gso_size, hdr_len, ..VnetHeader::default() },
        );
    }

    fn hand_as(&mut self, payload: &[u8], vnet: VnetHeader) {
        let mut packet = self.io.pool.get_for(outbox::IP_UDP + payload.len());
        let len = outbox::IP_UDP + payload.len();
        if let Some(storage) = packet.storage_mut() {
            let out = &mut storage[HEADROOM..HEADROOM + len];
            out[outbox::IP_UDP..].copy_from_slice(payload);
            outbox::emit_headers(out, u32::from(HERE) + 1, u32::from(HERE));
        }
        packet.set_frame(HEADROOM, len, vnet);
        packet.parse(1500).expect("a good packet");
        self.engine.handle_link(self.now, 0, packet, &mut self.io);
    }

    fn tell(&mut self, number: u64, message: &Message) {
        self.hand(&frame(number, message));
    }

    fn offer(&mut self, number: u64, data: &[u8]) {
        let terms = Terms { total: data.len() as u64, unit: UNIT as u16, cadence: Cadence::for_receivers(1) };
        self.tell(number, &Message::Manifest { dest: u32::from(HERE), terms, listed: vec![1] });
    }

    /// Hands over all of the data and says that this was it.
    fn deliver(&mut self, number: u64, data: &[u8]) {
        self.segments(number, data);
        self.tell(number, &Message::SourceDone { digest: digest(number, data) });
    }

    fn segments(&mut self, number: u64, data: &[u8]) {
        for (index, part) in data.chunks(UNIT).enumerate() {
            self.hand(&segment(number, 0, index, part));
        }
    }

    /// What the engine has sent to node 2 since the last time.
    fn said(&mut self) -> Vec<(u64, Message)> {
        let read = |packet: &Packet| {
            let (header, body) = Header::read(packet.payload())?;
            Message::read(header.kind, body)
        };
        let said = self.io.transmits.iter().filter_map(|(_, packet)| read(packet)).collect();
        self.io.transmits.clear();
        said
    }

    fn report(&mut self, session: SessionId) -> SessionReport {
        match self.engine.handle_command(self.now, Command::SessionReport { session }, &mut self.io) {
            Ok(CommandOutput::Report(report)) => *report,
            other => panic!("a report, not {other:?}"),
        }
    }

    fn state(&mut self, session: SessionId) -> SessionState {
        self.report(session).state
    }

    fn peer(&mut self, session: SessionId) -> PeerReport {
        self.report(session).peers.remove(0)
    }

    fn received(&self, session: SessionId) -> Option<Vec<u8>> {
        self.io.events.iter().find_map(|event| match event {
            Event::SessionFinished { report, data: Some(data) } if report.session == session => {
                Some(data.0.to_vec())
            }
            _ => None,
        })
    }

    /// Gets ready for what our sender offers, and lets it send everything.
    fn get_ready(&mut self, number: u64) {
        self.tell(number, &Message::Ready { capacity: 1 << 20 });
        while self.engine.poll_transmit(self.now, &mut self.io) {}
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.plus_nanos(ms * 1_000_000);
        self.engine.handle_timeout(self.now, &mut self.io);
    }

    /// The number that our sender offers.
    fn offered(&mut self) -> u64 {
        self.pass(1);
        let found = self.said().into_iter().find_map(|(number, message)| match message {
            Message::Manifest { .. } => Some(number),
            _ => None,
        });
        found.expect("an offer")
    }
}

fn frame(number: u64, message: &Message) -> Vec<u8> {
    let mut payload = vec![0; wire::HEADER];
    Header { kind: message.kind(), round: 0, tag: tag_of(number), offset: 0 }.write(&mut payload);
    payload.extend_from_slice(&number.to_be_bytes());
    message.write(&mut payload);
    payload
}

/// What a sender of this transfer says: of all segments, each with its header in the first round.
fn digest(number: u64, data: &[u8]) -> Digest {
    let mut all = Vec::new();
    for (index, part) in data.chunks(UNIT).enumerate() {
        all.extend_from_slice(&segment(number, 0, index, part));
    }
    Digest::of(&all)
}

fn segment(number: u64, round: u8, index: usize, part: &[u8]) -> Vec<u8> {
    let mut payload = vec![0; wire::HEADER];
    let offset = (index * UNIT) as u64;
    Header { kind: wire::DATA, round, tag: tag_of(number), offset }.write(&mut payload);
    payload.extend_from_slice(part);
    payload
}

fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|index| (index as u8).wrapping_mul(31) ^ seed).collect()
}

#[test]
fn data_of_another_transfer_with_the_same_tag_never_completes_one() {
    let mut bench = Bench::new();
    let session = bench.receive(5000);
    let (new, old) = (7 << 32 | 1, 7 << 32 | 2);
    bench.offer(new, &bytes(5000, 1));
    bench.segments(old, &bytes(5000, 2));
    assert_eq!(bench.state(session), SessionState::Active, "the sender has not said what it has sent");
    bench.tell(new, &Message::SourceDone { digest: digest(new, &bytes(5000, 1)) });
    let report = bench.report(session);
    assert_eq!(report.state, SessionState::Failed);
    assert!(report.reason.starts_with("digest differs"), "{}", report.reason);
    let said = bench.said();
    assert!(matches!(said.last(), Some((number, Message::Leave { failed: true, reason }))
        if *number == new && reason.starts_with("digest differs")));
}

#[test]
fn one_stray_segment_of_an_old_life_is_enough_to_fail_by_name() {
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
fn absurd_offers_are_not_heard() {
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
fn only_this_transfers_number_and_digest_complete_it() {
    let mut bench = Bench::new();
    let data = b"the same bytes";
    let old = bench.send(data);
    let old_number = bench.offered();
    let digest = digest(old_number, data);
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
    bench.tell(number, &Message::Complete { bytes: 14, digest: Digest::of(b"other bytes...") });
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
    let digest = digest(number, &data);
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
    assert_eq!(bench.said(), [(number, Message::SourceDone { digest: digest(number, b"data") })]);
}

#[test]
fn a_receiver_of_an_old_life_is_told_that_there_is_no_such_transfer() {
    let mut bench = Bench::new();
    let unknown = 99 << 32;
    let progress = wire::Progress::default();
    let digest = digest(unknown, b"x");
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
        bench.tell(number, &Message::Complete { bytes: 4, digest: digest(number, b"data") });
        assert_eq!((incoming, outgoing), (2 * round + 1, 2 * round + 2));
        bench.io.events.clear();
        bench.io.transmits.clear();
    }
    let sessions = &bench.engine.sessions;
    assert_eq!((sessions.senders.len(), sessions.receivers.len()), (0, 0));
    assert_eq!((sessions.offered.len(), sessions.waiting.len(), sessions.tags.len()), (0, 0, 0));
    assert_eq!((sessions.sent.len(), sessions.taken.len()), (PAST, PAST));
    assert_eq!(
        (sessions.past_senders.values().count(), sessions.past_receivers.values().count()),
        (PAST, PAST)
    );
    assert_eq!(bench.engine.stats().sessions.len(), 2 * PAST);
}

#[test]
fn a_large_transfer_is_digested_in_steps_between_which_others_have_their_turn() {
    let mut bench = Bench::new();
    let data = bytes(10_000_000, 1);
    let session = bench.receive(data.len() as u64);
    let number = 3 << 32;
    bench.offer(number, &data);
    // Everything but the first segment: nothing can be digested before that is there.
    for (index, part) in data.chunks(UNIT).enumerate().skip(1) {
        bench.hand(&segment(number, 0, index, part));
    }
    bench.segments(number, &data[..UNIT]);
    assert_eq!(bench.state(session), SessionState::Active);
    bench.tell(number, &Message::SourceDone { digest: digest(number, &data) });
    let said = bench.said();
    assert!(
        matches!(said.last(), Some((_, Message::Progress(p))) if p.bytes == 10_000_000),
        "a sign of life"
    );
    let mut steps = 0;
    while bench.state(session) == SessionState::Active {
        let due = bench.engine.poll_deadline().expect("more is due");
        assert!(due <= bench.now.plus_nanos(1), "at once");
        bench.now = bench.now.plus_nanos(1);
        bench.engine.handle_timeout(bench.now, &mut bench.io);
        steps += 1;
    }
    assert_eq!(steps, 9, "a megabyte each");
    assert_eq!(bench.received(session), Some(data));
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Frames of any kind about our transfers and others, with bodies cut and changed.
    #[test]
    fn nonsense_from_a_peer_never_panics_and_never_completes_anything(
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
            for &index in order.iter().filter(|_| round == rounds || rng.next() % 2 == 0) {
                let part = data.chunks(UNIT).nth(index).expect("within the data");
                bench.hand(&segment(number, round, index, part));
            }
        }
        bench.tell(number, &Message::SourceDone { digest: digest(number, &data) });
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
    bench.tell(number, &Message::SourceDone { digest: digest(number, &data) });
    assert_eq!(bench.received(session), Some(data));
}
