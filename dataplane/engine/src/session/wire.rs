//! The messages of the lossless protocol and their bytes.
//!
//! Every message is a UDP payload on [`crate::SESSION_PORT`] that starts with the same 12 bytes:
//!
//! ```text
//! 0      1       2          6                12
//! ┌──────┬───────┬──────────┬────────────────┬──────────
//! │ kind │ round │ tag: u32 │ offset: u48    │ body …
//! └──────┴───────┴──────────┴────────────────┴──────────
//! ```
//!
//! Numbers are big-endian. The tag is chosen by the sender and names the session together with the sending node.
//! Data super-packets repeat the header in every MTU segment, so that a link may lose any of them.

use super::cadence::Cadence;
use crate::NodeId;

/// Bytes in front of every body.
pub(super) const HEADER: usize = 12;
/// Bytes of a receiver in a manifest.
const LISTED: usize = 6;
/// Bytes of a run of segments in a need.
pub(super) const RUN: usize = 8;

/// The first twelve bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub kind: u8,
    pub round: u8,
    pub tag: u32,
    pub offset: u64,
}

impl Header {
    #[inline]
    pub(super) fn write(self, out: &mut [u8]) {
        out[0] = self.kind;
        out[1] = self.round;
        out[2..6].copy_from_slice(&self.tag.to_be_bytes());
        out[6..12].copy_from_slice(&self.offset.to_be_bytes()[2..]);
    }

    #[inline]
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (head, body) = bytes.split_first_chunk::<HEADER>()?;
        let header = Self {
            kind: head[0],
            round: head[1],
            tag: u32::from_be_bytes([head[2], head[3], head[4], head[5]]),
            offset: u64::from_be_bytes([0, 0, head[6], head[7], head[8], head[9], head[10], head[11]]),
        };
        Some((header, body))
    }
}

/// The kind of data segments; everything else is a [`Message`].
pub(super) const DATA: u8 = 3;

/// A message that is not data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// Sender: what will come, and for whom. `listed` holds (node, how manieth transfer to it this is).
    Manifest { dest: u32, terms: Terms, listed: Vec<(NodeId, u16)> },
    /// Receiver: room for `capacity` bytes is there. When that is too little, the sender refuses us by name.
    Ready { capacity: u64 },
    /// Sender: everything of this round is out. Asks for [`Message::Need`].
    SourceDone,
    /// Receiver: what is missing after this round. `last` closes the answer, which may take several messages.
    Need { complete: bool, last: bool, bytes: u64, runs: Vec<(u32, u32)> },
    /// Receiver: how far this round has come.
    Progress(Progress),
    /// Sender: this session is over for you.
    Abort { reason: String },
    /// Receiver: count me out. `failed` when something went wrong, or else it left on purpose.
    Leave { failed: bool, reason: String },
    /// Sender: I know that you are complete.
    Ack,
    /// Sender: everything up to segment `offset` of this round is out; asks for [`Message::Progress`].
    Poll,
    /// Receiver, to the source it waits for: are you sending to `dest`?
    Solicit { dest: u32 },
}

/// What a sender offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    /// Bytes of payload.
    pub total: u64,
    /// Payload bytes of one segment.
    pub unit: u16,
    /// How often to report.
    pub cadence: Cadence,
}

/// The body of [`Message::Progress`].
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// One more than the highest segment of this round that arrived (or that a poll named).
    pub highest: u32,
    /// Segments that arrived since the start, duplicates too.
    pub received: u64,
    /// Bytes of payload that are there.
    pub bytes: u64,
    /// Receiver's clock, in nanoseconds from its own origin: only differences mean anything.
    pub clock: u64,
    /// Nanoseconds for which the newest segment has been waiting to be reported.
    pub hold: u64,
    /// Answers a poll.
    pub polled: bool,
}

impl Message {
    pub(super) const fn kind(&self) -> u8 {
        match self {
            Self::Manifest { .. } => 1,
            Self::Ready { .. } => 2,
            Self::SourceDone => 4,
            Self::Need { .. } => 5,
            Self::Progress(_) => 6,
            Self::Abort { .. } => 7,
            Self::Leave { .. } => 8,
            Self::Ack => 9,
            Self::Poll => 10,
            Self::Solicit { .. } => 11,
        }
    }

