//! Test the events about the state of a node and of its links.

use super::*;
use crate::Event;

fn events(engine: &mut Engine, io: &mut Io, command: Command) -> Vec<Event> {
    io.events.clear();
    engine.handle_command(Instant::ZERO, command, io).expect("executed");
    io.events.clone()
}

#[test]
fn a_pause_and_its_end_are_reported_once() {
    let mut io = Io::new(Pool::standalone());
    let mut engine = engine(&mut io);
    for (paused, expected) in [(true, 1), (true, 0), (false, 1), (false, 0)] {
        let found = events(&mut engine, &mut io, Command::SetPaused { paused });
        assert_eq!(found, vec![Event::NodePaused { paused }; expected]);
    }
}

#[test]
fn a_link_is_reported_when_it_ceases_to_carry_packets_whatever_the_reason() {
    let mut io = Io::new(Pool::standalone());
    let mut engine = engine(&mut io);
    let set = |down, delay_us| Command::SetLink {
        remote: 2,
        spec: LinkSpec { down, delay_us, ..LinkSpec::default() },
    };
    let carries = |carries| vec![Event::LinkCarries { remote: 2, carries }];
    assert_eq!(events(&mut engine, &mut io, set(false, 5)), [], "another delay");
    assert_eq!(events(&mut engine, &mut io, set(true, 5)), carries(false));
    assert_eq!(events(&mut engine, &mut io, set(true, 7)), []);
    io.events.clear();
    engine.handle_link_state(Instant::ZERO, 0, false, &mut io);
    assert_eq!(io.events, [], "it carried none before");
    assert_eq!(events(&mut engine, &mut io, set(false, 0)), [], "its transport is down");
    engine.handle_link_state(Instant::ZERO, 0, true, &mut io);
    assert_eq!(io.events, carries(true));
    let removed = events(&mut engine, &mut io, Command::RemoveLink { remote: 2 });
    assert_eq!(removed, carries(false));
}
