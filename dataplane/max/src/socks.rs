//! The server's side of SOCKS5 (RFC 1928) with the command CONNECT, without authentication or with a user name and a
//! password (RFC 1929).

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use thiserror::Error;

use crate::address::{decode_host, encode_address, TYPE_NAME, TYPE_V4, TYPE_V6};
use crate::{Destination, Reply};

const VERSION: u8 = 5;
const AUTH_VERSION: u8 = 1;
const METHOD_NONE: u8 = 0;
const METHOD_PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;

/// The user name and the password that a client must give, each of 1 to 255 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Credentials({}, ..)", self.username)
    }
}

/// Why a client was refused before its destination was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SocksError {
    /// The first byte is not that of SOCKS5.
    #[error("not SOCKS5: version {0}")]
    Version(u8),
    /// The client offers no method of authentication that this server accepts.
    #[error("no common method of authentication")]
    NoMethod,
    /// The subnegotiation has another version than RFC 1929.
    #[error("version {0} of the subnegotiation of a password")]
    AuthVersion(u8),
    /// A wrong user name or password.
    #[error("wrong user name or password")]
    Password,
    /// A command other than CONNECT.
    #[error("command {0}, where only CONNECT is possible")]
    Command(u8),
    /// An unknown type of address.
    #[error("type {0} of address")]
    AddressType(u8),
    /// A name that no host can have.
    #[error("a name that no host can have")]
    Name,
    /// Port 0.
    #[error("port 0")]
    Port,
}

impl SocksError {
    /// The bytes to send before the connection is closed; none to a client that does not speak SOCKS5.
    #[must_use]
    pub fn answer(&self) -> Vec<u8> {
        match self {
            Self::Version(_) => Vec::new(),
            Self::NoMethod => vec![VERSION, NO_METHOD],
            Self::AuthVersion(_) | Self::Password => vec![AUTH_VERSION, 1],
            Self::Command(_) => failure(Reply::UnknownCommand),
            Self::AddressType(_) => failure(Reply::UnknownAddressType),
            Self::Name => failure(Reply::HostUnreachable),
            Self::Port => failure(Reply::Failure),
        }
    }
}

/// The reply to a request that failed.
#[must_use]
pub fn failure(code: Reply) -> Vec<u8> {
    reply(code, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
}

/// The reply to a request; `bound` is the address from which the destination was connected.
#[must_use]
pub fn reply(code: Reply, bound: SocketAddr) -> Vec<u8> {
    let mut bytes = vec![VERSION, code.code(), 0];
    encode_address(bound.ip(), &mut bytes);
    bytes.extend_from_slice(&bound.port().to_be_bytes());
    bytes
}

/// What follows from the bytes of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are wanted.
    More,
    /// These bytes are to be sent, and more are wanted.
    Send(Vec<u8>),
    /// The client asks for this destination. No more bytes are wanted.
    Connect(Destination),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Greeting,
    Methods(usize),
    Username,
    PasswordLength(usize),
    Password(usize, usize),
    Request,
    NameLength,
    Address(u8, usize),
    Done,
}

/// The negotiation with one client.
#[derive(Debug)]
pub struct Negotiation {
    state: State,
    credentials: Option<Credentials>,
    bytes: Vec<u8>,
}

impl Negotiation {
    /// Before the first byte of a client, which must give the credentials if there are any.
    #[must_use]
    pub fn new(credentials: Option<Credentials>) -> Self {
        Self {
            state: State::Greeting,
            credentials,
            bytes: Vec::new(),
        }
    }

    /// How many bytes to read next, at most; 0 after the destination.
    #[must_use]
    pub fn wants(&self) -> usize {
        self.needed() - self.bytes.len()
    }

    /// The length of the present part.
    fn needed(&self) -> usize {
        match self.state {
            State::Greeting | State::Username => 2,
            State::Methods(count) => count,
            State::PasswordLength(name) => name + 1,
            State::Password(_, password) => password,
            State::Request => 4,
            State::NameLength => 1,
            State::Address(_, length) => length + 2,
            State::Done => 0,
        }
    }

    /// Reads bytes of the client, no more than [`wants`](Self::wants).
    ///
    /// # Errors
    ///
    /// [`SocksError`]; its [`answer`](SocksError::answer) is to be sent before the connection is closed.
    pub fn handle(&mut self, bytes: &[u8]) -> Result<Progress, SocksError> {
        debug_assert!(bytes.len() <= self.wants(), "the rest belongs to the flow");
        self.bytes.extend_from_slice(bytes);
        if self.wants() > 0 || self.state == State::Done {
            return Ok(Progress::More);
        }
        let part = std::mem::take(&mut self.bytes);
        self.part(&part)
    }

