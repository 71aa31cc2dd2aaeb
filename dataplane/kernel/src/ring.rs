//! Two byte streams, one each way, through memory that two processes share.
//!
//! ```text
//! │ page: positions and flags of both lanes │ bytes from the maker to the taker │ bytes back │
//! ```
//!
//! One process [makes](RingMemory::make) the memory and hands its descriptor to the other, which
//! [takes](RingMemory::take) it. Each lane has one writer and one reader. Positions only grow; the byte at position
//! `p` is at `p` plus a shift, modulo the capacity. Whenever the writer finds everything read, it chooses the shift so
//! that it begins at the beginning: the bytes stay where the cache is warm, and a link with little to carry never
//! touches most of its memory.
//!
//! **Nothing in the memory is trusted.** Each side keeps its own position to itself and only publishes it. The
//! other's is loaded once per look, must not have gone back, and must leave a difference that fits the capacity;
//! else the lane is [broken](BrokenRing). Bytes are copied out before anybody interprets them, so what was checked
//! is what is used. The size is sealed, so that the other process cannot take the pages away under us.
//!
//! **Nobody is woken who is awake.** Before it sleeps a side sets its flag and looks once more; the other, after
//! it has moved, looks at the flag. Either the sleeper sees the move or the mover sees the flag, because both have
//! a full fence between their store and their load.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};
use std::sync::Arc;

use crate::error::{check, KernelError, Result};

/// Bytes under way in one direction. A quarter of it keeps both sides waiting for each other, and eight times as
/// much falls out of the cache.
pub const RING_BYTES: usize = 1 << 20;

const CONTROL_BYTES: usize = 4096;
const MEMORY_BYTES: usize = CONTROL_BYTES + 2 * RING_BYTES;
/// Each field has two cache lines to itself: processors fetch lines in pairs.
const LINE: usize = 128;
const LANE_CONTROL: usize = 5 * LINE;

const SUBJECT: &str = "shared memory";

/// The other process has written what cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenRing;

/// The shared memory, mapped.
pub struct RingMemory {
    base: NonNull<u8>,
}

// SAFETY: the mapping belongs to no thread, and all access to it goes through atomics or raw copies.
unsafe impl Send for RingMemory {}
// SAFETY: likewise.
unsafe impl Sync for RingMemory {}

impl RingMemory {
    /// Makes the memory; returns our ends of both lanes and the descriptor for the other process.
    pub fn make() -> Result<(RingWriter, RingReader, OwnedFd)> {
        // SAFETY: the name is a C string; a non-negative return is a descriptor nobody else owns.
        let raw = unsafe {
            libc::memfd_create(
                c"nm-link".as_ptr(),
                libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING,
            )
        };
        let raw = check(raw, "make memory to share", SUBJECT)?;
        // SAFETY: see above.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        // SAFETY: no pointers.
        let sized = unsafe { libc::ftruncate(fd.as_raw_fd(), MEMORY_BYTES as libc::off_t) };
        check(sized, "size memory to share", SUBJECT)?;
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: no pointers.
        let sealed = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) };
        check(sealed, "seal memory to share", SUBJECT)?;
        let memory = Arc::new(Self::map(fd.as_fd())?);
        let (out, back) = (Lane::new(&memory, 0), Lane::new(&memory, 1));
        Ok((RingWriter::new(out), RingReader::new(back), fd))
    }

    /// Takes what the other process made; refuses anything that is not exactly such memory.
    pub fn take(fd: BorrowedFd<'_>) -> Result<(RingWriter, RingReader)> {
        // SAFETY: no pointers. Anything but a memory file answers with an error.
        let seals = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) };
        let seals = check(seals, "read the seals of shared memory", SUBJECT)?;
        // SAFETY: a `stat` of zeros is valid, and the kernel fills it.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to live memory of the right type.
        let outcome = unsafe { libc::fstat(fd.as_raw_fd(), &mut stat) };
        check(outcome, "size shared memory", SUBJECT)?;
        if seals & libc::F_SEAL_SHRINK == 0 || stat.st_size != MEMORY_BYTES as libc::off_t {
            let found = std::io::Error::from(std::io::ErrorKind::InvalidData);
            return Err(KernelError::from_io("use shared memory", SUBJECT, found));
        }
        let memory = Arc::new(Self::map(fd)?);
        let (out, back) = (Lane::new(&memory, 1), Lane::new(&memory, 0));
        Ok((RingWriter::new(out), RingReader::new(back)))
    }

    fn map(fd: BorrowedFd<'_>) -> Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice, over a file of at least that size that
        // cannot shrink.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                MEMORY_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(base.cast::<u8>()) {
            Some(base) if base.as_ptr().cast() != libc::MAP_FAILED => Ok(Self { base }),
            _ => Err(KernelError::last("map shared memory", SUBJECT)),
        }
    }
}

