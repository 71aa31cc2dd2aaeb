//! The header that a node sends to the next one on a new connection of a flow, and the answer.
//!
//! ```text
//! request   u16 length │ u8 version │ u64 flow │ u32 source │ u32 exit │ u8 hops │ type, address, u16 port
//! answer    u16 length │ u8 version │ u8 reply │ type, address, u16 port │ u8 count │ count × u32 node
//! ```
//!
//! The length is that of what follows it. Lengths, numbers of nodes and flows are little endian, as in the frames of
//! links; destinations are those of SOCKS5. Behind the answer both directions carry the bytes of the flow.

use std::net::SocketAddr;

use thiserror::Error;

use crate::address::{decode_host, TYPE_NAME, TYPE_V4, TYPE_V6};
use crate::{Destination, Host, Reply};

/// Increases when the format changes; both ends must have the same version.
const VERSION: u8 = 1;

/// Bytes of a length.
const PREFIX: usize = 2;

/// The most relays of a route: as many as the TTL of a packet allows.
pub const MAX_HOPS: u8 = 254;

/// The longest message behind its length: an answer with a full route.
const MAX_MESSAGE: usize = 1 + 1 + (1 + 16 + 2) + 1 + 255 * 4;

/// Why a message of a neighbour is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HopError {
    /// A length of zero, or above the largest.
    #[error("a message of {0} bytes")]
    Length(usize),
    /// Another version.
    #[error("version {0} of the header")]
    Version(u8),
    /// It ends too early, or has bytes behind its end.
    #[error("a message of another length than its content")]
    Truncated,
    /// An invalid destination.
    #[error("an invalid destination")]
    Destination,
    /// An unknown reply.
    #[error("reply {0}")]
    Reply(u8),
}

/// The request to carry a flow on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The flow's number, random.
    pub flow: u64,
    /// The node at which it entered.
    pub source: u32,
    /// The node at which it leaves.
    pub exit: u32,
    /// How many nodes may still follow.
    pub hops: u8,
    /// Where it goes.
    pub destination: Destination,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The result.
    pub reply: Reply,
    /// The address from which the destination was connected.
    pub bound: SocketAddr,
    /// The nodes that the flow passes from here on, in order; the answering node first.
    pub route: Vec<u32>,
}

impl Request {
    /// The whole message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = vec![VERSION];
        body.extend_from_slice(&self.flow.to_le_bytes());
        body.extend_from_slice(&self.source.to_le_bytes());
        body.extend_from_slice(&self.exit.to_le_bytes());
        body.push(self.hops);
        self.destination.encode(&mut body);
        with_length(&body)
    }

    fn decode(body: &[u8]) -> Result<Self, HopError> {
        let mut rest = Rest::of(body)?;
        let flow = u64::from_le_bytes(rest.array()?);
        let source = u32::from_le_bytes(rest.array()?);
        let exit = u32::from_le_bytes(rest.array()?);
        let [hops] = rest.array()?;
        let destination = rest.destination()?;
        if destination.port == 0 {
            return Err(HopError::Destination);
        }
        rest.end()?;
        Ok(Self {
            flow,
            source,
            exit,
            hops,
            destination,
        })
    }
}

impl Answer {
    /// The whole message. A route that is longer than possible is cut.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = vec![VERSION, self.reply.code()];
        Destination::address(self.bound).encode(&mut body);
        let route = &self.route[..self.route.len().min(usize::from(u8::MAX))];
        body.push(route.len() as u8);
        for node in route {
            body.extend_from_slice(&node.to_le_bytes());
        }
        with_length(&body)
    }

    fn decode(body: &[u8]) -> Result<Self, HopError> {
        let mut rest = Rest::of(body)?;
        let [code] = rest.array()?;
        let reply = Reply::from_code(code).ok_or(HopError::Reply(code))?;
        let Destination {
            host: Host::Address(address),
            port,
        } = rest.destination()?
        else {
            return Err(HopError::Destination);
        };
        let [count] = rest.array()?;
        let route = (0..count)
            .map(|_| rest.array().map(u32::from_le_bytes))
            .collect::<Result<_, _>>()?;
        rest.end()?;
        Ok(Self {
            reply,
            bound: SocketAddr::new(address, port),
            route,
        })
    }
}

fn with_length(body: &[u8]) -> Vec<u8> {
    let mut message = (body.len() as u16).to_le_bytes().to_vec();
    message.extend_from_slice(body);
    message
}