    fn part(&mut self, part: &[u8]) -> Result<Progress, SocksError> {
        match self.state {
            State::Greeting => match *part {
                [VERSION, 0] => return Err(SocksError::NoMethod),
                [VERSION, count] => self.state = State::Methods(count.into()),
                _ => return Err(SocksError::Version(part[0])),
            },
            State::Methods(_) => return self.choose(part),
            State::Username => match *part {
                [AUTH_VERSION, 0] => return Err(SocksError::Password),
                [AUTH_VERSION, length] => self.state = State::PasswordLength(length.into()),
                _ => return Err(SocksError::AuthVersion(part[0])),
            },
            State::PasswordLength(name) => {
                let length = usize::from(part[name]);
                if length == 0 {
                    return Err(SocksError::Password);
                }
                // Both are compared together, so the name stays.
                self.bytes = part[..name].to_vec();
                self.state = State::Password(name, name + length);
            }
            State::Password(name, _) => return self.authenticate(name, part),
            State::Request => return self.request(part),
            State::NameLength => match part[0] {
                0 => return Err(SocksError::Name),
                length => self.state = State::Address(TYPE_NAME, length.into()),
            },
            State::Address(kind, length) => return self.destination(kind, part, length),
            State::Done => {}
        }
        Ok(Progress::More)
    }

    fn choose(&mut self, methods: &[u8]) -> Result<Progress, SocksError> {
        let (method, next) = match self.credentials {
            None => (METHOD_NONE, State::Request),
            Some(_) => (METHOD_PASSWORD, State::Username),
        };
        if !methods.contains(&method) {
            return Err(SocksError::NoMethod);
        }
        self.state = next;
        Ok(Progress::Send(vec![VERSION, method]))
    }

    fn authenticate(&mut self, name: usize, part: &[u8]) -> Result<Progress, SocksError> {
        let fits = self.credentials.as_ref().is_some_and(|expected| {
            let same_name = same(&part[..name], expected.username.as_bytes());
            same_name & same(&part[name..], expected.password.as_bytes())
        });
        if !fits {
            return Err(SocksError::Password);
        }
        self.state = State::Request;
        Ok(Progress::Send(vec![AUTH_VERSION, 0]))
    }

    fn request(&mut self, part: &[u8]) -> Result<Progress, SocksError> {
        match *part {
            [VERSION, CONNECT, _, kind] => {
                self.state = match kind {
                    TYPE_V4 => State::Address(kind, 4),
                    TYPE_V6 => State::Address(kind, 16),
                    TYPE_NAME => State::NameLength,
                    _ => return Err(SocksError::AddressType(kind)),
                };
                Ok(Progress::More)
            }
            [VERSION, command, ..] => Err(SocksError::Command(command)),
            _ => Err(SocksError::Version(part[0])),
        }
    }

    fn destination(
        &mut self,
        kind: u8,
        part: &[u8],
        length: usize,
    ) -> Result<Progress, SocksError> {
        let (host, port) = part.split_at(length);
        let host = decode_host(kind, host).ok_or(SocksError::Name)?;
        let port = u16::from_be_bytes([port[0], port[1]]);
        if port == 0 {
            return Err(SocksError::Port);
        }
        self.state = State::Done;
        Ok(Progress::Connect(Destination { host, port }))
    }
}

