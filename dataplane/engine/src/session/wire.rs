//! Messages of the lossless protocol, and their encoding.
//!
//! Every message is a UDP payload on [`crate::SESSION_PORT`] that starts with the same 12 bytes:
//!
//! ```text
//! 0            1       2          6            10             12
//! ┌──────┬──────┬───────┬──────────┬────────────┬───────────────┬──────
//! │ tree │ kind │ round │ tag: u32 │ index: u32 │ sequence: u16 │ body …
//! └──────┴──────┴───────┴──────────┴────────────┴───────────────┴──────
//! ```
//!
//! Integers are big-endian; tree and kind have four bits each. `tree` is the position, among the trees of the group,
//! of the tree that carries the packet, and `sequence` numbers the data segments of a transfer on that tree, modulo
//! 65,536. A sender draws a random 64-bit number for each transfer. The tag is the upper half of it:
//! enough for data, which the digest verifies at the end. Every other message contains the whole number in front of
//! its body, because it changes the state of a session. Data super-packets repeat the header in every MTU segment, so
//! that a link may lose any of them.

use super::report_interval::ReportInterval;
use crate::digest::Digest;
use crate::NodeId;

/// Length of the header in front of every body, in bytes.
pub(super) const HEADER: usize = 12;
/// Most trees of a group that one transfer uses: the header has four bits for the tree.
pub(super) const TREES: u8 = 16;
/// Bytes of the transfer's number, in front of the body of every message but data.
pub(super) const NUMBER: usize = 8;
/// Bytes of a manifest's body before its receivers.
pub(super) const MANIFEST: usize = 4 + 8 + 2 + 1;
/// Bytes of a receiver in a manifest.
pub(super) const LISTED: usize = 4;
/// Bytes of a need's body before its runs.
pub(super) const NEED: usize = 1 + 8;
/// Bytes of IP and UDP header.
pub(super) const IP_UDP: usize = 28;
/// Segments of sessions are built for at least this MTU in bytes, whatever the configuration: every IPv4 host accepts
/// such datagrams (RFC 791).
pub(super) const MIN_MTU: u16 = 576;
/// Payload bytes of the smallest full segment.
const MIN_SEGMENT_SIZE: usize = MIN_MTU as usize - IP_UDP - HEADER;
/// Largest transfer in bytes: segment indices have 32 bits, and the size of a segment 16.
pub(super) const MAX_TRANSFER: u64 = 1 << 48;
/// Received reasons are truncated to this many bytes; those of this implementation are shorter.
const LONGEST_REASON: usize = 512;
/// Bytes of a run of segments in a need.
pub(super) const RUN: usize = 8;

/// The tag that identifies the transfer of a data segment: the upper half of the transfer's number.
pub(super) const fn tag_of(number: u64) -> u32 {
    (number >> 32) as u32
}

/// The first twelve bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub kind: u8,
    /// Position of the tree that carries the packet, below [`TREES`].
    pub tree: u8,
    pub round: u8,
    pub tag: u32,
    /// The index of the segment; in [`Message::Poll`] one more than the highest index sent.
    pub index: u32,
    /// The number of a data segment on its tree, modulo 2^16; 0 in messages.
    pub sequence: u16,
}

impl Header {
    #[inline]
    pub(super) fn write(self, out: &mut [u8]) {
        debug_assert!(self.tree < TREES);
        out[0] = self.tree << 4 | self.kind;
        out[1] = self.round;
        out[2..6].copy_from_slice(&self.tag.to_be_bytes());
        out[6..10].copy_from_slice(&self.index.to_be_bytes());
        out[10..12].copy_from_slice(&self.sequence.to_be_bytes());
    }