impl Drop for RingMemory {
    fn drop(&mut self) {
        // SAFETY: the range is our mapping, and nothing that points into it outlives its last owner.
        unsafe { libc::munmap(self.base.as_ptr().cast(), MEMORY_BYTES) };
    }
}

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
            control: index * LANE_CONTROL,
            data: CONTROL_BYTES + index * RING_BYTES,
        }
    }

    /// Where the writer is.
    fn head(&self) -> &AtomicU64 {
        self.position(0)
    }

    /// Where the reader is.
    fn tail(&self) -> &AtomicU64 {
        self.position(1)
    }

    /// Set while the reader sleeps, or is about to.
    fn reader_sleeps(&self) -> &AtomicU32 {
        self.flag(2)
    }

    /// Set while the writer sleeps for want of room, or is about to.
    fn writer_sleeps(&self) -> &AtomicU32 {
        self.flag(3)
    }

    /// Where position 0 is. Changes only while everything is read, before the head moves.
    fn shift(&self) -> &AtomicU64 {
        self.position(4)
    }

    fn position(&self, line: usize) -> &AtomicU64 {
        // SAFETY: inside the first page of the mapping, aligned, and touched by nobody except through atomics.
        unsafe { AtomicU64::from_ptr(self.at(self.control + line * LINE).cast()) }
    }

    fn flag(&self, line: usize) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { AtomicU32::from_ptr(self.at(self.control + line * LINE).cast()) }
    }

    fn at(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset < MEMORY_BYTES);
        // SAFETY: every caller's offset is below the size of the mapping.
        unsafe { self.memory.base.as_ptr().add(offset) }
    }

    /// The at most two runs of `length` bytes from `place` on, `length` being at most the capacity.
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

/// The writer's end of a lane.
pub struct RingWriter {
    lane: Lane,
    head: u64,
    /// Where the reader was when we last looked.
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

    /// How many bytes fit now.
    pub fn room(&mut self) -> std::result::Result<usize, BrokenRing> {
        let tail = self.lane.tail().load(Ordering::Acquire);
        let unread = self.head.wrapping_sub(tail);
        // What is unread can only have become less. That it was at most the capacity before holds by induction.
        if unread > self.head.wrapping_sub(self.tail) {
            return Err(BrokenRing);
        }
        self.tail = tail;
        Ok(RING_BYTES - unread as usize)
    }

