//! Calls and replies between an attached program and its node.
//!
//! A frame has a header of two lengths (little-endian), a msgpack body and plain bytes: the payloads of messages. A
//! descriptor that belongs to the frame is sent with the header.

use std::io::{self, IoSliceMut, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nm_kernel::local;
use nm_messages::Value;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::node::error::Failure;

/// Largest body of a call: trees and lists of receivers for ten thousand nodes.
pub const MAX_CALL: usize = 1 << 20;
/// Largest body of a reply: the statistics of a node with many flows and sessions.
pub const MAX_REPLY: usize = 64 << 20;
/// Largest number of payload bytes in one frame, more than the largest message.
pub const MAX_BYTES: usize = 512 << 10;

const HEADER: usize = 8;

/// A call, with the watched things whose descriptor the program found readable since its last call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Numbers of the things; the node itself is [`NODE`].
    pub seen: Vec<u64>,
    /// What to do.
    pub request: Request,
}

/// The number of the node among the things to wait for.
pub const NODE: u64 = 0;

/// An edge of a tree.
pub type Edge = (u32, u32);

/// What a program asks of its node; the fields are those of the calls of [`Node`](crate::node::Node).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[allow(missing_docs)] // the calls of `Node` document them
pub enum Request {
    Hello {},
    NetworkInfo {},
    Statistics {},
    TopologyReady {},
    Event {},
    Group {
        label: Option<String>,
    },
    GroupAddress {
        group_id: u32,
    },
    IsMember {
        group_id: u32,
    },
    GroupRoutes {
        group_id: u32,
        src_node_id: u32,
    },
    CreateGroup {
        label: String,
    },
    JoinGroup {
        group_id: u32,
        wait_ms: u64,
    },
    LeaveGroup {
        group_id: u32,
    },
    SetGroupRoutes {
        group_id: u32,
        edges: Vec<Edge>,
    },
    SetGroupRoutesMulti {
        group_id: u32,
        trees: Vec<(u16, Vec<Edge>)>,
    },
    ComputeGroupRoutes {
        group_id: u32,
        receivers: Vec<u32>,
        kind: String,
    },
    /// The controller's answer to an earlier request, if it is there.
    Answer {
        thing: u64,
    },
    /// Forgets a receiver or an answer.
    Forget {
        thing: u64,
    },
    RegisterReceiver {
        src_node_id: u32,
        group_ip: Option<String>,
        src_port: Option<u16>,
        dst_port: Option<u16>,
    },
    CloseReceiver {
        thing: u64,
    },
    /// Messages that have arrived.
    Take {
        thing: u64,
        limit: u32,
    },
    Dropped {
        thing: u64,
    },
    SendToNode {
        dst_node_id: u32,
        src_port: Option<u16>,
        dst_port: Option<u16>,
    },
    SendToGroup {
        group_id: u32,
        src_port: Option<u16>,
        dst_port: Option<u16>,
    },
    SendData {
        group_id: u32,
        dest_ip: String,
        receiver_ids: Vec<u32>,
        chunk_size: u64,
    },
    ReceiveData {
        group_id: u32,
        dest_ip: String,
        source_node_id: u32,
        expected_bytes: u64,
        chunk_size: u64,
    },
    SessionDone {
        session_id: u64,
    },
    SessionReport {
        session_id: u64,
    },
    SessionData {
        session_id: u64,
        consume: bool,
    },
    CancelSession {
        session_id: u64,
    },
}

impl Request {
    /// The request with this name and these fields: `{name: {field: value}}`.
    ///
    /// # Errors
    ///
    /// There is no such request, or a field is missing, unknown or of another kind.
    pub fn from_value(value: &Value) -> Result<Self, rmp_serde::decode::Error> {
        let mut bytes = Vec::new();
        // Writing to memory does not fail.
        let _ = rmpv::encode::write_value(&mut bytes, value);
        rmp_serde::from_slice(&bytes)
    }
}

/// What the node answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Reply {
    /// A plain value; what it means depends on the call.
    Value(Value),
    /// Something to wait for, with its number; its descriptor is passed with the frame.
    Thing(u64),
    /// The messages whose payloads are in the bytes, one after the other.
    Messages(Vec<Header>),
    /// Received bytes, whose memory file is passed with the frame.
    Data,
    Failed(Failure),
}

/// A received message but for its payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Header {
    pub src_ip: [u8; 4],
    pub dst_ip: [u8; 4],
    pub src_port: u16,
    pub dst_port: u16,
    pub flow_id: u64,
    pub message_id: u64,
    pub len: u32,
}

/// A frame that was read.
#[derive(Debug)]
pub struct Frame<T> {
    /// The call or reply.
    pub body: T,
    /// The bytes behind it.
    pub bytes: Vec<u8>,
    /// The descriptor that came with it.
    pub descriptor: Option<OwnedFd>,
}

