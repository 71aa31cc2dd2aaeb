//! Allocate large buffers and prefault their pages.
//!
//! A fresh mapping costs a page fault per 4 KB at its first use, which for 90 MB is 40 ms, twice what the bytes
//! take to arrive over a memory link. Large pages need a five-hundredth of the faults, and asking for all of them
//! at once can be done ahead of time, on a thread that has time.

use std::mem::MaybeUninit;

use rustix::mm::{madvise, Advice};

/// Below this size faults do not matter and a large page would be mostly waste.
const WORTH_IT: usize = 4 << 20;
/// Above this size memory is not taken ahead of its use: the transfer may never fill it.
const POPULATE_LIMIT: usize = 1 << 30;
/// How much is populated in one call: the kernel holds the lock of the whole address space meanwhile, and a shard
/// that faults or maps something waits for it. When twenty threads of a busy machine populated 200 MB each in one
/// call, shards stood still for seconds.
const PIECE: usize = 2 << 20;
/// Bytes that a processor fetches at once.
#[cfg(target_arch = "x86_64")]
const CACHE_LINE: usize = 64;

/// An empty vector with room for `len` bytes, in large pages where the kernel has them. `None` when there is no
/// memory.
pub fn with_capacity(len: usize) -> Option<Vec<u8>> {
    let mut room = Vec::new();
    room.try_reserve_exact(len).ok()?;
    if len >= WORTH_IT {
        advise(whole_pages(&mut room), Advice::LinuxHugepage);
    }
    Some(room)
}

/// The same, with the memory behind it already there.
pub fn with_capacity_prefaulted(len: usize) -> Option<Vec<u8>> {
    let mut room = with_capacity(len)?;
    if (WORTH_IT..=POPULATE_LIMIT).contains(&len) {
        for piece in whole_pages(&mut room).chunks_mut(PIECE) {
            // Linux 5.14; older kernels refuse it and the faults come one by one.
            if !advise(piece, Advice::LinuxPopulateWrite) {
                break;
            }
        }
    }
    Some(room)
}

/// Asks the processor to bring so many bytes from an address into its caches, without waiting for them. Any address
/// will do: what cannot be fetched is left where it is. Does nothing on processors other than x86-64.
pub fn prefetch(from: *const u8, len: usize) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..len).step_by(CACHE_LINE) {
        use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
        // SAFETY: a prefetch is a hint. It changes nothing that a program can see, and never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(at).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, len);
}

/// The part of a vector's room that consists of whole pages, which are entirely ours.
fn whole_pages(room: &mut Vec<u8>) -> &mut [MaybeUninit<u8>] {
    const PAGE: usize = 4096;
    let spare = room.spare_capacity_mut();
    let skip = spare.as_ptr().align_offset(PAGE).min(spare.len());
    let inside = &mut spare[skip..];
    let length = inside.len() / PAGE * PAGE;
    &mut inside[..length]
}

/// Tells whether the kernel took the advice; whatever it answers, the memory works.
fn advise(pages: &mut [MaybeUninit<u8>], advice: Advice) -> bool {
    // SAFETY: the range lies inside memory that a vector owns and nobody else can see. Neither advice changes what
    // is stored there, and for an empty range nothing happens.
    unsafe { madvise(pages.as_mut_ptr().cast(), pages.len(), advice).is_ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_any_size_can_be_filled() {
        for len in [0, 1, 5000, WORTH_IT, WORTH_IT + 4097, 2 * PIECE + 5000] {
            for mut room in [with_capacity(len), with_capacity_prefaulted(len)]
                .into_iter()
                .flatten()
            {
                assert!(room.is_empty() && room.capacity() >= len);
                room.resize(len, 7);
                assert!(room.iter().all(|&byte| byte == 7));
            }
        }
    }

    #[test]
    fn any_address_can_be_prefetched() {
        let bytes = [1u8; 200];
        prefetch(bytes.as_ptr(), bytes.len());
        prefetch(std::ptr::null(), 1 << 16);
        prefetch(std::ptr::without_provenance(usize::MAX), 1 << 16);
    }

    #[test]
    fn more_than_there_is_is_refused() {
        assert!(with_capacity(usize::MAX / 2).is_none());
    }
}
