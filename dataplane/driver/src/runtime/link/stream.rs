//! Packets over a connected stream: frames in, frames out, without an extra copy of large ones.
//!
//! Reading goes straight into the buffer of the packet that is under way, followed by the shard's shared staging
//! area for whatever comes behind it. While super-packets stream in, the staging part is kept short, so that almost
//! every byte lands where it will be forwarded from; for small packets it is long, and one call brings hundreds.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;

use nm_engine::{Packet, Pool, HEADROOM, MAX_IP_HEADER};

use nm_kernel::ring::{RingReader, RingWriter};

use super::frame::{Control, FrameHeader, LinkFault, HEADER, HEAD_ROOM};
use super::wire::Wire;

/// Bytes of the staging area that a shard's streams share.
pub const STAGING: usize = 256 << 10;
/// How much of it is offered while large frames arrive: a header and a few small packets behind a large one.
const STAGING_BEHIND_LARGE: usize = 2 << 10;
/// What counts as large: a copy of this size still costs less than a system call.
const LARGE_FRAME: usize = 16 << 10;
/// Bytes read from one socket before others get their turn.
const READ_BUDGET: usize = 1 << 20;
/// Bytes read from shared memory before they are carried on: one large packet, which is then still in the cache.
/// Reading again costs no system call.
const SHARED_READ_BUDGET: usize = 32 << 10;
/// Frames written with one call; two pieces each, well below the kernel's 1024.
const FRAMES_PER_WRITE: usize = 32;

/// Queued bytes above which the local sources (device, sessions) wait.
pub const QUEUE_HIGH_BYTES: usize = 1 << 20;
/// Queued bytes below which they go on.
pub const QUEUE_LOW_BYTES: usize = 256 << 10;
/// Queued bytes above which forwarded packets are dropped as congestion. Larger than what makes local sources wait,
/// because a relay cannot make its neighbours wait without risking a standstill around a ring.
const QUEUE_FULL_BYTES: usize = 8 << 20;
/// Queued frames with the same effect: small packets take more memory than they have bytes.
const QUEUE_FULL_FRAMES: usize = 8192;

/// What came out of a stream.
pub enum Received {
    Packet(Packet),
    Control(Control),
}

/// One connected stream.
pub struct Stream {
    wire: Wire,
    inbound: Inbound,
    outbound: Outbound,
    /// Bytes that went into shared memory since the last flush.
    went: usize,
    /// The memory that we offered with our proof.
    offered: Option<(RingWriter, RingReader)>,
}

impl Stream {
    /// Takes over a wire that is set up already.
    pub fn new(wire: Wire) -> Self {
        Self {
            wire,
            inbound: Inbound::default(),
            outbound: Outbound::default(),
            went: 0,
            offered: None,
        }
    }

    /// One that is in the handshake: nothing but its messages is taken, so that an unauthenticated peer cannot make
    /// us hold a large buffer for it. A welcome ends that.
    pub fn handshake(wire: Wire) -> Self {
        let mut stream = Self::new(wire);
        stream.inbound.handshake = true;
        stream
    }

    /// From now on a descriptor may come with the bytes.
    pub fn expect_descriptor(&mut self) {
        self.inbound.with_descriptor = true;
    }

    /// Remembers the memory that goes with our proof.
    pub fn offer(&mut self, rings: (RingWriter, RingReader)) {
        self.offered = Some(rings);
    }

    /// What the bytes go through.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// The same, to ring its doorbell or listen to it.
    pub fn wire_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Gives the wire back, with the descriptor that came with a caller's proof; whatever is under way is dropped.
    pub fn into_parts(self) -> (Wire, Option<OwnedFd>) {
        (self.wire, self.inbound.descriptor)
    }

    /// The neighbour has taken the memory that we offered; `None` when we offered none.
    pub fn share(self) -> Option<Self> {
        let rings = self.offered?;
        Some(Self::new(self.wire.share(rings)))
    }

    /// Reads what is there, up to a budget, and appends it to `into`. Returns the bytes read.
    ///
    /// On a fault, what came before it is in `into` all the same.
    pub fn read(
        &mut self,
        staging: &mut [u8],
        pool: &mut Pool,
        into: &mut Vec<Received>,
    ) -> Result<usize, LinkFault> {
        let mut total = 0;
        let budget = match self.wire.is_shared() {
            true => SHARED_READ_BUDGET,
            false => READ_BUDGET,
        };
        while total < budget {
            let (got, asked) = match self.inbound.read_once(&mut self.wire, staging) {
                Ok((0, _)) => return Err(self.inbound.end()),
                Ok(counts) => counts,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(LinkFault::Io(e.to_string())),
            };
            total += got;
            self.inbound.absorb(got, staging, pool, into)?;
            if got < asked {
                break;
            }
        }
        Ok(total)
    }

