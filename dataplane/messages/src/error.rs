//! Errors of encoding and decoding control messages; their ids are those in an `Error` reply.

/// Why bytes are not a valid frame, or a frame not a valid message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not a frame.
    #[error("{0}")]
    Malformed(String),
    /// The bytes end inside a frame.
    #[error("the message ends inside a frame, {0} bytes after its beginning")]
    Truncated(usize),
    /// The websocket message exceeds the size limit.
    #[error("the message has {found} bytes, but {limit} are allowed")]
    Oversized {
        /// Its length in bytes.
        found: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A frame of another protocol version.
    #[error("the frame has protocol version {found}, expected {expected}")]
    WrongVersion {
        /// The version in the frame.
        found: String,
        /// The supported version.
        expected: u8,
    },
    /// No message of this direction has that type.
    #[error("no message is called `{0}`")]
    UnknownType(String),
    /// A field is missing, or has the wrong type or range.
    #[error("{kind}: {reason}")]
    BadBody {
        /// The message's type.
        kind: String,
        /// The reason, as text of the decoder.
        reason: String,
    },
}

impl DecodeError {
    /// The stable id, the same as in Python.
    pub fn id(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "protocol.malformed",
            Self::Truncated(_) => "protocol.truncated",
            Self::Oversized { .. } => "protocol.too-large",
            Self::WrongVersion { .. } => "protocol.version",
            Self::UnknownType(_) => "protocol.unknown-type",
            Self::BadBody { .. } => "protocol.body",
        }
    }
}

/// Why a message cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The frame exceeds the size limit of a websocket message.
    #[error("{kind} has {found} bytes, but a control message may have {limit}")]
    Oversized {
        /// The message's type.
        kind: &'static str,
        /// Its length in bytes.
        found: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A value that msgpack cannot carry.
    #[error("{kind} cannot be written: {reason}")]
    Unwritable {
        /// The message's type.
        kind: &'static str,
        /// The reason, as text of the encoder.
        reason: String,
    },
}
