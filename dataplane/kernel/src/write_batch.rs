//! Write several packets with one system call, through io_uring (io_uring(7)).
//!
//! A packet written to a TUN device wakes its receiver, and the kernel may run the receiver before the write returns.
//! Packets written with one call make that one switch of tasks instead of one per packet.
//!
//! io_uring may be missing or forbidden: kernels can disable it (`kernel.io_uring_disabled`), and the seccomp profile
//! of Docker refuses it since version 25. [`WriteBatch::new`] then returns the reason.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::squeue::Entry;
use io_uring::{opcode, types, IoUring};

/// A queue of writes, carried out together.
pub struct WriteBatch {
    /// `None` after a failure, because the queue may then contain entries that refer to packets of the past.
    ring: Option<IoUring>,
    entries: Vec<Entry>,
    results: Vec<Option<i32>>,
}

impl WriteBatch {
    /// The largest number of writes of one call.
    pub const CAPACITY: usize = 64;

    /// An empty queue.
    ///
    /// # Errors
    ///
    /// io_uring is missing (`ENOSYS`), forbidden (`EPERM`), or out of memory or descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            ring: Some(IoUring::new(Self::CAPACITY as u32)?),
            entries: Vec::with_capacity(Self::CAPACITY),
            results: Vec::with_capacity(Self::CAPACITY),
        })
    }

    /// Writes the packets in order, without waiting for any device; [`result`](Self::result) then has the outcome of
    /// each. At most [`CAPACITY`](Self::CAPACITY) packets are taken.
    ///
    /// # Errors
    ///
    /// The kernel does not take the queue, now or in an earlier call. Packets without a result may or may not be
    /// written.
    pub fn write<'a>(
        &mut self,
        packets: impl Iterator<Item = (BorrowedFd<'a>, &'a [u8])>,
    ) -> io::Result<()> {
        self.results.clear();
        self.entries.clear();
        for (fd, bytes) in packets.take(Self::CAPACITY) {
            let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
            let write = opcode::Write::new(types::Fd(fd.as_raw_fd()), bytes.as_ptr(), length)
                // The kernel completes the write before the call returns, or not at all.
                .rw_flags(libc::RWF_NOWAIT);
            self.entries
                .push(write.build().user_data(self.entries.len() as u64));
        }
        self.results.resize(self.entries.len(), None);
        // Put back only when nothing is left in it.
        let mut ring = self.ring.take().ok_or(io::ErrorKind::BrokenPipe)?;
        // SAFETY: descriptors and bytes are valid until this function returns. It returns `Ok` only when each write has
        // completed. When it fails, entries that the kernel has taken have completed, because they do not wait
        // (RWF_NOWAIT), and entries that it has not taken are discarded with the queue. No code of the caller runs
        // until then.
        unsafe { ring.submission().push_multiple(&self.entries) }
            .map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut left = self.entries.len();
        while left > 0 {
            match ring.submit_and_wait(left) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for entry in ring.completion() {
                left -= 1;
                if let Some(result) = self.results.get_mut(entry.user_data() as usize) {
                    *result = Some(entry.result());
                }
            }
        }
        self.ring = Some(ring);
        Ok(())
    }

    /// The outcome of a packet of the last call: the bytes written or the error; `None` when the kernel did not take
    /// it.
    pub fn result(&self, index: usize) -> Option<io::Result<usize>> {
        let result = (*self.results.get(index)?)?;
        Some(usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result)))
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

    /// A queue; `None` where this process may not have one.
    fn batch() -> Option<WriteBatch> {
        match WriteBatch::new() {
            Ok(batch) => Some(batch),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) => {
                eprintln!("skipped: io_uring: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn packets_are_written_in_order_and_each_has_its_result() {
        let Some(mut batch) = batch() else { return };
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
            batch
                .write(
                    packets
                        .iter()
                        .map(|(file, text)| (file.as_fd(), text.as_bytes())),
                )
                .expect("the kernel takes the queue");
            let results =
                [0, 1, 2, 3, 4].map(|index| batch.result(index).map(|r| r.map_err(|e| e.kind())));
            let broken = Err(io::ErrorKind::BrokenPipe);
            assert_eq!(
                results,
                [Some(Ok(1)), Some(Ok(2)), Some(broken), Some(Ok(3)), None]
            );
        }
        let mut bytes = [0; 64];
        let got = one.read(&mut bytes).expect("written");
        assert_eq!(&bytes[..got], b"adefadefadef");
        let got = two.read(&mut bytes).expect("written");
        assert_eq!(&bytes[..got], b"bcbcbc");
    }

    #[test]
    fn a_full_descriptor_is_an_error_and_no_wait() {
        let Some(mut batch) = batch() else { return };
        let (_reader, writer) = pipe();
        let block = vec![7; 4096];
        let mut full = 0;
        for _ in 0..4 {
            let packets = (0..WriteBatch::CAPACITY).map(|_| (writer.as_fd(), &block[..]));
            batch.write(packets).expect("the kernel takes the queue");
            full += (0..WriteBatch::CAPACITY)
                .filter_map(|index| batch.result(index)?.err())
                .filter(|error| error.kind() == io::ErrorKind::WouldBlock)
                .count();
        }
        // A pipe holds 16 pages (pipe(7)).
        assert_eq!(full, 4 * WriteBatch::CAPACITY - 16);
    }

    #[test]
    fn a_caller_that_panics_leaves_nothing_in_the_queue() {
        let Some(mut batch) = batch() else { return };
        let (mut reader, writer) = pipe();
        let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let first = std::iter::once((writer.as_fd(), &b"old"[..]));
            batch.write(first.chain(std::iter::from_fn(|| panic!("on purpose"))))
        }));
        assert!(panics.is_err());
        let next = std::iter::once((writer.as_fd(), &b"new"[..]));
        batch.write(next).expect("the kernel takes the queue");
        let mut bytes = [0; 64];
        let got = reader.read(&mut bytes).expect("written");
        assert_eq!(&bytes[..got], b"new");
    }
}
