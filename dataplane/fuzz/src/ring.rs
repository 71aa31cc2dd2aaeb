//! Fuzz a ring in memory shared with another process, whose contents are not trusted.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use nm_kernel::ring::{BrokenRing, RingMemory, RingReader, RingWriter, RING_BYTES};

use crate::input::Input;

const STEPS: usize = 200;
/// The page with the positions: five fields of each of two lanes, two cache lines apart.
const LINE: u64 = 128;
const FIELDS: u64 = 10;

/// Performs the writes, reads and corruptions that the bytes describe. Until the memory is corrupted, the bytes read
/// equal the bytes written; after that the worst result is a broken lane.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (out, back, memory) = RingMemory::make().expect("memory to share");
    let (far_out, far_back) = RingMemory::take(memory.as_fd()).expect("the same memory");
    let memory = File::from(memory);
    let mut lanes = [Lane::new(out, far_back), Lane::new(far_out, back)];
    let mut corrupted = false;
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let choice = input.u8();
        let lane = &mut lanes[usize::from(choice >> 7)];
        match choice % 8 {
            0..=2 => lane.write(&mut input, corrupted),
            3..=5 => lane.read(&mut input, corrupted),
            6 => lane.check_room(corrupted),
            _ => {
                corrupted = true;
                let field = u64::from(input.u8()) % FIELDS * LINE;
                let value = match input.u8() % 4 {
                    0 => input.u64(),
                    1 => u64::from(input.u32()),
                    // A little more or less than the present value.
                    near => {
                        let mut old = [0; 8];
                        memory
                            .read_exact_at(&mut old, field)
                            .expect("a page of positions");
                        let step = u64::from(input.u32() & 0x1f_ffff);
                        let old = u64::from_ne_bytes(old);
                        if near == 2 {
                            old.wrapping_add(step)
                        } else {
                            old.wrapping_sub(step)
                        }
                    }
                };
                memory
                    .write_all_at(&value.to_ne_bytes(), field)
                    .expect("it is writable");
            }
        }
    }
}

struct Lane {
    writer: RingWriter,
    reader: RingReader,
    /// Bytes written and not read yet.
    under_way: VecDeque<u8>,
    next: u8,
}

impl Lane {
    fn new(writer: RingWriter, reader: RingReader) -> Self {
        Self {
            writer,
            reader,
            under_way: VecDeque::new(),
            next: 0,
        }
    }

    fn write(&mut self, input: &mut Input<'_>, corrupted: bool) {
        let sizes = [size(input), size(input)];
        let pieces = sizes.map(|size| {
            (0..size)
                .map(|_| {
                    self.next = self.next.wrapping_add(1);
                    self.next
                })
                .collect::<Vec<u8>>()
        });
        let written = self
            .writer
            .write(&[IoSlice::new(&pieces[0]), IoSlice::new(&pieces[1])]);
        let all = pieces.concat();
        if corrupted {
            assert!(written.is_ok_and(|count| count <= all.len()) || written == Err(BrokenRing));
            return;
        }
        let written = written.expect("not corrupted");
        assert_eq!(written, all.len().min(RING_BYTES - self.under_way.len()));
        self.next = self.next.wrapping_sub((all.len() - written) as u8);
        self.under_way.extend(&all[..written]);
    }

    fn read(&mut self, input: &mut Input<'_>, corrupted: bool) {
        let mut pieces = [vec![0; size(input)], vec![0; size(input)]];
        let asked = pieces[0].len() + pieces[1].len();
        let [first, second] = &mut pieces;
        let got = self
            .reader
            .read(&mut [IoSliceMut::new(first), IoSliceMut::new(second)]);
        if corrupted {
            assert!(got.is_ok_and(|count| count <= asked) || got == Err(BrokenRing));
            return;
        }
        let got = got.expect("not corrupted");
        assert_eq!(got, asked.min(self.under_way.len()));
        let expected: Vec<u8> = self.under_way.drain(..got).collect();
        assert_eq!(pieces.concat()[..got], expected[..]);
    }

    fn check_room(&mut self, corrupted: bool) {
        let (room, there) = (self.writer.room(), self.reader.available());
        assert!(room.is_err() || room.is_ok_and(|room| room <= RING_BYTES));
        assert!(there.is_err() || there.is_ok_and(|there| there <= RING_BYTES));
        if !corrupted {
            assert_eq!(
                (room, there),
                (
                    Ok(RING_BYTES - self.under_way.len()),
                    Ok(self.under_way.len())
                )
            );
        }
        // Both ends are in one process: the results do not matter, only that the calls do not panic.
        let _ = (self.writer.request_wakeup(), self.reader.request_wakeup());
        let _ = (
            self.writer.must_wake_reader(),
            self.reader.must_wake_writer(),
        );
        self.reader.clear_sleep_flag();
    }
}

/// Mostly small, at times more than the ring has room for.
fn size(input: &mut Input<'_>) -> usize {
    let size = usize::from(input.u16());
    match size % 16 {
        0 => size * 20,
        1..=3 => size,
        _ => size % 1024,
    }
}