    /// Appends the body.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Manifest { dest, terms, listed } => {
                out.extend_from_slice(&dest.to_be_bytes());
                out.extend_from_slice(&terms.total.to_be_bytes());
                out.extend_from_slice(&terms.unit.to_be_bytes());
                out.push(terms.cadence.to_byte());
                for (node, n) in listed {
                    out.extend_from_slice(&node.to_be_bytes());
                    out.extend_from_slice(&n.to_be_bytes());
                }
            }
            Self::Ready { capacity } => out.extend_from_slice(&capacity.to_be_bytes()),
            Self::Need { complete, last, bytes, runs } => {
                out.push(u8::from(*complete) | u8::from(*last) << 1);
                out.extend_from_slice(&bytes.to_be_bytes());
                for (first, count) in runs {
                    out.extend_from_slice(&first.to_be_bytes());
                    out.extend_from_slice(&count.to_be_bytes());
                }
            }
            Self::Progress(progress) => progress.write(out),
            Self::Abort { reason } => out.extend_from_slice(reason.as_bytes()),
            Self::Leave { failed, reason } => {
                out.push(u8::from(*failed));
                out.extend_from_slice(reason.as_bytes());
            }
            Self::Solicit { dest } => out.extend_from_slice(&dest.to_be_bytes()),
            Self::SourceDone | Self::Ack | Self::Poll => {}
        }
    }

    /// Reads a body; `None` for kinds we do not know and for bodies cut short.
    pub(super) fn read(kind: u8, body: &[u8]) -> Option<Self> {
        let mut body = Reader(body);
        Some(match kind {
            1 => Self::Manifest {
                dest: body.u32()?,
                terms: Terms {
                    total: body.u64()?,
                    unit: body.u16()?,
                    cadence: Cadence::from_byte(body.u8()?),
                },
                listed: body.rest(LISTED, |entry| Some((entry.u32()?, entry.u16()?)))?,
            },
            2 => Self::Ready { capacity: body.u64()? },
            4 => Self::SourceDone,
            5 => {
                let flags = body.u8()?;
                Self::Need {
                    complete: flags & 1 != 0,
                    last: flags & 2 != 0,
                    bytes: body.u64()?,
                    runs: body.rest(RUN, |entry| Some((entry.u32()?, entry.u32()?)))?,
                }
            }
            6 => Self::Progress(Progress::read(&mut body)?),
            7 => Self::Abort { reason: body.text() },
            8 => Self::Leave { failed: body.u8()? != 0, reason: body.text() },
            9 => Self::Ack,
            10 => Self::Poll,
            11 => Self::Solicit { dest: body.u32()? },
            _ => return None,
        })
    }
}

impl Progress {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.polled));
        out.extend_from_slice(&self.highest.to_be_bytes());
        for number in [self.received, self.bytes, self.clock, self.hold] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }

    fn read(body: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            polled: body.u8()? != 0,
            highest: body.u32()?,
            received: body.u64()?,
            bytes: body.u64()?,
            clock: body.u64()?,
            hold: body.u64()?,
        })
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    /// Entries of a fixed size up to the end.
    fn rest<T>(&mut self, size: usize, entry: impl Fn(&mut Reader<'_>) -> Option<T>) -> Option<Vec<T>> {
        let bytes = std::mem::take(&mut self.0);
        if bytes.len() % size != 0 {
            return None;
        }
        bytes.chunks_exact(size).map(|chunk| entry(&mut Reader(chunk))).collect()
    }

    fn text(&mut self) -> String {
        String::from_utf8_lossy(std::mem::take(&mut self.0)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn messages() -> Vec<Message> {
        vec![
            Message::Manifest {
                dest: 7,
                terms: Terms { total: 1 << 40, unit: 1460, cadence: Cadence::for_receivers(35) },
                listed: vec![(2, 0), (70_000, 9)],
            },
            Message::Ready { capacity: 90_000_000 },
            Message::SourceDone,
            Message::Need { complete: false, last: true, bytes: 5, runs: vec![(0, 1), (9, 100)] },
            Message::Need { complete: true, last: true, bytes: 9, runs: vec![] },
            Message::Progress(Progress {
                highest: 3,
                received: 4,
                bytes: 5,
                clock: 6,
                hold: 7,
                polled: true,
            }),
            Message::Abort { reason: "gone".into() },
            Message::Leave { failed: true, reason: "no memory".into() },
            Message::Ack,
            Message::Poll,
            Message::Solicit { dest: 8 },
        ]
    }

    #[test]
    fn every_message_survives_its_bytes() {
        for message in messages() {
            let mut bytes = Vec::new();
            message.write(&mut bytes);
            assert_eq!(Message::read(message.kind(), &bytes).as_ref(), Some(&message));
        }
        let header = Header { kind: DATA, round: 3, tag: 0xdead_beef, offset: (1 << 48) - 1 };
        let mut bytes = [0; HEADER];
        header.write(&mut bytes);
        assert_eq!(Header::read(&bytes), Some((header, &[][..])));
    }

    proptest! {
        #[test]
        fn nonsense_is_refused_or_read_but_never_panics(kind in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Message::read(kind, &body);
            let _ = Header::read(&body);
        }
    }
}