/// Whether two texts are equal, in a time that does not tell where they differ.
fn same(found: &[u8], expected: &[u8]) -> bool {
    let mut different = u8::from(found.len() != expected.len());
    for (index, byte) in found.iter().enumerate() {
        different |= byte ^ expected.get(index).copied().unwrap_or(!byte);
    }
    different == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Host;

    /// Passes bytes in pieces of the wanted size, at most `piece` each; returns what was sent and the result.
    fn run(
        credentials: Option<Credentials>,
        bytes: &[u8],
        piece: usize,
    ) -> (Vec<u8>, Result<Progress, SocksError>) {
        let (mut negotiation, mut rest, mut sent) =
            (Negotiation::new(credentials), bytes, Vec::new());
        loop {
            let take = negotiation.wants().min(piece).min(rest.len());
            if take == 0 {
                return (sent, Ok(Progress::More));
            }
            let (now, later) = rest.split_at(take);
            rest = later;
            match negotiation.handle(now) {
                Ok(Progress::More) => {}
                Ok(Progress::Send(bytes)) => sent.extend(bytes),
                end => return (sent, end),
            }
        }
    }

    fn secret() -> Option<Credentials> {
        let (username, password) = ("ada".into(), "s3cret".into());
        Some(Credentials { username, password })
    }

    fn to(host: Host, port: u16) -> Result<Progress, SocksError> {
        Ok(Progress::Connect(Destination { host, port }))
    }

    #[test]
    fn the_three_kinds_of_addresses_are_read_in_any_pieces() {
        let v4 = b"\x05\x01\x00\x05\x01\x00\x01\x0a\x00\x00\x03\x00\x50";
        let name = b"\x05\x02\x02\x00\x05\x01\x00\x03\x06node-3\x1f\x90";
        let mut v6 = b"\x05\x01\x00\x05\x01\x00\x04".to_vec();
        v6.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 1, 0xbb]);
        for piece in [1, 2, 7, 300] {
            let found = run(None, v4, piece);
            let host = Host::Address([10, 0, 0, 3].into());
            assert_eq!(found, (vec![5, 0], to(host, 80)), "{piece}");
            let found = run(None, name, piece);
            assert_eq!(found, (vec![5, 0], to(Host::Name("node-3".into()), 8080)));
            let found = run(None, &v6, piece);
            let host = Host::Address("fd00::3".parse().expect("an address"));
            assert_eq!(found, (vec![5, 0], to(host, 443)));
        }
    }

    #[test]
    fn nothing_behind_the_request_is_wanted() {
        let mut negotiation = Negotiation::new(None);
        for part in [
            &b"\x05\x01"[..],
            b"\x00",
            b"\x05\x01\x00\x01",
            b"\x0a\x00\x00\x03\x00\x50",
        ] {
            assert_eq!(negotiation.wants(), part.len());
            negotiation.handle(part).expect("fine");
        }
        assert_eq!(negotiation.wants(), 0);
    }

    #[test]
    fn a_password_is_required_and_checked() {
        let greeting = b"\x05\x02\x00\x02";
        let request = b"\x05\x01\x00\x01\x0a\x00\x00\x03\x00\x50";
        let with = |auth: &[u8]| run(secret(), &[greeting, auth, request].concat(), 3);
        let (sent, end) = with(b"\x01\x03ada\x06s3cret");
        assert_eq!(sent, [5, 2, 1, 0]);
        assert!(matches!(end, Ok(Progress::Connect(_))), "{end:?}");
        for bad in [
            &b"\x01\x03ada\x06s3cres"[..],
            b"\x01\x03adb\x06s3cret",
            b"\x01\x02ad\x06s3cret",
            b"\x01\x03ada\x05s3cre",
            b"\x01\x03ada\x07s3cret!",
            b"\x01\x06s3cret\x03ada",
            b"\x01\x00\x06s3cret",
            b"\x01\x03ada\x00",
        ] {
            assert_eq!(
                with(bad),
                (vec![5, 2], Err(SocksError::Password)),
                "{bad:?}"
            );
        }
        assert_eq!(with(b"\x05\x03ada").1, Err(SocksError::AuthVersion(5)));
        let refused = run(secret(), b"\x05\x01\x00", 3).1;
        assert_eq!(
            refused,
            Err(SocksError::NoMethod),
            "no authentication is not enough"
        );
        assert_eq!(SocksError::Password.answer(), [1, 1]);
    }

    #[test]
    fn rubbish_is_refused_with_the_reply_of_the_standard() {
        let after = |request: &[u8]| run(None, &[b"\x05\x01\x00", request].concat(), 9).1;
        for (found, expected, answer) in [
            (
                run(None, b"GET / HTTP/1.1", 9).1,
                SocksError::Version(b'G'),
                None,
            ),
            (
                run(None, b"\x04\x01\x00\x50", 9).1,
                SocksError::Version(4),
                None,
            ),
            (
                run(None, b"\x05\x00", 9).1,
                SocksError::NoMethod,
                Some(0xff),
            ),
            (
                run(None, b"\x05\x01\x02", 9).1,
                SocksError::NoMethod,
                Some(0xff),
            ),
            (after(b"\x05\x02\x00\x01"), SocksError::Command(2), Some(7)),
            (after(b"\x05\x03\x00\x01"), SocksError::Command(3), Some(7)),
            (
                after(b"\x05\x01\x00\x02"),
                SocksError::AddressType(2),
                Some(8),
            ),
            (after(b"\x05\x01\x00\x03\x00"), SocksError::Name, Some(4)),
            (
                after(b"\x05\x01\x00\x03\x01/\x00\x50"),
                SocksError::Name,
                Some(4),
            ),
            (
                after(b"\x05\x01\x00\x01\x0a\x00\x00\x03\x00\x00"),
                SocksError::Port,
                Some(1),
            ),
        ] {
            assert_eq!(found, Err(expected));
            assert_eq!(expected.answer().get(1).copied(), answer, "{expected}");
        }
    }

    #[test]
    fn credentials_are_not_printed() {
        assert_eq!(format!("{:?}", secret()), "Some(Credentials(ada, ..))");
    }
}
