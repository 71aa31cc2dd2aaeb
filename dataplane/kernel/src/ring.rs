//! Two byte streams, one per direction, through memory that two processes share.
//!
//! ```text
//! │ page: positions and flags of both lanes │ bytes from creator to peer │ bytes back │
//! ```
//!
//! One process [creates](RingMemory::make) the memory and sends its descriptor to the other, which
//! [maps](RingMemory::take) it. Each lane has one writer and one reader. Positions only increase; the byte at
//! position `p` is stored at `p` plus a shift, modulo the capacity. When the reader has read everything, the writer
//! chooses the shift so that its next write starts at offset 0: the bytes stay in the cache, and a link with little
//! traffic never touches most of its memory.
//!
//! **Nothing in the memory is trusted.** Each side keeps its own position in private memory and only publishes it.
//! The position of the other side is loaded once per call, must not have decreased, and must differ by at most the
//! capacity; otherwise the lane is [broken](BrokenRing). Bytes are copied before they are interpreted, so the checked
//! bytes are the ones used. The size of the memory is sealed, so that the other process cannot truncate it.
//!
//! **A side is only woken while it sleeps.** Before it sleeps, a side sets its flag and checks the position again;
//! the other side checks the flag after it has published a position. Either the first one sees the position or the
//! second one sees the flag, because both have a full fence between store and load.

use std::io::{IoSlice, IoSliceMut};
use std::mem::size_of;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{
    fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create, MemfdFlags, SealFlags,
};
use rustix::io::Errno;

use crate::error::{KernelError, Result};

/// Capacity of one direction in bytes. With a quarter of it both sides wait for each other; eight times as much
/// exceeds the cache.
pub const RING_BYTES: usize = 1 << 20;

const CONTROL_BYTES: usize = 4096;
const MEMORY_BYTES: usize = CONTROL_BYTES + 2 * RING_BYTES;

const SUBJECT: &str = "shared memory";

/// The other process has written an invalid position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenRing;

/// The mapped shared memory.
pub struct RingMemory(MmapRaw);

impl RingMemory {
    /// Creates the memory; returns this side's ends of both lanes and the descriptor for the other process.
    pub fn make() -> Result<(RingWriter, RingReader, OwnedFd)> {
        let failed = |what| move |e: Errno| KernelError::from_io(what, SUBJECT, e);
        let fd = memfd_create(c"nm-link", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
            .map_err(failed("create shared memory"))?;
        ftruncate(&fd, MEMORY_BYTES as u64).map_err(failed("set the size of shared memory"))?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        fcntl_add_seals(&fd, seals).map_err(failed("seal shared memory"))?;
        let memory = Arc::new(Self::map(fd.as_fd())?);
        let (out, back) = (Lane::new(&memory, 0), Lane::new(&memory, 1));
        Ok((RingWriter::new(out), RingReader::new(back), fd))
    }

    /// Maps the memory that the other process created; refuses any descriptor that is not such memory.
    pub fn take(fd: BorrowedFd<'_>) -> Result<(RingWriter, RingReader)> {
        // Any file but a memfd returns an error here.
        let seals = fcntl_get_seals(fd)
            .map_err(|e| KernelError::from_io("read the seals of shared memory", SUBJECT, e))?;
        let found = fstat(fd)
            .map_err(|e| KernelError::from_io("read the size of shared memory", SUBJECT, e))?;
        if !seals.contains(SealFlags::SHRINK) || found.st_size != MEMORY_BYTES as _ {
            let found = std::io::ErrorKind::InvalidData;
            return Err(KernelError::from_io("use shared memory", SUBJECT, found));
        }
        let memory = Arc::new(Self::map(fd)?);
        let (out, back) = (Lane::new(&memory, 1), Lane::new(&memory, 0));
        Ok((RingWriter::new(out), RingReader::new(back)))
    }

    fn map(fd: BorrowedFd<'_>) -> Result<Self> {
        MmapOptions::new()
            .len(MEMORY_BYTES)
            .map_raw(&fd)
            .map(Self)
            .map_err(|e| KernelError::from_io("map shared memory", SUBJECT, e))
    }

    fn at(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset < MEMORY_BYTES);
        self.0.as_mut_ptr().wrapping_add(offset)
    }
}

