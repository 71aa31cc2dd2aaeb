//! What can be wrong with a control message; the ids are the ones that travel in an `Error` reply.

/// Why bytes are no frame, or a frame no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not a frame.
    #[error("{0}")]
    Malformed(String),
    /// The bytes end inside a frame.
    #[error("the message ends inside a frame, {0} bytes after its beginning")]
    Truncated(usize),
    /// More than one websocket message may carry.
    #[error("the message has {found} bytes, but {limit} are allowed")]
    Oversized {
        /// Bytes that came.
        found: usize,
        /// Bytes that may come.
        limit: usize,
    },
    /// A frame of another protocol version.
    #[error("the frame is of protocol version {found}, but {expected} is spoken here")]
    WrongVersion {
        /// What the frame says.
        found: String,
        /// What is spoken here.
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
        /// What is wrong, in the reader's words.
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

/// Why a message cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The frame alone is larger than a websocket message may be.
    #[error("{kind} has {found} bytes, but a control message may have {limit}")]
    Oversized {
        /// The message's type.
        kind: &'static str,
        /// Bytes that it has.
        found: usize,
        /// Bytes that it may have.
        limit: usize,
    },
    /// A value that msgpack cannot carry.
    #[error("{kind} cannot be written: {reason}")]
    Unwritable {
        /// The message's type.
        kind: &'static str,
        /// The writer's words.
        reason: String,
    },
}