    #[inline]
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (head, body) = bytes.split_first_chunk::<HEADER>()?;
        let header = Self {
            kind: head[0] & 0x0f,
            tree: head[0] >> 4,
            round: head[1],
            tag: u32::from_be_bytes([head[2], head[3], head[4], head[5]]),
            index: u32::from_be_bytes([head[6], head[7], head[8], head[9]]),
            sequence: u16::from_be_bytes([head[10], head[11]]),
        };
        Some((header, body))
    }
}

/// The kind of data segments; everything else is a [`Message`].
pub(super) const DATA: u8 = 3;

/// A message that is not data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// Sender: offers a transfer to the listed nodes, which must answer.
    Manifest { dest: u32, terms: Terms, listed: Vec<NodeId> },
    /// Receiver: accepts the offer with a buffer of `capacity` bytes. When that is too small, the sender ends the
    /// receiver with a reason.
    Ready { capacity: u64 },
    /// Sender: all segments of this round were sent, and this is the digest of the transfer. Requests
    /// [`Message::Need`] or [`Message::Complete`].
    SourceDone { digest: Digest },
    /// Receiver: the segments that are missing after this round. `last` marks the end of the list, which may take
    /// several messages.
    Need { last: bool, bytes: u64, runs: Vec<(u32, u32)> },
    /// Receiver: every byte has arrived, and their digest equals the sender's.
    Complete { bytes: u64, digest: Digest },
    /// Receiver: progress of this round.
    Progress(Progress),
    /// Sender: the transfer has ended for this receiver. Not `known`: the sender has no transfer of this number (any
    /// more).
    Abort { known: bool, reason: String },
    /// Receiver: leaves the transfer. `failed` after an error, otherwise it left on purpose.
    Leave { failed: bool, reason: String },
    /// Sender: acknowledges [`Message::Complete`].
    Ack,
    /// Sender: all segments of this round below `index` were sent; requests [`Message::Progress`].
    Poll,
    /// Receiver, to the source that it waits for: requests an offer to `dest`.
    Solicit { dest: u32 },
    /// Receiver: no receive call waits for the offered transfer.
    Unclaimed,
}

/// The parameters of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    /// Bytes of payload.
    pub total: u64,
    /// Payload bytes of one segment.
    pub segment_size: u16,
    /// The interval of progress reports.
    pub interval: ReportInterval,
}

impl Terms {
    /// Whether the parameters are valid; the memory allocated for a valid offer is proportional to the capacity of
    /// the receive call.
    fn possible(&self) -> bool {
        let segment_size = u64::from(self.segment_size);
        (1..=MAX_TRANSFER).contains(&self.total)
            && usize::from(self.segment_size) >= MIN_SEGMENT_SIZE
            && self.total.div_ceil(segment_size) <= u64::from(u32::MAX)
    }
}

/// The body of [`Message::Progress`].
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// One more than the highest segment of this round that arrived or that a poll named.
    pub highest: u32,
    /// Number of segments that arrived since the start, duplicates included.
    pub received: u64,
    /// Bytes of payload that have arrived.
    pub bytes: u64,
    /// Clock of the receiver in nanoseconds from an arbitrary origin: only differences are meaningful.
    pub clock: u64,
    /// Nanoseconds between the arrival of the newest segment and this report.
    pub ack_delay: u64,
    /// Whether it is the reply to a poll.
    pub polled: bool,
}

impl Message {
    pub(super) const fn kind(&self) -> u8 {
        match self {
            Self::Manifest { .. } => 1,
            Self::Ready { .. } => 2,
            Self::SourceDone { .. } => 4,
            Self::Need { .. } => 5,
            Self::Progress(_) => 6,
            Self::Abort { .. } => 7,
            Self::Leave { .. } => 8,
            Self::Ack => 9,
            Self::Poll => 10,
            Self::Solicit { .. } => 11,
            Self::Unclaimed => 12,
            Self::Complete { .. } => 13,
        }
    }