/// Writes a frame.
///
/// # Errors
///
/// The connection failed, or the frame is too large.
pub fn write(
    stream: &mut UnixStream,
    body: &impl Serialize,
    bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut frame = vec![0; HEADER];
    rmp_serde::encode::write(&mut frame, body).map_err(io::Error::other)?;
    let too_large = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let body_len = u32::try_from(frame.len() - HEADER).map_err(too_large)?;
    let bytes_len = u32::try_from(bytes.len()).map_err(too_large)?;
    frame[..4].copy_from_slice(&body_len.to_le_bytes());
    frame[4..HEADER].copy_from_slice(&bytes_len.to_le_bytes());
    frame.extend_from_slice(bytes);
    let sent = match descriptor {
        Some(descriptor) => local::send_with(stream, &frame, descriptor)?,
        None => 0,
    };
    stream.write_all(&frame[sent..])
}

/// Reads a frame whose body has at most `limit` bytes.
///
/// # Errors
///
/// The connection failed or ended, or what came is no such frame.
pub fn read<T: DeserializeOwned>(stream: &mut UnixStream, limit: usize) -> io::Result<Frame<T>> {
    let mut header = [0; HEADER];
    let (got, descriptor) = receive(stream, &mut header)?;
    if got == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    stream.read_exact(&mut header[got..])?;
    let length = |at: usize| {
        let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
        u32::from_le_bytes(bytes) as usize
    };
    let (body_len, bytes_len) = (length(0), length(4));
    if body_len > limit || bytes_len > MAX_BYTES {
        return Err(invalid("a frame is too large"));
    }
    let mut body = vec![0; body_len];
    stream.read_exact(&mut body)?;
    let mut bytes = vec![0; bytes_len];
    stream.read_exact(&mut bytes)?;
    let body = rmp_serde::from_slice(&body).map_err(invalid)?;
    Ok(Frame {
        body,
        bytes,
        descriptor,
    })
}

fn receive(stream: &UnixStream, into: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    loop {
        match local::receive_with(stream, &mut [IoSliceMut::new(into)]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().expect("a pair")
    }

    #[test]
    fn calls_and_replies_arrive_as_they_were_sent() {
        let (mut near, mut far) = pair();
        let call = Call {
            seen: vec![NODE, 3],
            request: Request::SetGroupRoutesMulti {
                group_id: 7,
                trees: vec![(1, vec![(1, 2), (2, 3)]), (2, vec![])],
            },
        };
        write(&mut near, &call, b"payload", None).expect("sent");
        let frame = read::<Call>(&mut far, MAX_CALL).expect("received");
        assert_eq!((frame.body, &frame.bytes[..]), (call, &b"payload"[..]));
        assert!(frame.descriptor.is_none());
        let file = nm_kernel::shared_file::copy(b"data").expect("a file");
        let details = Value::Map(vec![(Value::from(1), Value::from(0.5))]);
        for reply in [Reply::Data, Reply::Value(details)] {
            write(&mut far, &reply, b"", Some(file.as_fd())).expect("sent");
            let frame = read::<Reply>(&mut near, MAX_REPLY).expect("received");
            assert_eq!(frame.body, reply);
            let file = frame.descriptor.expect("a descriptor");
            let mapping = nm_kernel::shared_file::map(file.as_fd()).expect("mapped");
            assert_eq!(mapping.as_ref(), b"data");
        }
    }

    #[test]
    fn a_request_is_built_from_names_and_unknown_ones_are_refused() {
        let built = |name: &str, fields: Vec<(&str, Value)>| {
            let fields = fields.into_iter().map(|(key, value)| (key.into(), value));
            let value = Value::Map(vec![(name.into(), Value::Map(fields.collect()))]);
            Request::from_value(&value)
        };
        let label = Some("a".to_owned());
        assert_eq!(
            built("group", vec![("label", "a".into())]).expect("built"),
            Request::Group { label }
        );
        assert_eq!(built("hello", vec![]).expect("built"), Request::Hello {});
        assert!(built("groups", vec![]).is_err());
        assert!(built("hello", vec![("label", "a".into())]).is_err());
        assert!(built("is_member", vec![("group_id", (-1).into())]).is_err());
    }

    #[test]
    fn what_is_no_frame_is_refused_without_reading_on() {
        let (mut near, mut far) = pair();
        near.write_all(&[255; HEADER]).expect("sent");
        let error = read::<Call>(&mut far, MAX_CALL).expect_err("too large");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let (mut near, mut far) = pair();
        near.write_all(&[3, 0, 0, 0, 0, 0, 0, 0, 193, 193, 193])
            .expect("sent");
        let error = read::<Call>(&mut far, MAX_CALL).expect_err("no msgpack");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let (near, mut far) = pair();
        drop(near);
        let error = read::<Call>(&mut far, MAX_CALL).expect_err("closed");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn every_prefix_of_a_call_is_refused_or_waits() {
        let call = Call {
            seen: vec![],
            request: Request::Group { label: None },
        };
        let body = rmp_serde::to_vec(&call).expect("encoded");
        for len in 0..body.len() {
            assert!(
                rmp_serde::from_slice::<Call>(&body[..len]).is_err(),
                "{len}"
            );
        }
    }
}
