//! The header that a node sends to the next one on a new connection of a flow, and the answer.
//!
//! ```text
//! request   u16 length │ u8 version │ u64 flow │ u32 source │ u32 previous │ u32 exit │ u32 route │ u8 hops │
//!           client: type, address, u16 port │ destination: type, address, u16 port
//! answer    u16 length │ u8 version │ u8 reply │ type, address, u16 port │ u8 count │ count × u32 node
//! ```
//!
//! The length is that of what follows it. Lengths and numbers are little endian, as in the frames of links; addresses
//! are those of SOCKS5, without names: the first node looks them up. Behind the answer both directions carry the bytes of
//! the flow.

use std::net::SocketAddr;

use thiserror::Error;

use crate::address::{decode_host, TYPE_V4, TYPE_V6};
use crate::{Destination, Host, Reply};

/// Increases when the format changes; both ends must have the same version.
const VERSION: u8 = 2;

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
    /// An invalid address.
    #[error("an invalid address")]
    Address,
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
    /// The node that sends the request.
    pub previous: u32,
    /// The node at which it leaves.
    pub exit: u32,
    /// The route that the first node has chosen; 0 when the pair of nodes has no explicit routes.
    pub route: u32,
    /// How many nodes may still follow.
    pub hops: u8,
    /// The address of the client that opened it.
    pub client: SocketAddr,
    /// Where it goes. The port is not 0.
    pub destination: SocketAddr,
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
        for number in [self.source, self.previous, self.exit, self.route] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        body.push(self.hops);
        Destination::address(self.client).encode(&mut body);
        Destination::address(self.destination).encode(&mut body);
        with_length(&body)
    }

    fn decode(body: &[u8]) -> Result<Self, HopError> {
        let mut rest = Rest::of(body)?;
        let flow = u64::from_le_bytes(rest.array()?);
        let source = u32::from_le_bytes(rest.array()?);
        let previous = u32::from_le_bytes(rest.array()?);
        let exit = u32::from_le_bytes(rest.array()?);
        let route = u32::from_le_bytes(rest.array()?);
        let [hops] = rest.array()?;
        let client = rest.address()?;
        let destination = rest.address()?;
        if destination.port() == 0 {
            return Err(HopError::Address);
        }
        rest.end()?;
        Ok(Self {
            flow,
            source,
            previous,
            exit,
            route,
            hops,
            client,
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
        let bound = rest.address()?;
        let [count] = rest.array()?;
        let route = (0..count)
            .map(|_| rest.array().map(u32::from_le_bytes))
            .collect::<Result<_, _>>()?;
        rest.end()?;
        Ok(Self {
            reply,
            bound,
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

    fn address(&mut self) -> Result<SocketAddr, HopError> {
        let [kind] = self.array()?;
        let length = match kind {
            TYPE_V4 => 4,
            TYPE_V6 => 16,
            _ => return Err(HopError::Address),
        };
        let Some(Host::Address(address)) = decode_host(kind, self.take(length)?) else {
            return Err(HopError::Address);
        };
        let port = u16::from_be_bytes(self.array()?);
        Ok(SocketAddr::new(address, port))
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

    fn request(destination: &str) -> Request {
        Request {
            flow: 0x0123_4567_89ab_cdef,
            source: 1,
            previous: 9,
            exit: 70_000,
            route: 3,
            hops: 254,
            client: "10.0.0.1:40000".parse().expect("an address"),
            destination: destination.parse().expect("an address"),
        }
    }

    #[test]
    fn messages_are_read_as_they_were_written_in_any_pieces() {
        for (destination, piece) in ["10.0.0.3:8080", "[fd00::3]:8080"]
            .into_iter()
            .flat_map(|destination| [1, 3, 400].map(|piece| (destination, piece)))
        {
            let sent = request(destination);
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
        let good = request("10.0.0.3:8080").encode();
        let bodies = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut body = good[PREFIX..].to_vec();
            change(&mut body);
            Request::decode(&body)
        };
        assert_eq!(bodies(&|body| body[0] = 1), Err(HopError::Version(1)));
        for kind in [0, 2, 3, 9] {
            // The types of the client's address and of the destination's; a name is neither.
            assert_eq!(bodies(&|body| body[26] = kind), Err(HopError::Address));
            assert_eq!(bodies(&|body| body[33] = kind), Err(HopError::Address));
        }
        assert_eq!(bodies(&|body| body.push(0)), Err(HopError::Truncated));
        for length in 1..good.len() - PREFIX {
            assert!(bodies(&|body| body.truncate(length)).is_err(), "{length}");
        }
        let no_port = |body: &mut Vec<u8>| {
            let end = body.len();
            body[end - 2..].fill(0);
        };
        assert_eq!(bodies(&no_port), Err(HopError::Address));
        assert_eq!(Answer::decode(&[VERSION, 9]), Err(HopError::Reply(9)));
    }
}