    /// Appends the body.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Manifest { dest, terms, listed } => {
                out.extend_from_slice(&dest.to_be_bytes());
                out.extend_from_slice(&terms.total.to_be_bytes());
                out.extend_from_slice(&terms.segment_size.to_be_bytes());
                out.push(terms.interval.to_byte());
                for node in listed {
                    out.extend_from_slice(&node.to_be_bytes());
                }
            }
            Self::Ready { capacity } => out.extend_from_slice(&capacity.to_be_bytes()),
            Self::Need { last, bytes, runs } => {
                out.push(u8::from(*last));
                out.extend_from_slice(&bytes.to_be_bytes());
                for (first, count) in runs {
                    out.extend_from_slice(&first.to_be_bytes());
                    out.extend_from_slice(&count.to_be_bytes());
                }
            }
            Self::Progress(progress) => progress.write(out),
            Self::Complete { bytes, digest } => {
                out.extend_from_slice(&bytes.to_be_bytes());
                out.extend_from_slice(&digest.to_bytes());
            }
            Self::Abort { known, reason } => {
                out.push(u8::from(*known));
                out.extend_from_slice(reason.as_bytes());
            }
            Self::Leave { failed, reason } => {
                out.push(u8::from(*failed));
                out.extend_from_slice(reason.as_bytes());
            }
            Self::Solicit { dest } => out.extend_from_slice(&dest.to_be_bytes()),
            Self::SourceDone { digest } => out.extend_from_slice(&digest.to_bytes()),
            Self::Ack | Self::Poll | Self::Unclaimed => {}
        }
    }

    /// Reads the number of a transfer and a body; `None` for unknown kinds, truncated bodies and invalid values.
    pub(super) fn read(kind: u8, body: &[u8]) -> Option<(u64, Self)> {
        let mut body = Reader(body);
        let number = body.u64()?;
        let message = match kind {
            1 => Self::Manifest {
                dest: body.u32()?,
                terms: Some(Terms {
                    total: body.u64()?,
                    segment_size: body.u16()?,
                    interval: ReportInterval::from_byte(body.u8()?),
                })
                .filter(Terms::possible)?,
                listed: body.rest(LISTED, |entry| entry.u32())?,
            },
            2 => Self::Ready { capacity: body.u64()? },
            4 => Self::SourceDone { digest: body.digest()? },
            5 => {
                let (last, bytes) = (body.u8()? != 0, body.u64()?);
                let runs = body.rest(RUN, |entry| Some((entry.u32()?, entry.u32()?)))?;
                // Runs must be ascending and disjoint, so that the time to process them is bounded by the length of
                // the transfer.
                let mut end = 0;
                for &(first, count) in &runs {
                    (count > 0 && u64::from(first) >= end).then_some(())?;
                    end = u64::from(first) + u64::from(count);
                }
                Self::Need { last, bytes, runs }
            }
            6 => Self::Progress(Progress::read(&mut body)?),
            7 => Self::Abort { known: body.u8()? != 0, reason: body.text() },
            8 => Self::Leave { failed: body.u8()? != 0, reason: body.text() },
            9 => Self::Ack,
            10 => Self::Poll,
            11 => Self::Solicit { dest: body.u32()? },
            12 => Self::Unclaimed,
            13 => Self::Complete { bytes: body.u64()?, digest: body.digest()? },
            _ => return None,
        };
        Some((number, message))
    }
}