/// Two cache lines for one field: processors prefetch lines in pairs.
#[repr(C, align(128))]
struct Padded<T>(T);

/// The shared state of one direction.
#[repr(C)]
struct LaneControl {
    /// Position of the writer.
    head: Padded<AtomicU64>,
    /// Position of the reader.
    tail: Padded<AtomicU64>,
    /// Set while the reader sleeps, or is about to.
    reader_sleeps: Padded<AtomicU32>,
    /// Set while the writer sleeps because the ring is full, or is about to.
    writer_sleeps: Padded<AtomicU32>,
    /// Offset of position 0. Changes only while everything is read, before the head moves.
    shift: Padded<AtomicU64>,
}

const _: () = assert!(2 * size_of::<LaneControl>() <= CONTROL_BYTES);

/// One direction.
struct Lane {
    memory: Arc<RingMemory>,
    control: usize,
    data: usize,
}

impl Lane {
    fn new(memory: &Arc<RingMemory>, index: usize) -> Self {
        Self {
            memory: memory.clone(),
            control: index * size_of::<LaneControl>(),
            data: CONTROL_BYTES + index * RING_BYTES,
        }
    }

    fn control(&self) -> &LaneControl {
        // SAFETY: the structure lies within the first page of the mapping, which exists as long as `self`, and is
        // aligned, because a page is and its size is a multiple of its alignment. Its fields are atomics, for which
        // any bytes are valid, and this process reads and writes the page in no other way.
        unsafe { &*self.memory.at(self.control).cast() }
    }

    fn at(&self, offset: usize) -> *mut u8 {
        self.memory.at(offset)
    }

    /// The one or two contiguous runs of `length` bytes from `place` on; `length` is at most the capacity.
    fn runs(&self, place: u64, length: usize) -> [(*mut u8, usize); 2] {
        debug_assert!(length <= RING_BYTES);
        let start = (place % RING_BYTES as u64) as usize;
        let first = length.min(RING_BYTES - start);
        [
            (self.at(self.data + start), first),
            (self.at(self.data), length - first),
        ]
    }
}

/// The writing end of a lane.
pub struct RingWriter {
    lane: Lane,
    head: u64,
    /// The last known position of the reader.
    tail: u64,
    shift: u64,
}

impl RingWriter {
    fn new(lane: Lane) -> Self {
        Self {
            lane,
            head: 0,
            tail: 0,
            shift: 0,
        }
    }

    /// Number of bytes that can be written.
    pub fn room(&mut self) -> std::result::Result<usize, BrokenRing> {
        let tail = self.lane.control().tail.0.load(Ordering::Acquire);
        let unread = self.head.wrapping_sub(tail);
        // The number of unread bytes can only have decreased. That it was at most the capacity before holds by
        // induction.
        if unread > self.head.wrapping_sub(self.tail) {
            return Err(BrokenRing);
        }
        self.tail = tail;
        Ok(RING_BYTES - unread as usize)
    }

    /// Writes as many bytes of the pieces as fit and returns their number; 0 when the ring is full.
    pub fn write(&mut self, pieces: &[IoSlice<'_>]) -> std::result::Result<usize, BrokenRing> {
        let mut room = self.room()?;
        if room == RING_BYTES {
            // The reader has read everything and loads the shift together with the next bytes.
            self.shift = self.head.wrapping_neg();
            self.lane
                .control()
                .shift
                .0
                .store(self.shift, Ordering::Relaxed);
        }
        let mut position = self.head;
        for piece in pieces {
            let count = piece.len().min(room);
            let mut from = &piece[..count];
            let place = position.wrapping_add(self.shift);
            for (to, length) in self.lane.runs(place, count) {
                // SAFETY: the run lies inside the lane's bytes and the source has at least as many. The reader does
                // not read bytes that are not published yet; a process that does corrupts only its own data.
                unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, length) };
                from = &from[length..];
            }
            position = position.wrapping_add(count as u64);
            room -= count;
        }
        let written = position.wrapping_sub(self.head) as usize;
        if written > 0 {
            self.head = position;
            self.lane
                .control()
                .head
                .0
                .store(position, Ordering::Release);
        }
        Ok(written)
    }

    /// Whether the reader sleeps, so that the caller must wake it. To be called after writing.
    pub fn must_wake_reader(&self) -> bool {
        fence(Ordering::SeqCst);
        let flag = &self.lane.control().reader_sleeps.0;
        flag.load(Ordering::Relaxed) != 0 && flag.swap(0, Ordering::Relaxed) != 0
    }

    /// Requests a wake-up by the reader when a full ring has room. Returns whether the caller may sleep.
    pub fn request_wakeup(&mut self) -> std::result::Result<bool, BrokenRing> {
        let flag = &self.lane.control().writer_sleeps.0;
        flag.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let enough = self.room()? >= WAKE_WRITER_AT;
        if enough {
            self.lane
                .control()
                .writer_sleeps
                .0
                .store(0, Ordering::Relaxed);
        }
        Ok(!enough)
    }
}