    /// Queues a packet. [`flush`](Self::flush) sends it.
    pub fn push(&mut self, packet: Packet, pool: &mut Pool) {
        if self.outbound.frames.is_empty() && self.wire.takes_at_once(HEADER + packet.len()) {
            // While the packet is still warm, and without keeping its buffer.
            let frame = Frame::new(packet);
            let pieces = [IoSlice::new(frame.head()), IoSlice::new(frame.tail())];
            // A broken ring is found out by whoever reads it.
            self.went += self.wire.write(&pieces).unwrap_or(0);
            return pool.put(frame.packet);
        }
        // A small packet must not hold a large buffer for as long as the neighbour pleases.
        self.outbound.push(pool.compact(packet));
    }

    /// Whether the queue is at its limit, and forwarded packets should be dropped.
    pub fn is_full(&self) -> bool {
        self.outbound.bytes > QUEUE_FULL_BYTES || self.outbound.frames.len() > QUEUE_FULL_FRAMES
    }

    /// Queued bytes.
    pub fn queued(&self) -> usize {
        self.outbound.bytes
    }

    /// Sends as much as the socket takes. Returns the bytes sent; afterwards [`queued`](Self::queued) says whether
    /// to wait for writability.
    pub fn flush(&mut self, pool: &mut Pool) -> Result<usize, LinkFault> {
        let mut total = std::mem::take(&mut self.went);
        while !self.outbound.frames.is_empty() {
            match self.outbound.write_once(&mut self.wire, pool) {
                Ok(0) => return Err(LinkFault::Closed),
                Ok(count) => total += count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(LinkFault::Io(e.to_string())),
            }
        }
        self.wire.ring_doorbell();
        Ok(total)
    }

    /// Says goodbye, if the wire takes it at once and no packet is half sent.
    pub fn say_bye(&mut self, reason: &str) {
        if self.outbound.sent == 0 {
            let word = Control::Bye(reason.into()).encode();
            let _ = self.wire.write(&[IoSlice::new(&word)]);
            self.wire.ring_doorbell();
        }
    }

    /// Before sleeping: whether the neighbour will wake us for everything that we wait for.
    pub fn may_sleep(&mut self) -> bool {
        let writing = self.queued() > 0;
        self.wire.may_sleep(writing)
    }
}

/// The state between two reads.
#[derive(Default)]
struct Inbound {
    head: [u8; HEADER],
    head_len: usize,
    body: Option<Body>,
    last_was_large: bool,
    /// Whether only messages of the handshake may come.
    handshake: bool,
    /// Whether a descriptor may come with the bytes.
    with_descriptor: bool,
    /// The first that came.
    descriptor: Option<OwnedFd>,
}

/// A frame whose header is known.
struct Body {
    header: FrameHeader,
    packet: Packet,
    filled: usize,
}

impl Body {
    fn room(&mut self) -> &mut [u8] {
        let (from, to) = (HEADROOM + self.filled, HEADROOM + self.header.length);
        let storage = self
            .packet
            .storage_mut()
            .expect("a packet under way has its buffer to itself");
        &mut storage[from..to]
    }
}

impl Inbound {
    /// One read. Returns what came and what could have come.
    fn read_once(&mut self, wire: &mut Wire, staging: &mut [u8]) -> io::Result<(usize, usize)> {
        if self.with_descriptor {
            // A message may come in pieces, and its rest belongs behind what came before, like that of any frame.
            let room = self.body.as_mut().map_or(&mut [][..], Body::room);
            let asked = room.len() + staging.len();
            let pieces = &mut [IoSliceMut::new(room), IoSliceMut::new(staging)];
            let (got, descriptor) = wire.read_with_descriptor(pieces)?;
            if let Some(descriptor) = descriptor {
                self.descriptor.get_or_insert(descriptor);
            }
            return Ok((got, asked));
        }
        let limit = if wire.is_shared() {
            // Another read costs nothing, so that every byte of a packet is copied once only.
            HEADER - self.head_len
        } else if self.last_was_large {
            STAGING_BEHIND_LARGE
        } else {
            staging.len()
        };
        let behind = &mut staging[..limit];
        match &mut self.body {
            None => Ok((wire.read(&mut [IoSliceMut::new(behind)])?, limit)),
            Some(body) => {
                let room = body.room();
                let asked = room.len() + limit;
                Ok((
                    wire.read(&mut [IoSliceMut::new(room), IoSliceMut::new(behind)])?,
                    asked,
                ))
            }
        }
    }

