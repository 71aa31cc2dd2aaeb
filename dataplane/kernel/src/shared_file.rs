//! Bytes in sealed memory files (memfd), which one process writes and another maps without trusting it.
//!
//! The seals forbid every later change of content and size, also to the process that wrote the file. So a mapping of
//! such a file is as good as memory of one's own: it cannot change while it is read, and reading it cannot fail.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use memmap2::{Mmap, MmapOptions};
use rustix::fs::{fcntl_add_seals, fcntl_get_seals, fstat, memfd_create, MemfdFlags, SealFlags};
use rustix::io::Errno;

use crate::error::{KernelError, Result};

const SUBJECT: &str = "memory file";

/// Bytes written per call: large enough to amortise it.
const PIECE: usize = 8 << 20;

/// Bytes of a block in the kernel's count of allocated memory (stat(2)).
const BLOCK: u64 = 512;

/// Everything that makes content and size final.
const FINAL: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::WRITE);

/// Copies bytes to a new sealed file.
///
/// They are written by `write`, not through a mapping: the kernel then needs neither a page fault for each page nor to
/// zero it first.
pub fn copy(bytes: &[u8]) -> Result<OwnedFd> {
    let failed = |what| move |e: Errno| KernelError::from_io(what, SUBJECT, e);
    let file = memfd_create(
        c"nm-transfer",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )
    .map_err(failed("create a memory file"))?;
    let mut left = bytes;
    while !left.is_empty() {
        match rustix::io::write(&file, &left[..left.len().min(PIECE)]) {
            Ok(written) => left = &left[written..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(failed("write a memory file")(error)),
        }
    }
    fcntl_add_seals(&file, FINAL | SealFlags::SEAL).map_err(failed("seal a memory file"))?;
    Ok(file)
}

/// The mapped bytes of a sealed file.
#[derive(Debug)]
pub struct Mapping(Option<Mmap>);

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// Maps a file that another process has written, if it is sealed and all its memory is allocated; refuses any other
/// descriptor.
pub fn map(file: BorrowedFd<'_>) -> Result<Mapping> {
    // Any file but a memfd returns an error here.
    let seals = fcntl_get_seals(file)
        .map_err(|e| KernelError::from_io("read the seals of a memory file", SUBJECT, e))?;
    let found = fstat(file.as_fd())
        .map_err(|e| KernelError::from_io("read the size of a memory file", SUBJECT, e))?;
    let refused = || {
        let found = std::io::ErrorKind::InvalidData;
        KernelError::from_io("use a memory file that is not sealed", SUBJECT, found)
    };
    let size = u64::try_from(found.st_size).map_err(|_| refused())?;
    // Holes would be filled with this process's memory when they are read.
    let allocated = u64::try_from(found.st_blocks).map_err(|_| refused())? * BLOCK;
    if !seals.contains(FINAL) || allocated < size {
        return Err(refused());
    }
    if size == 0 {
        return Ok(Mapping(None));
    }
    let mut options = MmapOptions::new();
    options
        .len(usize::try_from(size).map_err(|_| refused())?)
        .populate();
    // SAFETY: the seals forbid every change of the content and of the size, so the bytes stay valid and the same for
    // as long as they are mapped. The mapping is private, although nobody writes to it: kernels before 6.7 count a
    // shared one of a file that was opened for writing as a writer, which the seal excludes.
    unsafe { options.map_copy_read_only(&file) }
        .map(|mapping| Mapping(Some(mapping)))
        .map_err(|e| KernelError::from_io("map a memory file", SUBJECT, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::ftruncate;

    #[test]
    fn a_copy_is_mapped_and_nobody_can_change_it() {
        let bytes: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        let file = copy(&bytes).expect("copied");
        let mapping = map(file.as_fd()).expect("mapped");
        assert_eq!(mapping.as_ref(), bytes);
        assert_eq!(ftruncate(&file, 0), Err(Errno::PERM));
        assert_eq!(rustix::io::write(&file, b"x"), Err(Errno::PERM));
        drop(file);
        assert_eq!(mapping.as_ref(), bytes, "the mapping needs no descriptor");
        let empty = copy(b"").expect("copied");
        assert_eq!(map(empty.as_fd()).expect("mapped").as_ref(), b"");
    }

    #[test]
    fn files_that_may_change_or_have_holes_are_refused() {
        let plain = std::fs::File::open("/proc/self/exe").expect("a file");
        assert!(map(plain.as_fd()).is_err());
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let open = memfd_create(c"open", flags).expect("a file");
        assert_eq!(rustix::io::write(&open, b"abc"), Ok(3));
        assert!(map(open.as_fd()).is_err(), "not sealed");
        let hollow = memfd_create(c"hollow", flags).expect("a file");
        ftruncate(&hollow, 1 << 30).expect("a size");
        fcntl_add_seals(&hollow, FINAL).expect("sealed");
        assert!(map(hollow.as_fd()).is_err(), "not allocated");
    }
}