/// Free bytes at which the writer is woken: enough that it does not sleep again immediately.
const WAKE_WRITER_AT: usize = RING_BYTES / 2;

/// The reading end of a lane.
pub struct RingReader {
    lane: Lane,
    tail: u64,
    /// The last known position of the writer.
    head: u64,
    shift: u64,
}

impl RingReader {
    fn new(lane: Lane) -> Self {
        Self {
            lane,
            tail: 0,
            head: 0,
            shift: 0,
        }
    }

    /// Number of bytes that can be read.
    pub fn available(&mut self) -> std::result::Result<usize, BrokenRing> {
        let head = self.lane.control().head.0.load(Ordering::Acquire);
        let unread = head.wrapping_sub(self.tail);
        // The number can only have increased, up to the capacity.
        if unread > RING_BYTES as u64 || unread < self.head.wrapping_sub(self.tail) {
            return Err(BrokenRing);
        }
        if self.head == self.tail {
            // All known bytes were read, so the writer may have changed the shift. Any value is a valid offset modulo
            // the capacity.
            self.shift = self.lane.control().shift.0.load(Ordering::Relaxed);
        }
        self.head = head;
        Ok(unread as usize)
    }

    /// Copies as many bytes as are available into the pieces and returns their number; 0 when the ring is empty.
    pub fn read(
        &mut self,
        pieces: &mut [IoSliceMut<'_>],
    ) -> std::result::Result<usize, BrokenRing> {
        let wanted: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut there = self.head.wrapping_sub(self.tail) as usize;
        if there < wanted {
            there = self.available()?;
        }
        let mut position = self.tail;
        for piece in pieces {
            let count = piece.len().min(there);
            let mut to = &mut piece[..count];
            let place = position.wrapping_add(self.shift);
            for (from, length) in self.lane.runs(place, count) {
                // SAFETY: the run lies inside the lane's bytes and the target has at least as many. A writer that
                // overwrites bytes that were not released yet corrupts its own data, which is checked only after the
                // copy.
                unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), length) };
                to = &mut to[length..];
            }
            position = position.wrapping_add(count as u64);
            there -= count;
        }
        let got = position.wrapping_sub(self.tail) as usize;
        if got > 0 {
            self.tail = position;
            self.lane
                .control()
                .tail
                .0
                .store(position, Ordering::Release);
        }
        Ok(got)
    }

    /// Whether the writer sleeps and has room again, so that the caller must wake it. To be called after reading.
    pub fn must_wake_writer(&self) -> bool {
        fence(Ordering::SeqCst);
        let flag = &self.lane.control().writer_sleeps.0;
        if flag.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let unread = self
            .lane
            .control()
            .head
            .0
            .load(Ordering::Relaxed)
            .wrapping_sub(self.tail);
        unread <= (RING_BYTES - WAKE_WRITER_AT) as u64 && flag.swap(0, Ordering::Relaxed) != 0
    }

    /// Requests a wake-up by the writer when it has written. Returns whether the caller may sleep.
    pub fn request_wakeup(&mut self) -> std::result::Result<bool, BrokenRing> {
        let flag = &self.lane.control().reader_sleeps.0;
        flag.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let empty = self.available()? == 0;
        if !empty {
            self.lane
                .control()
                .reader_sleeps
                .0
                .store(0, Ordering::Relaxed);
        }
        Ok(empty)
    }

    /// Withdraws the request for a wake-up, so that the writer makes no system call for it.
    pub fn clear_sleep_flag(&self) {
        let flag = &self.lane.control().reader_sleeps.0;
        if flag.load(Ordering::Relaxed) != 0 {
            flag.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
