//! Large pieces of memory that are ready when they are needed.
//!
//! A fresh mapping costs a page fault per 4 KB at its first use, which for 90 MB is 40 ms, twice what the bytes
//! take to arrive over a memory link. Large pages need a five-hundredth of the faults, and asking for all of them
//! at once can be done ahead of time, on a thread that has time.

use std::mem::MaybeUninit;

/// Below this size faults do not matter and a large page would be mostly waste.
const WORTH_IT: usize = 4 << 20;
/// Above this size memory is not taken ahead of its use: the transfer may never fill it.
const POPULATE_LIMIT: usize = 1 << 30;
/// `MADV_POPULATE_WRITE`, Linux 5.14; older kernels refuse it and the faults come one by one.
const MADV_POPULATE_WRITE: libc::c_int = 23;
/// How much is populated in one call: the kernel holds the lock of the whole address space meanwhile, and a shard
/// that faults or maps something waits for it. When twenty threads of a busy machine populated 200 MB each in one
/// call, shards stood still for seconds.
const PIECE: usize = 2 << 20;

/// An empty vector with room for `len` bytes, in large pages where the kernel has them. `None` when there is no
/// memory.
pub fn roomy(len: usize) -> Option<Vec<u8>> {
    let mut room = Vec::new();
    room.try_reserve_exact(len).ok()?;
    if len >= WORTH_IT {
        advise(whole_pages(&mut room), libc::MADV_HUGEPAGE);
    }
    Some(room)
}

/// The same, with the memory behind it already there.
pub fn roomy_and_ready(len: usize) -> Option<Vec<u8>> {
    let mut room = roomy(len)?;
    if (WORTH_IT..=POPULATE_LIMIT).contains(&len) {
        for piece in whole_pages(&mut room).chunks_mut(PIECE) {
            if !advise(piece, MADV_POPULATE_WRITE) {
                break;
            }
        }
    }
    Some(room)
}

/// Appends the parts of a packet to a vector: of every `step` bytes those behind the first `skip`.
///
/// A large vector is written past the caches. It is far larger than they are, so its lines would be fetched from memory
/// only to be overwritten, and then drive out what the next packets need. Filling three times 90 MB from packets of
/// 64 KB took 31 ms so and 37 ms by ordinary writes (Xeon with AVX-512, lowest decile of 528 pieces).
pub fn append_parts(sink: &mut Vec<u8>, packet: &[u8], step: usize, skip: usize) {
    let parts = || {
        packet
            .chunks(step.max(1))
            .map(|part| part.get(skip..).unwrap_or_default())
    };
    if sink.capacity() < WORTH_IT {
        parts().for_each(|part| sink.extend_from_slice(part));
        return;
    }
    sink.reserve(parts().map(<[u8]>::len).sum());
    let mut room = sink.spare_capacity_mut();
    let mut length = 0;
    for part in parts() {
        let (place, rest) = room.split_at_mut(part.len());
        write_past_caches(place, part);
        length += part.len();
        room = rest;
    }
    finish_writes();
    // SAFETY: `length` bytes behind the vector's end were written, inside the room that was reserved for them.
    unsafe { sink.set_len(sink.len() + length) };
}

/// Copies bytes; nobody may look at them before [`finish_writes`].
#[cfg(target_arch = "x86_64")]
fn write_past_caches(to: &mut [MaybeUninit<u8>], from: &[u8]) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};
    /// A cache line: what is written of one in full needs not be fetched before.
    const LINE: usize = 64;
    const STEP: usize = size_of::<__m128i>();
    let head = to.as_ptr().align_offset(LINE).min(to.len());
    let (first, lines) = to.split_at_mut(head);
    let (before, from) = from.split_at(head);
    copy(first, before);
    let full = lines.len() / LINE * LINE;
    let (lines, last) = lines.split_at_mut(full);
    let (from, behind) = from.split_at(full);
    for (to, from) in lines.chunks_exact_mut(STEP).zip(from.chunks_exact(STEP)) {
        // SAFETY: both pieces have the length of what is loaded and stored, the target is aligned to a line and thus to
        // it, and SSE2 is part of x86-64.
        unsafe {
            _mm_stream_si128(
                to.as_mut_ptr().cast(),
                _mm_loadu_si128(from.as_ptr().cast()),
            )
        };
    }
    copy(last, behind);
}

#[cfg(not(target_arch = "x86_64"))]
fn write_past_caches(to: &mut [MaybeUninit<u8>], from: &[u8]) {
    copy(to, from);
}

/// Orders writes past the caches before every later access, of other threads too.
fn finish_writes() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction is part of SSE, which every x86-64 has.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

fn copy(to: &mut [MaybeUninit<u8>], from: &[u8]) {
    assert_eq!(to.len(), from.len());
    // SAFETY: both have this length, and one that may be written is not one that may be read.
    unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to.as_mut_ptr().cast(), from.len()) };
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
fn advise(pages: &mut [MaybeUninit<u8>], advice: libc::c_int) -> bool {
    // SAFETY: the range lies inside memory that a vector owns and nobody else can see. Neither advice changes what
    // is stored there, and for an empty range nothing happens.
    unsafe { libc::madvise(pages.as_mut_ptr().cast(), pages.len(), advice) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_of_any_size_can_be_filled() {
        for len in [0, 1, 5000, WORTH_IT, WORTH_IT + 4097, 2 * PIECE + 5000] {
            for mut room in [roomy(len), roomy_and_ready(len)].into_iter().flatten() {
                assert!(room.is_empty() && room.capacity() >= len);
                room.resize(len, 7);
                assert!(room.iter().all(|&byte| byte == 7));
            }
        }
    }

    #[test]
    fn parts_of_packets_are_appended_wherever_they_begin_and_end() {
        for capacity in [0, WORTH_IT] {
            let mut sink = Vec::with_capacity(capacity);
            let mut expected = Vec::new();
            for (length, step, skip) in [
                (0, 1, 0),
                (7, 3, 1),
                (4000, 1460, 12),
                (1460, 1460, 12),
                (64, 64, 0),
                (130, 65, 64),
            ] {
                for start in 0..70 {
                    let packet: Vec<u8> = (0..length + start)
                        .map(|at| (at * 7 + start) as u8)
                        .collect();
                    append_parts(&mut sink, &packet[start..], step, skip);
                    for part in packet[start..].chunks(step) {
                        expected.extend_from_slice(&part[skip.min(part.len())..]);
                    }
                    assert!(
                        sink == expected,
                        "{capacity} {length} {step} {skip} {start}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_full_sink_grows() {
        let mut sink = vec![1; WORTH_IT];
        append_parts(&mut sink, &[2; 100], 10, 2);
        assert_eq!(sink.len(), WORTH_IT + 80);
        assert!(sink[WORTH_IT..].iter().all(|&byte| byte == 2));
    }

    #[test]
    fn more_than_there_is_is_refused() {
        assert!(roomy(usize::MAX / 2).is_none());
    }
}
