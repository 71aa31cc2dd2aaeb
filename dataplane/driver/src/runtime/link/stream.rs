//! Packets over a connected stream: reads and writes frames without an extra copy of large ones.
//!
//! A read goes directly into the buffer of the current packet, followed by the shard's shared staging area for the
//! bytes behind it. While super-packets arrive, the staging part is short, so that almost every byte is read into the
//! buffer from which it is forwarded; for small packets it is long, and one call reads hundreds.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;

use nm_engine::{Packet, Pool, HEADROOM, MAX_IP_HEADER};

use nm_kernel::ring::{RingReader, RingWriter};

use super::frame::{Control, FrameHeader, LinkFault, HEADER, HEAD_ROOM};
use super::wire::Wire;

/// Bytes of the staging area that a shard's streams share.
pub const STAGING: usize = 256 << 10;
/// How much of it is used while large frames arrive: a header and a few small packets behind a large one.
const STAGING_BEHIND_LARGE: usize = 2 << 10;
/// The size from which a frame is large: a copy of this size still costs less than a system call.
const LARGE_FRAME: usize = 16 << 10;
/// Bytes read from one socket before other sockets are read.
const READ_BUDGET: usize = 1 << 20;
/// Bytes read from shared memory before they are forwarded: one large packet, which is then still in the cache.
/// Reading again costs no system call.
const SHARED_READ_BUDGET: usize = 32 << 10;
/// Frames written with one call; two pieces each, well below the kernel's 1024.
const FRAMES_PER_WRITE: usize = 32;

/// Queued bytes above which the local sources (device, sessions) pause.
pub const QUEUE_HIGH_BYTES: usize = 1 << 20;
/// Queued bytes below which they resume.
pub const QUEUE_LOW_BYTES: usize = 256 << 10;
/// Queued bytes above which forwarded packets are dropped as congestion. Larger than the limit at which local sources
/// pause, because a relay that paused its neighbours could cause a deadlock around a ring.
const QUEUE_FULL_BYTES: usize = 8 << 20;
/// Queued frames with the same effect: small packets use more memory than they have bytes.
const QUEUE_FULL_FRAMES: usize = 8192;

/// An item read from a stream.
pub enum Received {
    Packet(Packet),
    Control(Control),
}

/// One connected stream.
pub struct Stream {
    wire: Wire,
    inbound: Inbound,
    outbound: Outbound,
    /// Bytes written to shared memory since the last flush.
    went: usize,
    /// The shared memory that was offered with the proof.
    offered: Option<(RingWriter, RingReader)>,
}

impl Stream {
    /// A stream over a wire that is set up already.
    pub fn new(wire: Wire) -> Self {
        Self {
            wire,
            inbound: Inbound::default(),
            outbound: Outbound::default(),
            went: 0,
            offered: None,
        }
    }

    /// A stream in the handshake: only handshake messages are accepted, so that an unauthenticated peer cannot make
    /// this process allocate a large buffer. A welcome ends that state.
    pub fn handshake(wire: Wire) -> Self {
        let mut stream = Self::new(wire);
        stream.inbound.handshake = true;
        stream
    }

    /// From now on a descriptor may come with the bytes.
    pub fn expect_descriptor(&mut self) {
        self.inbound.with_descriptor = true;
    }

    /// Stores the memory that was offered with the proof.
    pub fn offer(&mut self, rings: (RingWriter, RingReader)) {
        self.offered = Some(rings);
    }

    /// The wire of the stream.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// The wire of the stream, mutable.
    pub fn wire_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Returns the wire, with the descriptor that came with the dialler's proof; partial frames are dropped.
    pub fn into_parts(self) -> (Wire, Option<OwnedFd>) {
        (self.wire, self.inbound.descriptor)
    }

    /// Switches to the offered memory, which the neighbour has accepted; `None` when none was offered.
    pub fn share(self) -> Option<Self> {
        let rings = self.offered?;
        Some(Self::new(self.wire.share(rings)))
    }

