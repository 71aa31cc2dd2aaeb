//! TUN devices that read and write super-packets without segmentation.
//!
//! Each packet read or written has a 10-byte virtio header ([`VNET_HEADER_LEN`], little endian), which states how to
//! segment the packet and whether its checksum is still to be completed. With offload, the kernel returns up to 64 KB
//! of one TCP (or UDP) stream per read, which is ten times as fast.
//!
//! Without offload the header is present and zero, so both modes differ only in [`TunDevice::set_offload`].

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::ioctl::{ioctl, opcode, IntegerSetter, Opcode, Setter, Updater};

use crate::error::{KernelError, Result};
use crate::interface::Request;

/// Length of the virtio header in front of every packet, in bytes (virtio 1.2, section 5.1.6).
pub const VNET_HEADER_LEN: usize = 10;

/// The usual path of the device node.
pub const DEFAULT_DEVICE: &str = "/dev/net/tun";

// From linux/if_tun.h; the ioctl numbers are _IOW('T', n, int) and _IOW('T', n, unsigned int).
const TUNSETIFF: Opcode = opcode::write::<libc::c_int>(b'T', 202);
const TUNSETPERSIST: Opcode = opcode::write::<libc::c_int>(b'T', 203);
const TUNSETOFFLOAD: Opcode = opcode::write::<libc::c_uint>(b'T', 208);
const TUNSETVNETHDRSZ: Opcode = opcode::write::<libc::c_int>(b'T', 216);
const TUNSETVNETLE: Opcode = opcode::write::<libc::c_int>(b'T', 220);

const TUN_F_CSUM: libc::c_uint = 0x01;
const TUN_F_TSO4: libc::c_uint = 0x02;
const TUN_F_TSO6: libc::c_uint = 0x04;
const TUN_F_TSO_ECN: libc::c_uint = 0x08;
const TUN_F_USO4: libc::c_uint = 0x20;
const TUN_F_USO6: libc::c_uint = 0x40;

/// Work that the kernel leaves to the reader of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// TCP packets are super-packets with partial checksums.
    pub tcp: bool,
    /// UDP packets are super-packets where the sender requested segmentation (Linux 6.2).
    pub udp: bool,
}

impl Offload {
    /// No offload: packets with complete checksums of at most the MTU.
    pub const OFF: Self = Self {
        tcp: false,
        udp: false,
    };
    /// All offloads.
    pub const ALL: Self = Self {
        tcp: true,
        udp: true,
    };

    fn bits(self) -> libc::c_uint {
        let mut bits = 0;
        if self.tcp {
            bits |= TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
        }
        if self.udp {
            bits |= TUN_F_CSUM | TUN_F_USO4 | TUN_F_USO6;
        }
        bits
    }
}

/// An open queue of a TUN device, non-blocking.
///
/// The kernel removes the device with its last queue unless it is [persistent](Self::set_persistent).
pub struct TunDevice {
    file: File,
    name: String,
}

impl TunDevice {
    /// Opens the device `name` in the calling thread's namespace, and creates it if it does not exist.
    ///
    /// For a name with `%d` the kernel chooses the number. `multi_queue` devices may be opened several times, cost
    /// 3.9 MB of kernel memory each, and must be opened with this flag every time.
    pub fn open(device: &Path, name: &str, multi_queue: bool) -> Result<Self> {
        let mut request = Request::new(name)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(device)
            .map_err(|e| classify_open_error(device, e))?;
        let mut flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        if multi_queue {
            flags |= libc::IFF_MULTI_QUEUE;
        }
        request.set(&(flags as libc::c_short).to_ne_bytes());
        // SAFETY: the operation takes one `ifreq`, and the kernel writes the chosen name back into it.
        unsafe { ioctl(&file, Updater::<TUNSETIFF, Request>::new(&mut request)) }
            .map_err(|e| KernelError::from_io("create a TUN device", name, e))?;
        let tun = Self {
            file,
            name: request.name(),
        };
        tun.set_int::<TUNSETVNETHDRSZ>(
            VNET_HEADER_LEN as libc::c_int,
            "set the size of the virtio header",
        )?;
        tun.set_int::<TUNSETVNETLE>(1, "set the byte order of the virtio header")?;
        Ok(tun)
    }

    /// The name of the interface.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets the offloads that the reader of this device supports; returns those that are enabled.
    ///
    /// Segmented UDP exists since Linux 6.2. On an older kernel it stays disabled.
    pub fn set_offload(&self, wanted: Offload) -> Result<Offload> {
        match self.set_offload_bits(wanted) {
            Ok(()) => Ok(wanted),
            Err(_) if wanted.udp => {
                let reduced = Offload {
                    udp: false,
                    ..wanted
                };
                self.set_offload_bits(reduced).map(|()| reduced)
            }
            Err(error) => Err(error),
        }
    }

    fn set_offload_bits(&self, wanted: Offload) -> Result<()> {
        let what = "set the offloads of a TUN device";
        self.set_by_value::<TUNSETOFFLOAD>(wanted.bits() as usize, what)
    }

    /// Sets whether the device exists after its descriptors are closed.
    ///
    /// If it is set before closing, the kernel removes the device with its namespace, in the background; removal on
    /// close takes 33 ms per device.
    pub fn set_persistent(&self, persistent: bool) -> Result<()> {
        let what = "change whether a TUN device persists";
        self.set_by_value::<TUNSETPERSIST>(usize::from(persistent), what)
    }

    fn set_by_value<const OPERATION: Opcode>(
        &self,
        value: usize,
        what: &'static str,
    ) -> Result<()> {
        // SAFETY: the operations that use this function take a small integer by value.
        unsafe { ioctl(&self.file, IntegerSetter::<OPERATION>::new_usize(value)) }
            .map_err(|e| KernelError::from_io(what, &self.name, e))
    }

    fn set_int<const OPERATION: Opcode>(
        &self,
        value: libc::c_int,
        what: &'static str,
    ) -> Result<()> {
        // SAFETY: the operations that use this function read one int through the pointer.
        unsafe { ioctl(&self.file, Setter::<OPERATION, libc::c_int>::new(value)) }
            .map_err(|e| KernelError::from_io(what, &self.name, e))
    }

    /// Reads one packet with its virtio header. Returns the length of both in bytes.
    ///
    /// The kernel truncates a packet that is longer than the buffer; 64 KB and the header hold any packet.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.file, buffer)?)
    }

    /// Writes one packet with its virtio header. Returns the number of bytes written.
    pub fn write(&self, packet: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(&self.file, packet)?)
    }

    /// Writes one packet from several pieces, the first of which starts with the virtio header.
    pub fn write_pieces(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::writev(&self.file, pieces)?)
    }
}

impl AsFd for TunDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn classify_open_error(device: &Path, error: io::Error) -> KernelError {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO | libc::ENOTDIR) => {
            KernelError::NoTunDevice {
                path: device.into(),
                source: error,
            }
        }
        _ => KernelError::from_io("open the TUN device", device.display().to_string(), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_about_a_missing_device_node_contains_its_path() {
        let error = TunDevice::open(Path::new("/dev/net/no-such-tun"), "nm0", false)
            .err()
            .expect("the device is missing");
        assert_eq!(error.id(), "kernel.tun_missing");
        assert!(
            error.to_string().contains("/dev/net/no-such-tun"),
            "{error}"
        );
    }
}
