//! Write several packets with one system call, through io_uring (io_uring(7)).
//!
//! A packet written to a TUN device wakes its receiver, and the kernel may run the receiver before the write returns.
//! Packets written with one call make that one switch of tasks instead of one per packet.
//!
//! io_uring may be missing or forbidden: kernels can disable it (`kernel.io_uring_disabled`), and the seccomp profile
//! of Docker refuses it since version 25. [`WriteBatch::new`] then returns the reason.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::{opcode, types, IoUring};

/// A queue of writes, carried out together.
pub struct WriteBatch {
    ring: IoUring,
}

impl WriteBatch {
    /// The largest number of writes of one call.
    pub const CAPACITY: usize = 64;

    /// An empty queue.
    pub fn new() -> io::Result<Self> {
        let ring = IoUring::new(Self::CAPACITY as u32)?;
        Ok(Self { ring })
    }

    /// Writes the packets in order, without waiting for any device, and calls `done` with the index and the result of
    /// each. At most [`CAPACITY`](Self::CAPACITY) packets are taken.
    ///
    /// # Errors
    ///
    /// When the kernel does not take the queue. Packets without a call of `done` may or may not be written. The queue
    /// cannot be used again, because it may contain entries that refer to these packets: it must be dropped.
    pub fn write<'a>(
        &mut self,
        packets: impl Iterator<Item = (BorrowedFd<'a>, &'a [u8])>,
        mut done: impl FnMut(usize, io::Result<usize>),
    ) -> io::Result<()> {
        let mut left = 0;
        for (index, (fd, bytes)) in packets.take(Self::CAPACITY).enumerate() {
            let entry = opcode::Write::new(
                types::Fd(fd.as_raw_fd()),
                bytes.as_ptr(),
                bytes.len() as u32,
            )
            // The kernel completes the write before the call returns, or not at all.
            .rw_flags(libc::RWF_NOWAIT)
            .build()
            .user_data(index as u64);
            // SAFETY: descriptor and bytes are valid until this function returns. It returns `Ok` only when each write
            // has completed. When it fails, entries that the kernel has taken have completed, because they do not wait
            // (RWF_NOWAIT), and entries that it has not taken are discarded with the queue.
            unsafe { self.ring.submission().push(&entry) }
                .map_err(|_| io::ErrorKind::OutOfMemory)?;
            left += 1;
        }
        while left > 0 {
            match self.ring.submit_and_wait(left) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for entry in self.ring.completion() {
                left -= 1;
                let result = usize::try_from(entry.result());
                done(
                    entry.user_data() as usize,
                    result.map_err(|_| io::Error::from_raw_os_error(-entry.result())),
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    use rustix::pipe::{pipe_with, PipeFlags};

    use super::*;

    fn pipe() -> (File, File) {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK).expect("a pipe");
        (reader.into(), writer.into())
    }

    #[test]
    fn packets_are_written_in_order_and_each_has_its_result() {
        let Ok(mut batch) = WriteBatch::new() else {
            eprintln!("skipped: this kernel does not offer io_uring to this process");
            return;
        };
        let ((mut one, to_one), (mut two, to_two)) = (pipe(), pipe());
        let (reader, closed) = pipe();
        drop(reader);
        for _ in 0..3 {
            let packets = [
                (&to_one, "a"),
                (&to_two, "bc"),
                (&closed, "x"),
                (&to_one, "def"),
            ];
            let packets = packets
                .iter()
                .map(|(file, text)| (file.as_fd(), text.as_bytes()));
            let mut results = Vec::new();
            batch
                .write(packets, |index, result| {
                    results.push((index, result.map_err(|e| e.kind())))
                })
                .expect("the kernel takes the queue");
            results.sort();
            let broken = Err(io::ErrorKind::BrokenPipe);
            assert_eq!(results, [(0, Ok(1)), (1, Ok(2)), (2, broken), (3, Ok(3))]);
        }
        let mut bytes = [0; 64];
        let got = one.read(&mut bytes).expect("written");
        assert_eq!(&bytes[..got], b"adefadefadef");
        let got = two.read(&mut bytes).expect("written");
        assert_eq!(&bytes[..got], b"bcbcbc");
    }

    #[test]
    fn a_full_descriptor_is_an_error_and_no_wait() {
        let Ok(mut batch) = WriteBatch::new() else {
            eprintln!("skipped: this kernel does not offer io_uring to this process");
            return;
        };
        let (_reader, writer) = pipe();
        let block = vec![7; 4096];
        let mut full = 0;
        for _ in 0..4 {
            let packets = (0..WriteBatch::CAPACITY).map(|_| (writer.as_fd(), &block[..]));
            let count = |_, result: io::Result<usize>| {
                full += usize::from(result.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock));
            };
            batch
                .write(packets, count)
                .expect("the kernel takes the queue");
        }
        // A pipe holds 16 pages (pipe(7)).
        assert_eq!(full, 4 * WriteBatch::CAPACITY - 16);
    }
}