/// The part of a message that was not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    /// What follows the version.
    fn of(body: &'a [u8]) -> Result<Self, HopError> {
        match body {
            [VERSION, rest @ ..] => Ok(Self(rest)),
            [other, ..] => Err(HopError::Version(*other)),
            [] => Err(HopError::Truncated),
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], HopError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(HopError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], HopError> {
        self.take(N)?.try_into().map_err(|_| HopError::Truncated)
    }

    fn destination(&mut self) -> Result<Destination, HopError> {
        let [kind] = self.array()?;
        let length = match kind {
            TYPE_V4 => 4,
            TYPE_V6 => 16,
            TYPE_NAME => usize::from(self.take(1)?[0]),
            _ => return Err(HopError::Destination),
        };
        let host = decode_host(kind, self.take(length)?).ok_or(HopError::Destination)?;
        let port = u16::from_be_bytes(self.array()?);
        Ok(Destination { host, port })
    }

    fn end(self) -> Result<(), HopError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(HopError::Truncated)
        }
    }
}

/// Reads one message.
#[derive(Debug, Default)]
pub struct Reader {
    bytes: Vec<u8>,
    length: Option<usize>,
}

impl Reader {
    /// How many bytes to read next, at most; 0 after the message.
    #[must_use]
    pub fn wants(&self) -> usize {
        self.length.unwrap_or(PREFIX) - self.bytes.len()
    }

    /// Reads bytes, no more than [`wants`](Self::wants). Returns whether the message is complete.
    ///
    /// # Errors
    ///
    /// [`HopError::Length`]: no valid message is that long.
    pub fn handle(&mut self, bytes: &[u8]) -> Result<bool, HopError> {
        debug_assert!(bytes.len() <= self.wants(), "the rest belongs to the flow");
        self.bytes.extend_from_slice(bytes);
        if self.wants() > 0 {
            return Ok(false);
        }
        if self.length.is_some() {
            return Ok(true);
        }
        let length = usize::from(u16::from_le_bytes([self.bytes[0], self.bytes[1]]));
        if length == 0 || length > MAX_MESSAGE {
            return Err(HopError::Length(length));
        }
        self.bytes.clear();
        self.length = Some(length);
        Ok(false)
    }

    /// The complete message as a request.
    ///
    /// # Errors
    ///
    /// [`HopError`]: it is invalid.
    pub fn request(&self) -> Result<Request, HopError> {
        Request::decode(&self.bytes)
    }

    /// The complete message as an answer.
    ///
    /// # Errors
    ///
    /// [`HopError`]: it is invalid.
    pub fn answer(&self) -> Result<Answer, HopError> {
        Answer::decode(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &[u8], piece: usize) -> Result<Option<Reader>, HopError> {
        let (mut reader, mut rest) = (Reader::default(), message);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(reader.wants().min(piece).min(rest.len()));
            rest = later;
            if reader.handle(now)? {
                assert!(rest.is_empty() && reader.wants() == 0);
                return Ok(Some(reader));
            }
        }
        Ok(None)
    }

    fn request(host: Host) -> Request {
        let destination = Destination { host, port: 8080 };
        Request {
            flow: 0x0123_4567_89ab_cdef,
            source: 1,
            exit: 70_000,
            hops: 254,
            destination,
        }
    }

    #[test]
    fn messages_are_read_as_they_were_written_in_any_pieces() {
        let hosts = [
            Host::Address([10, 0, 0, 3].into()),
            Host::Address("fd00::3".parse().expect("an address")),
            Host::Name("node-3".into()),
        ];
        for (host, piece) in hosts
            .into_iter()
            .flat_map(|host| [1, 3, 400].map(|p| (host.clone(), p)))
        {
            let sent = request(host);
            let reader = read(&sent.encode(), piece).expect("valid").expect("whole");
            assert_eq!(reader.request(), Ok(sent));
        }
        let sent = Answer {
            reply: Reply::Refused,
            bound: "[fd00::3]:443".parse().expect("an address"),
            route: (0..255).collect(),
        };
        let reader = read(&sent.encode(), 9).expect("valid").expect("whole");
        assert_eq!(reader.answer(), Ok(sent));
    }

    #[test]
    fn invalid_messages_are_refused() {
        assert_eq!(read(&[0, 0], 2).err(), Some(HopError::Length(0)));
        assert_eq!(read(&[0xff, 0xff], 1).err(), Some(HopError::Length(65_535)));
        let good = request(Host::Name("node-3".into())).encode();
        let bodies = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut body = good[PREFIX..].to_vec();
            change(&mut body);
            Request::decode(&body)
        };
        assert_eq!(bodies(&|body| body[0] = 2), Err(HopError::Version(2)));
        assert_eq!(bodies(&|body| body[18] = 9), Err(HopError::Destination));
        assert_eq!(bodies(&|body| body[20] = b' '), Err(HopError::Destination));
        assert_eq!(bodies(&|body| body.push(0)), Err(HopError::Truncated));
        for length in 1..good.len() - PREFIX {
            assert!(bodies(&|body| body.truncate(length)).is_err(), "{length}");
        }
        let no_port = |body: &mut Vec<u8>| {
            let end = body.len();
            body[end - 2..].fill(0);
        };
        assert_eq!(bodies(&no_port), Err(HopError::Destination));
        assert_eq!(Answer::decode(&[VERSION, 9]), Err(HopError::Reply(9)));
    }
}
