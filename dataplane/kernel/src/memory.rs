//! Allocate large buffers and prefault their pages.
//!
//! A new mapping costs a page fault per 4 KB at its first use, which for 90 MB is 40 ms, twice as long as the bytes
//! take to arrive over a memory link. Huge pages (2 MB) need a five-hundredth of the faults, and they can be
//! populated in advance by a thread that is not busy.

use std::mem::MaybeUninit;

use rustix::mm::{madvise, Advice};

/// Below this size in bytes faults are negligible and most of a huge page would be unused.
const WORTH_IT: usize = 4 << 20;
/// Above this size in bytes memory is not populated in advance: the transfer may never fill it.
const POPULATE_LIMIT: usize = 1 << 30;
/// Bytes populated per call: the kernel holds the lock of the address space meanwhile, and a shard that faults or
/// maps memory waits for it. When twenty threads of a busy machine populated 200 MB each in one call, shards were
/// blocked for seconds.
const PIECE: usize = 2 << 20;
/// Size of a cache line in bytes.
#[cfg(target_arch = "x86_64")]
const CACHE_LINE: usize = 64;

/// An empty vector with a capacity of `len` bytes, in huge pages where the kernel provides them. `None` when there is
/// no memory.
pub fn with_capacity(len: usize) -> Option<Vec<u8>> {
    let mut room = Vec::new();
    room.try_reserve_exact(len).ok()?;
    if len >= WORTH_IT {
        advise(whole_pages(&mut room), Advice::LinuxHugepage);
    }
    Some(room)
}

/// The same, with its pages populated.
pub fn with_capacity_prefaulted(len: usize) -> Option<Vec<u8>> {
    let mut room = with_capacity(len)?;
    if (WORTH_IT..=POPULATE_LIMIT).contains(&len) {
        for piece in whole_pages(&mut room).chunks_mut(PIECE) {
            // Since Linux 5.14; older kernels refuse it, and pages fault at their first use.
            if !advise(piece, Advice::LinuxPopulateWrite) {
                break;
            }
        }
    }
    Some(room)
}

/// Prefetches `len` bytes from an address into the CPU caches without waiting. Any address is allowed: unmapped ones
/// are ignored. No effect on processors other than x86-64.
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

/// The part of a vector's spare capacity that consists of whole pages.
fn whole_pages(room: &mut Vec<u8>) -> &mut [MaybeUninit<u8>] {
    const PAGE: usize = 4096;
    let spare = room.spare_capacity_mut();
    let skip = spare.as_ptr().align_offset(PAGE).min(spare.len());
    let inside = &mut spare[skip..];
    let length = inside.len() / PAGE * PAGE;
    &mut inside[..length]
}

/// Returns whether the kernel accepted the advice; the memory is usable in any case.
fn advise(pages: &mut [MaybeUninit<u8>], advice: Advice) -> bool {
    // SAFETY: the range lies inside memory that a vector owns exclusively. Neither advice changes its contents, and
    // an empty range has no effect.
    unsafe { madvise(pages.as_mut_ptr().cast(), pages.len(), advice).is_ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocations_of_any_size_can_be_filled() {
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
    fn an_allocation_larger_than_the_memory_is_refused() {
        assert!(with_capacity(usize::MAX / 2).is_none());
    }
}
