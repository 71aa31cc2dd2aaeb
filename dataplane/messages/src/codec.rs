//! Encode frames and decode them.

use std::io::Cursor;

use rmpv::Value;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::error::{DecodeError, EncodeError};

/// The protocol version; frames of other versions are refused.
pub const VERSION: u8 = 1;

/// Largest websocket message in bytes; the largest content is the files of a scenario.
pub const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// Size of a batch in bytes: large enough to amortise the call, small enough not to delay other senders for long.
const BATCH: usize = 256 * 1024;

/// Invalid frames of one websocket message after which the rest of it is not decoded.
const MAX_BAD: usize = 64;

/// Largest nesting depth of maps and arrays; messages need six.
const DEPTH: usize = 64;

/// A message of one direction; implemented by `messages!`.
pub trait Wire: Sized {
    /// The message's type on the wire.
    fn kind(&self) -> &'static str;
    #[doc(hidden)]
    fn write_body(&self, out: &mut Vec<u8>) -> Result<(), rmp_serde::encode::Error>;
    #[doc(hidden)]
    fn read_body(kind: &str, body: &[u8]) -> Result<Self, DecodeError>;
}

/// A message with its header.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame<M> {
    /// The sender's request number, 0 when no reply is wanted.
    pub id: u32,
    /// The node that it concerns, 0 for the connection.
    pub node: u32,
    /// The message.
    pub message: M,
}

/// A frame that could not be decoded, with the readable part of its header.
#[derive(Debug, Clone, PartialEq)]
pub struct Bad {
    /// Its request number, 0 when it had none or could not be read.
    pub id: u32,
    /// The node that it concerned, 0 likewise.
    pub node: u32,
    /// The error.
    pub error: DecodeError,
}

/// Returns a frame's bytes.
pub fn encode<M: Wire>(frame: &Frame<M>) -> Result<Vec<u8>, EncodeError> {
    let kind = frame.message.kind();
    let unwritable = |error: rmp_serde::encode::Error| EncodeError::Unwritable {
        kind,
        reason: error.to_string(),
    };
    let mut out = Vec::with_capacity(128);
    out.push(0x95); // an array of five
    let mut header = rmp_serde::Serializer::new(&mut out);
    VERSION.serialize(&mut header).map_err(unwritable)?;
    frame.id.serialize(&mut header).map_err(unwritable)?;
    frame.node.serialize(&mut header).map_err(unwritable)?;
    kind.serialize(&mut header).map_err(unwritable)?;
    frame.message.write_body(&mut out).map_err(unwritable)?;
    if out.len() > MAX_MESSAGE {
        return Err(EncodeError::Oversized {
            kind,
            found: out.len(),
            limit: MAX_MESSAGE,
        });
    }
    Ok(out)
}

/// Joins encoded frames into websocket messages, in order, each within the size limit.
pub fn batches(encoded: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let mut done = Vec::new();
    let mut batch: Vec<u8> = Vec::new();
    for bytes in encoded {
        if batch.is_empty() {
            batch = bytes;
        } else if batch.len() + bytes.len() > BATCH {
            done.push(std::mem::replace(&mut batch, bytes));
        } else {
            batch.extend_from_slice(&bytes);
        }
    }
    if !batch.is_empty() {
        done.push(batch);
    }
    done
}

/// Returns the frames of a websocket message; an error if any of them is invalid.
pub fn decode_frames<M: Wire>(bytes: &[u8]) -> Result<Vec<Frame<M>>, DecodeError> {
    decode_batch(bytes)
        .into_iter()
        .map(|item| item.map_err(|bad| bad.error))
        .collect()
}

/// Returns the frames of a websocket message, with a [`Bad`] for each invalid one.
///
/// When the bytes are no msgpack from some point on, the last item is a `Bad`, since the next frame cannot be
/// located. The same holds after many invalid frames, to limit the cost of a peer that sends only these.
pub fn decode_batch<M: Wire>(bytes: &[u8]) -> Vec<Result<Frame<M>, Bad>> {
    let stop = |error| {
        vec![Err(Bad {
            id: 0,
            node: 0,
            error,
        })]
    };
    if bytes.len() > MAX_MESSAGE {
        return stop(DecodeError::Oversized {
            found: bytes.len(),
            limit: MAX_MESSAGE,
        });
    }
    if bytes.is_empty() {
        return stop(DecodeError::Malformed("the message is empty".to_owned()));
    }
    let mut frames = Vec::new();
    let (mut rest, mut bad) = (bytes, 0);
    while !rest.is_empty() && bad < MAX_BAD {
        match open_frame(rest).and_then(|_| skip_value(rest)) {
            Ok(length) => {
                let frame = read_frame(&rest[..length]);
                bad += usize::from(frame.is_err());
                frames.push(frame);
                rest = &rest[length..];
            }
            Err(error) => {
                frames.push(Err(Bad {
                    id: 0,
                    node: 0,
                    error,
                }));
                break;
            }
        }
    }
    frames
}

/// The length of the msgpack value at the start of some bytes.
fn skip_value(bytes: &[u8]) -> Result<usize, DecodeError> {
    let mut reader = rmp_serde::Deserializer::new(Cursor::new(bytes));
    reader.set_max_depth(DEPTH);
    match IgnoredAny::deserialize(&mut reader) {
        // A position inside a slice fits into a usize.
        Ok(_) => Ok(reader.get_ref().position() as usize),
        Err(error) if is_end(&error) => Err(DecodeError::Truncated(bytes.len())),
        Err(error) => Err(DecodeError::Malformed(format!(
            "the message is not msgpack: {error}"
        ))),
    }
}