    /// Writes as much of the pieces as fits; 0 when there is no room at all.
    pub fn write(&mut self, pieces: &[IoSlice<'_>]) -> std::result::Result<usize, BrokenRing> {
        let mut room = self.room()?;
        if room == RING_BYTES {
            // The reader has read everything and will look for the shift together with the next bytes.
            self.shift = self.head.wrapping_neg();
            self.lane.shift().store(self.shift, Ordering::Relaxed);
        }
        let mut position = self.head;
        for piece in pieces {
            let count = piece.len().min(room);
            let mut from = &piece[..count];
            let place = position.wrapping_add(self.shift);
            for (to, length) in self.lane.runs(place, count) {
                // SAFETY: the run lies inside the lane's bytes and the source has at least as many. The reader
                // does not look at bytes that are not published yet; a process that does harms only itself.
                unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, length) };
                from = &from[length..];
            }
            position = position.wrapping_add(count as u64);
            room -= count;
        }
        let written = position.wrapping_sub(self.head) as usize;
        if written > 0 {
            self.head = position;
            self.lane.head().store(position, Ordering::Release);
        }
        Ok(written)
    }

    /// Whether the reader sleeps and has to be woken, which is then our duty. To be asked after writing.
    pub fn must_wake_reader(&self) -> bool {
        fence(Ordering::SeqCst);
        let flag = self.lane.reader_sleeps();
        flag.load(Ordering::Relaxed) != 0 && flag.swap(0, Ordering::Relaxed) != 0
    }

    /// To be called before sleeping for want of room: true when we may, and the reader will wake us.
    pub fn may_sleep(&mut self) -> std::result::Result<bool, BrokenRing> {
        let flag = self.lane.writer_sleeps();
        flag.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let enough = self.room()? >= WAKE_WRITER_AT;
        if enough {
            self.lane.writer_sleeps().store(0, Ordering::Relaxed);
        }
        Ok(!enough)
    }
}

/// Room for which a writer is woken: enough that it does not sleep again at once.
const WAKE_WRITER_AT: usize = RING_BYTES / 2;

/// The reader's end of a lane.
pub struct RingReader {
    lane: Lane,
    tail: u64,
    /// Where the writer was when we last looked.
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

    /// How many bytes are there.
    pub fn available(&mut self) -> std::result::Result<usize, BrokenRing> {
        let head = self.lane.head().load(Ordering::Acquire);
        let unread = head.wrapping_sub(self.tail);
        // It can only have become more, and never more than fits.
        if unread > RING_BYTES as u64 || unread < self.head.wrapping_sub(self.tail) {
            return Err(BrokenRing);
        }
        if self.head == self.tail {
            // All that we knew of was read, so the writer may have begun anew. Any value is a place in the ring.
            self.shift = self.lane.shift().load(Ordering::Relaxed);
        }
        self.head = head;
        Ok(unread as usize)
    }

    /// Copies out as much as is there and fits into the pieces; 0 when nothing is there.
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
                // overwrites what we have not given back yet garbles its own bytes, which nobody has judged yet.
                unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), length) };
                to = &mut to[length..];
            }
            position = position.wrapping_add(count as u64);
            there -= count;
        }
        let got = position.wrapping_sub(self.tail) as usize;
        if got > 0 {
            self.tail = position;
            self.lane.tail().store(position, Ordering::Release);
        }
        Ok(got)
    }

    /// Whether the writer sleeps and there is room for it again, so that it has to be woken, which is then our duty.
    /// To be asked after reading.
    pub fn must_wake_writer(&self) -> bool {
        fence(Ordering::SeqCst);
        let flag = self.lane.writer_sleeps();
        if flag.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let unread = self
            .lane
            .head()
            .load(Ordering::Relaxed)
            .wrapping_sub(self.tail);
        unread <= (RING_BYTES - WAKE_WRITER_AT) as u64 && flag.swap(0, Ordering::Relaxed) != 0
    }

    /// To be called before sleeping: true when we may, and the writer will wake us.
    pub fn may_sleep(&mut self) -> std::result::Result<bool, BrokenRing> {
        let flag = self.lane.reader_sleeps();
        flag.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let empty = self.available()? == 0;
        if !empty {
            self.lane.reader_sleeps().store(0, Ordering::Relaxed);
        }
        Ok(empty)
    }

    /// Takes back that we sleep, so that nobody troubles to wake us.
    pub fn is_awake(&self) {
        let flag = self.lane.reader_sleeps();
        if flag.load(Ordering::Relaxed) != 0 {
            flag.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