    /// Reads available bytes, up to a budget, and appends the items to `into`. Returns the bytes read.
    ///
    /// On a fault, the items before it are still in `into`.
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
            self.inbound.process(got, staging, pool, into)?;
            if got < asked {
                break;
            }
        }
        Ok(total)
    }

    /// Queues a packet. [`flush`](Self::flush) sends it.
    pub fn push(&mut self, packet: Packet, pool: &mut Pool) {
        if self.outbound.frames.is_empty() && self.wire.has_room_for(HEADER + packet.len()) {
            // While the packet is still in the cache, and without keeping its buffer.
            let frame = Frame::new(packet);
            let pieces = [IoSlice::new(frame.head()), IoSlice::new(frame.tail())];
            // A broken ring is detected by the next read.
            self.went += self.wire.write(&pieces).unwrap_or(0);
            return pool.put(frame.packet);
        }
        // A small packet must not hold a large buffer for as long as the neighbour does not read.
        self.outbound.push(pool.compact(packet));
    }

    /// Whether the queue is at its limit, so that forwarded packets must be dropped.
    pub fn is_full(&self) -> bool {
        self.outbound.bytes > QUEUE_FULL_BYTES || self.outbound.frames.len() > QUEUE_FULL_FRAMES
    }

    /// Queued bytes.
    pub fn queued(&self) -> usize {
        self.outbound.bytes
    }

    /// Sends as much as the socket accepts. Returns the bytes sent; afterwards [`queued`](Self::queued) tells whether
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

    /// Sends a bye message, if the wire accepts it at once and no packet is partly sent.
    pub fn send_bye(&mut self, reason: &str) {
        if self.outbound.sent == 0 {
            let word = Control::Bye(reason.into()).encode();
            let _ = self.wire.write(&[IoSlice::new(&word)]);
            self.wire.ring_doorbell();
        }
    }

    /// Requests a wake-up by the neighbour for all expected events. Returns whether this shard may sleep.
    pub fn request_wakeup(&mut self) -> bool {
        let writing = self.queued() > 0;
        self.wire.request_wakeup(writing)
    }
}

/// The state between two reads.
#[derive(Default)]
struct Inbound {
    head: [u8; HEADER],
    head_len: usize,
    body: Option<Body>,
    last_was_large: bool,
    /// Whether only handshake messages are accepted.
    handshake: bool,
    /// Whether a descriptor may come with the bytes.
    with_descriptor: bool,
    /// The first descriptor received.
    descriptor: Option<OwnedFd>,
}

/// The body of a frame whose header is known.
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
            .expect("the buffer of a partial packet is not shared");
        &mut storage[from..to]
    }
}

impl Inbound {
    /// One read. Returns the bytes read and the room that was offered.
    fn read_once(&mut self, wire: &mut Wire, staging: &mut [u8]) -> io::Result<(usize, usize)> {
        if self.with_descriptor {
            // A partial message must be continued behind its first bytes, as any frame.
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
            // Another read costs no system call, so read only this packet: every byte is then copied only once.
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

    /// Processes the bytes of one read: first the rest of the current packet, then frames from the staging area.
    fn process(
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
            packet.set_route(header.route);
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

    /// The fault that the end of the stream means in this state.
    fn end(&self) -> LinkFault {
        if self.body.is_some() || self.head_len > 0 {
            LinkFault::Truncated
        } else {
            LinkFault::Closed
        }
    }
}

/// Frames that wait to be written.
#[derive(Default)]
struct Outbound {
    frames: VecDeque<Frame>,
    /// Bytes of the first frame that are written already.
    sent: usize,
    bytes: usize,
}

/// A packet with its frame header and its rewritten IP header; the packet's own bytes stay unchanged, because other
/// copies of it may be in use.
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
            route: packet.route(),
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
