//! Fuzz what clients and neighbours of a node in max mode send: SOCKS5, and the header of a hop.

use std::net::SocketAddr;

use nm_max::hop::{Answer, Reader, Request};
use nm_max::socks::{Credentials, Negotiation, Progress};
use nm_max::Host;

use crate::input::Input;

/// Reads the bytes as a client's part of SOCKS5, as a request and as an answer, in the pieces that the first bytes
/// choose. A message that was read is written and read again, and equals itself.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (with_password, piece) = (input.u8() % 2 == 1, usize::from(input.u8() % 16) + 1);
    let rest = &data[data.len().min(2)..];
    client(rest, with_password, piece);
    neighbour(rest, piece);
}

fn client(bytes: &[u8], with_password: bool, piece: usize) {
    let credentials = with_password.then(|| Credentials {
        username: "a".to_owned(),
        password: "b".to_owned(),
    });
    let (mut negotiation, mut rest) = (Negotiation::new(credentials), bytes);
    loop {
        let count = negotiation.wants().min(piece).min(rest.len());
        if count == 0 {
            return;
        }
        let (now, later) = rest.split_at(count);
        rest = later;
        match negotiation.handle(now) {
            Ok(Progress::More) => {}
            Ok(Progress::Send(answer)) => assert_eq!(answer.len(), 2),
            Ok(Progress::Connect(destination)) => {
                assert_ne!(destination.port, 0);
                assert_eq!(negotiation.wants(), 0, "the rest belongs to the flow");
                if let Host::Address(address) = destination.host {
                    carried(SocketAddr::new(address, destination.port), piece);
                }
                return;
            }
            Err(error) => {
                assert!(error.answer().len() <= 10);
                return;
            }
        }
    }
}

/// The request of a flow to a destination is read as it was written.
fn carried(destination: SocketAddr, piece: usize) {
    let request = Request {
        flow: 1,
        source: 2,
        previous: 3,
        exit: 4,
        route: 5,
        hops: 6,
        client: destination,
        destination,
    };
    let message = request.encode();
    assert_eq!(
        read(&message, piece).and_then(|reader| reader.request().ok()),
        Some(request)
    );
}

fn neighbour(bytes: &[u8], piece: usize) {
    let Some(reader) = read(bytes, piece) else {
        return;
    };
    if let Ok(request) = reader.request() {
        let again = read(&request.encode(), piece).and_then(|reader| reader.request().ok());
        assert_eq!(again, Some(request));
    }
    if let Ok(answer) = reader.answer() {
        let again: Option<Answer> =
            read(&answer.encode(), piece).and_then(|reader| reader.answer().ok());
        assert_eq!(again, Some(answer));
    }
}

/// A complete message, if the bytes begin with one.
fn read(bytes: &[u8], piece: usize) -> Option<Reader> {
    let (mut reader, mut rest) = (Reader::default(), bytes);
    loop {
        let count = reader.wants().min(piece).min(rest.len());
        if count == 0 {
            return None;
        }
        let (now, later) = rest.split_at(count);
        rest = later;
        if reader.handle(now).ok()? {
            return Some(reader);
        }
    }
}