impl Progress {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.polled));
        out.extend_from_slice(&self.highest.to_be_bytes());
        for number in [self.received, self.bytes, self.clock, self.ack_delay] {
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
            ack_delay: body.u64()?,
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

    fn digest(&mut self) -> Option<Digest> {
        self.take().map(Digest::from_bytes)
    }

    /// Entries of a fixed size up to the end.
    fn rest<T>(&mut self, size: usize, entry: impl Fn(&mut Reader<'_>) -> Option<T>) -> Option<Vec<T>> {
        let bytes = std::mem::take(&mut self.0);
        if !bytes.len().is_multiple_of(size) {
            return None;
        }
        bytes.chunks_exact(size).map(|chunk| entry(&mut Reader(chunk))).collect()
    }

    fn text(&mut self) -> String {
        let bytes = std::mem::take(&mut self.0);
        String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST_REASON)]).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn terms() -> Terms {
        Terms { total: 1 << 40, segment_size: 1460, interval: ReportInterval::for_receivers(35) }
    }

    fn messages() -> Vec<Message> {
        vec![
            Message::Manifest { dest: 7, terms: terms(), listed: vec![2, 70_000] },
            Message::Manifest { dest: 7, terms: terms(), listed: vec![] },
            Message::Ready { capacity: 90_000_000 },
            Message::SourceDone { digest: Digest::of(b"y", 100) },
            Message::Need { last: true, bytes: 5, runs: vec![(0, 1), (9, 100)] },
            Message::Complete { bytes: 9, digest: Digest::of(b"x", 100) },
            Message::Progress(Progress {
                highest: 3,
                received: 4,
                bytes: 5,
                clock: 6,
                ack_delay: 7,
                polled: true,
            }),
            Message::Abort { known: true, reason: "gone".into() },
            Message::Leave { failed: true, reason: "no memory".into() },
            Message::Ack,
            Message::Poll,
            Message::Solicit { dest: 8 },
            Message::Unclaimed,
        ]
    }

    fn bytes_of(message: &Message) -> Vec<u8> {
        let mut bytes = 7u64.to_be_bytes().to_vec();
        message.write(&mut bytes);
        bytes
    }

    #[test]
    fn every_message_is_read_as_it_was_written() {
        for message in messages() {
            let bytes = bytes_of(&message);
            assert_eq!(Message::read(message.kind(), &bytes), Some((7, message.clone())));
            for cut in 0..NUMBER {
                assert_eq!(Message::read(message.kind(), &bytes[..cut]), None);
            }
        }
        let header = Header {
            kind: DATA,
            tree: 15,
            round: 3,
            tag: 0xdead_beef,
            index: u32::MAX - 1,
            sequence: 0xfffe,
        };
        let mut bytes = [0; HEADER];
        header.write(&mut bytes);
        assert_eq!(Header::read(&bytes), Some((header, &[][..])));
    }

    #[test]
    fn invalid_manifests_are_refused_before_anything_is_allocated() {
        let good = terms();
        let bad = [
            Terms { total: 0, ..good },
            Terms { total: u64::MAX, ..good },
            Terms { total: MAX_TRANSFER + 1, ..good },
            Terms { segment_size: 0, ..good },
            Terms { segment_size: 1, ..good },
            Terms { total: MAX_TRANSFER, segment_size: MIN_SEGMENT_SIZE as u16, ..good },
        ];
        for terms in bad {
            let manifest = Message::Manifest { dest: 7, terms, listed: vec![1] };
            assert_eq!(Message::read(1, &bytes_of(&manifest)), None, "{terms:?}");
        }
    }

    #[test]
    fn runs_that_overlap_or_are_empty_are_refused() {
        for runs in
            [vec![(0, 0)], vec![(5, 2), (4, 1)], vec![(0, u32::MAX), (0, u32::MAX)], vec![(3, 2), (4, 9)]]
        {
            let need = Message::Need { last: true, bytes: 0, runs };
            assert_eq!(Message::read(5, &bytes_of(&need)), None, "{need:?}");
        }
    }

    #[test]
    fn long_reasons_are_truncated() {
        let leave = Message::Leave { failed: true, reason: "x".repeat(60_000) };
        let Some((_, Message::Leave { reason, .. })) = Message::read(8, &bytes_of(&leave)) else {
            panic!("a leave")
        };
        assert_eq!(reason.len(), LONGEST_REASON);
    }

    proptest! {
        #[test]
        fn invalid_messages_are_refused_or_read_and_never_panic(kind in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Message::read(kind, &body);
            let _ = Header::read(&body);
        }
    }
}