fn is_end(error: &rmp_serde::decode::Error) -> bool {
    use rmp_serde::decode::Error;
    match error {
        Error::InvalidMarkerRead(io) | Error::InvalidDataRead(io) => {
            io.kind() == std::io::ErrorKind::UnexpectedEof
        }
        _ => false,
    }
}

/// Reads a frame that is known to be exactly one msgpack value.
fn read_frame<M: Wire>(bytes: &[u8]) -> Result<Frame<M>, Bad> {
    let mut header = Header {
        parts: 0,
        rest: bytes,
        id: 0,
        node: 0,
    };
    let frame = open_frame(bytes).and_then(|(parts, skip)| {
        (header.parts, header.rest) = (parts, &bytes[skip..]);
        read_parts(&mut header)
    });
    frame.map_err(|error| Bad {
        id: header.id,
        node: header.node,
        error,
    })
}

/// The number of parts of a frame, and the length of the array header in bytes.
fn open_frame(bytes: &[u8]) -> Result<(u32, usize), DecodeError> {
    match bytes {
        [first @ 0x91..=0x9f, ..] => Ok((u32::from(first & 0x0f), 1)),
        [0xdc, high, low, ..] if (*high, *low) != (0, 0) => {
            Ok((u32::from(u16::from_be_bytes([*high, *low])), 3))
        }
        [0xdc, ..] if bytes.len() < 3 => Err(DecodeError::Truncated(bytes.len())),
        [0xc1, ..] => Err(DecodeError::Malformed(
            "the message is not msgpack".to_owned(),
        )),
        _ => Err(DecodeError::Malformed(
            "a frame is an array of version, id, node, type and body".to_owned(),
        )),
    }
}

fn read_parts<M: Wire>(header: &mut Header<'_>) -> Result<Frame<M>, DecodeError> {
    let version = header.take("version")?;
    let number = header.take("id")?;
    let node = header.take("node")?;
    // Read first, so that a frame of another version can be answered by its request number.
    header.id = as_u32(&number).unwrap_or(0);
    header.node = as_u32(&node).unwrap_or(0);
    if version.as_u64() != Some(u64::from(VERSION)) {
        let found = version.to_string().chars().take(20).collect();
        return Err(DecodeError::WrongVersion {
            found,
            expected: VERSION,
        });
    }
    if header.parts != 2 {
        return Err(DecodeError::Malformed("a frame has five parts".to_owned()));
    }
    let kind = header.take("type")?;
    let (Some(id), Some(node), Some(kind)) = (as_u32(&number), as_u32(&node), kind.as_str()) else {
        let text = "a frame's id and node are 32-bit numbers and its type is a string";
        return Err(DecodeError::Malformed(text.to_owned()));
    };
    let message = M::read_body(kind, header.rest)?;
    Ok(Frame { id, node, message })
}

struct Header<'a> {
    parts: u32,
    rest: &'a [u8],
    id: u32,
    node: u32,
}

impl Header<'_> {
    /// Reads the next part as a plain value; nil when the frame has no more parts.
    fn take(&mut self, what: &str) -> Result<Value, DecodeError> {
        if self.parts == 0 {
            return Ok(Value::Nil);
        }
        self.parts -= 1;
        rmpv::decode::read_value_with_max_depth(&mut self.rest, DEPTH).map_err(|error| {
            DecodeError::Malformed(format!("the frame's {what} cannot be read: {error}"))
        })
    }
}

fn as_u32(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

pub(crate) fn write_map<T: Serialize>(
    body: &T,
    out: &mut Vec<u8>,
) -> Result<(), rmp_serde::encode::Error> {
    body.serialize(&mut rmp_serde::Serializer::new(out).with_struct_map())
}

pub(crate) fn read_map<T: DeserializeOwned>(kind: &str, body: &[u8]) -> Result<T, DecodeError> {
    let bad = |reason: String| DecodeError::BadBody {
        kind: kind.to_owned(),
        reason,
    };
    // serde would also accept an array of the fields' values; the protocol permits only maps of names.
    if !matches!(body.first(), Some(0x80..=0x8f | 0xde | 0xdf)) {
        return Err(bad("its body is not a map".to_owned()));
    }
    let mut reader = rmp_serde::Deserializer::new(Cursor::new(body));
    reader.set_max_depth(DEPTH);
    T::deserialize(&mut reader).map_err(|error| bad(error.to_string()))
}

/// Defines the enum of a direction's messages, whose names are their types on the wire.
macro_rules! messages {
    ($(#[$attribute:meta])* $name:ident { $($message:ident),* $(,)? }) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, PartialEq)]
        #[allow(clippy::large_enum_variant, reason = "messages are few and short-lived")]
        pub enum $name {
            $(#[doc = concat!("See [`", stringify!($message), "`].")] $message($message),)*
        }

        impl $crate::codec::Wire for $name {
            fn kind(&self) -> &'static str {
                match self { $(Self::$message(_) => stringify!($message),)* }
            }

            fn write_body(&self, out: &mut Vec<u8>) -> Result<(), rmp_serde::encode::Error> {
                match self { $(Self::$message(body) => $crate::codec::write_map(body, out),)* }
            }

            fn read_body(kind: &str, body: &[u8]) -> Result<Self, $crate::DecodeError> {
                match kind {
                    $(stringify!($message) => $crate::codec::read_map(kind, body).map(Self::$message),)*
                    _ => Err($crate::DecodeError::UnknownType(kind.chars().take(60).collect())),
                }
            }
        }

        $(impl From<$message> for $name {
            fn from(body: $message) -> Self {
                Self::$message(body)
            }
        })*
    };
}
pub(crate) use messages;