    /// Sorts what one read brought: first the rest of the packet under way, then frames from the staging area.
    fn absorb(
        &mut self,
        got: usize,
        staging: &[u8],
        pool: &mut Pool,
        into: &mut Vec<Received>,
    ) -> Result<(), LinkFault> {
        let mut staged = got;
        if let Some(body) = &mut self.body {
            let direct = body.room().len().min(got);
            body.filled += direct;
            staged -= direct;
            self.complete(pool, into)?;
        }
        let mut rest = &staging[..staged];
        while !rest.is_empty() {
            if self.body.is_none() {
                let missing = (HEADER - self.head_len).min(rest.len());
                self.head[self.head_len..self.head_len + missing].copy_from_slice(&rest[..missing]);
                self.head_len += missing;
                rest = &rest[missing..];
                if self.head_len < HEADER {
                    break;
                }
                self.open_body(pool)?;
            }
            if let Some(body) = &mut self.body {
                let room = body.room();
                let count = room.len().min(rest.len());
                room[..count].copy_from_slice(&rest[..count]);
                body.filled += count;
                rest = &rest[count..];
            }
            self.complete(pool, into)?;
        }
        Ok(())
    }

    fn open_body(&mut self, pool: &mut Pool) -> Result<(), LinkFault> {
        let header = FrameHeader::decode(&self.head)?;
        if self.handshake && header.control().is_none() {
            return Err(LinkFault::Protocol("a packet before the handshake"));
        }
        self.head_len = 0;
        self.last_was_large = header.length >= LARGE_FRAME;
        self.body = Some(Body {
            header,
            packet: pool.get_for(header.length),
            filled: 0,
        });
        Ok(())
    }

    fn complete(&mut self, pool: &mut Pool, into: &mut Vec<Received>) -> Result<(), LinkFault> {
        let Some(body) = self.body.take_if(|body| body.filled == body.header.length) else {
            return Ok(());
        };
        let Body {
            header, mut packet, ..
        } = body;
        packet.set_frame(HEADROOM, header.length, header.vnet);
        let Some(kind) = header.control() else {
            packet.set_hops(header.hops);
            into.push(Received::Packet(packet));
            return Ok(());
        };
        let message = Control::decode(kind, packet.bytes());
        pool.put(packet);
        let message = message?;
        self.handshake &= !matches!(message, Control::Welcome { .. });
        into.push(Received::Control(message));
        Ok(())
    }

    /// What the end of the stream means here.
    fn end(&self) -> LinkFault {
        if self.body.is_some() || self.head_len > 0 {
            LinkFault::Truncated
        } else {
            LinkFault::Closed
        }
    }
}

/// Frames that wait for the socket.
#[derive(Default)]
struct Outbound {
    frames: VecDeque<Frame>,
    /// Bytes of the first frame that are sent already.
    sent: usize,
    bytes: usize,
}

/// A packet with its frame header and its IP header as it has to leave; the packet's own bytes stay untouched,
/// because other copies of it may be on their way elsewhere.
struct Frame {
    head: [u8; HEAD_ROOM],
    head_len: u8,
    ip_len: u8,
    packet: Packet,
}

impl Frame {
    fn new(packet: Packet) -> Self {
        let header = FrameHeader {
            length: packet.len(),
            flags: 0,
            hops: packet.hops(),
            vnet: packet.vnet(),
        };
        let mut head = [0; HEAD_ROOM];
        head[..HEADER].copy_from_slice(&header.encode());
        let mut ip = [0; MAX_IP_HEADER];
        let ip_len = packet.patched_ip_header(&mut ip);
        head[HEADER..].copy_from_slice(&ip);
        Self {
            head,
            head_len: (HEADER + ip_len) as u8,
            ip_len: ip_len as u8,
            packet,
        }
    }

    fn head(&self) -> &[u8] {
        &self.head[..usize::from(self.head_len)]
    }

    fn tail(&self) -> &[u8] {
        &self.packet.bytes()[usize::from(self.ip_len)..]
    }

    fn len(&self) -> usize {
        HEADER + self.packet.len()
    }
}

impl Outbound {
    fn push(&mut self, packet: Packet) {
        let frame = Frame::new(packet);
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    fn write_once(&mut self, wire: &mut Wire, pool: &mut Pool) -> io::Result<usize> {
        let mut pieces = [IoSlice::new(&[]); 2 * FRAMES_PER_WRITE];
        let mut count = 0;
        for frame in self.frames.iter().take(FRAMES_PER_WRITE) {
            pieces[count] = IoSlice::new(frame.head());
            pieces[count + 1] = IoSlice::new(frame.tail());
            count += 2;
        }
        let mut gather = &mut pieces[..count];
        IoSlice::advance_slices(&mut gather, self.sent);
        let written = wire.write(gather)?;
        self.advance(written, pool);
        Ok(written)
    }

    fn advance(&mut self, written: usize, pool: &mut Pool) {
        self.bytes -= written;
        let mut done = self.sent + written;
        while let Some(first) = self.frames.front() {
            if done < first.len() {
                break;
            }
            done -= first.len();
            if let Some(frame) = self.frames.pop_front() {
                pool.put(frame.packet);
            }
        }
        self.sent = done;
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
