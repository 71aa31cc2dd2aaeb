//! Addresses, state and routes of a network interface in the calling thread's namespace.
//!
//! Plain ioctls on a throw-away socket: they exist since forever, need no parsing, and five of them cost a few
//! microseconds. IPv4 only, which is what the overlay speaks.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::error::{check, KernelError, Result};

/// Everything a node's interface needs before programs can use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceSetup {
    /// The address programs in the namespace will have.
    pub address: Ipv4Addr,
    /// Length of the network prefix; the route to that network comes with the address.
    pub prefix: u8,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// Packets the interface queues towards its reader; `None` keeps the kernel's 500.
    pub queue_packets: Option<u32>,
    /// Further networks that are reached through this interface (address, prefix length).
    pub routes: Vec<(Ipv4Addr, u8)>,
}

/// Applies a setup and brings the interface up.
pub fn configure(name: &str, setup: &InterfaceSetup) -> Result<()> {
    let control = Control::open()?;
    silence_ipv6(name);
    control.set_mtu(name, setup.mtu)?;
    if let Some(packets) = setup.queue_packets {
        control.set_queue(name, packets)?;
    }
    control.set_address(name, setup.address, setup.prefix)?;
    control.up(name)?;
    for &(network, prefix) in &setup.routes {
        control.add_route(name, network, prefix)?;
    }
    Ok(())
}

/// Brings an interface up without changing anything else.
pub fn bring_up(name: &str) -> Result<()> {
    Control::open()?.up(name)
}

/// Whether an interface of that name exists in this namespace.
pub fn exists(name: &str) -> Result<bool> {
    let control = Control::open()?;
    let mut request = request(name)?;
    Ok(control.call(libc::SIOCGIFFLAGS, &mut request).is_ok())
}

/// Keeps the kernel from sending router solicitations and group reports into the overlay.
///
/// They would wake every node of an idle lab several times a minute. Best effort: a kernel without IPv6 has no such
/// file, and a container's `/proc/sys` may be read-only; the packets are then merely dropped as not ours.
fn silence_ipv6(name: &str) {
    let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
}

/// The socket through which interfaces of this namespace are asked.
struct Control(OwnedFd);

impl Control {
    fn open() -> Result<Self> {
        // SAFETY: no pointers; a non-negative return is a descriptor nobody else owns.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        let fd = check(fd, "open a control socket", "AF_INET")?;
        // SAFETY: see above.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn call(&self, operation: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
        // SAFETY: every operation used here takes exactly one `ifreq`, which is live and fully initialised.
        let outcome = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                operation as _,
                request as *mut libc::ifreq,
            )
        };
        if outcome < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    fn set_mtu(&self, name: &str, mtu: u32) -> Result<()> {
        let mut request = request(name)?;
        request.ifr_ifru.ifru_mtu = mtu as libc::c_int;
        self.call(libc::SIOCSIFMTU, &mut request)
            .map_err(|e| failed("set the MTU of an interface", name, e))
    }

    fn set_queue(&self, name: &str, packets: u32) -> Result<()> {
        let mut request = request(name)?;
        // The kernel reads `ifr_qlen`, an int at the place where this union keeps its other ints.
        request.ifr_ifru.ifru_metric = packets as libc::c_int;
        self.call(libc::SIOCSIFTXQLEN, &mut request)
            .map_err(|e| failed("set the queue length", name, e))
    }

    fn set_address(&self, name: &str, address: Ipv4Addr, prefix: u8) -> Result<()> {
        let mut request = request(name)?;
        request.ifr_ifru.ifru_addr = socket_address(address);
        self.call(libc::SIOCSIFADDR, &mut request)
            .map_err(|e| failed("set the address of an interface", name, e))?;
        request.ifr_ifru.ifru_netmask = socket_address(netmask(prefix));
        self.call(libc::SIOCSIFNETMASK, &mut request)
            .map_err(|e| failed("set the netmask of an interface", name, e))
    }

    fn up(&self, name: &str) -> Result<()> {
        let what = "bring an interface up";
        let mut request = request(name)?;
        self.call(libc::SIOCGIFFLAGS, &mut request)
            .map_err(|e| failed(what, name, e))?;
        // SAFETY: the kernel has just filled the flags member.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        request.ifr_ifru.ifru_flags = flags | (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        self.call(libc::SIOCSIFFLAGS, &mut request)
            .map_err(|e| failed(what, name, e))
    }

    fn add_route(&self, name: &str, network: Ipv4Addr, prefix: u8) -> Result<()> {
        request(name)?;
        let subject = format!("{network}/{prefix} through {name}");
        let mut device: Vec<libc::c_char> = name.bytes().map(|b| b as libc::c_char).collect();
        device.push(0);
        // SAFETY: `rtentry` is plain data for which all zeroes is a valid "nothing given".
        let mut entry: libc::rtentry = unsafe { std::mem::zeroed() };
        entry.rt_dst = socket_address(network);
        entry.rt_genmask = socket_address(netmask(prefix));
        entry.rt_flags = libc::RTF_UP;
        entry.rt_dev = device.as_mut_ptr();
        // SAFETY: the entry and the device name it points to are live for the call.
        let outcome = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                libc::SIOCADDRT as _,
                &entry as *const libc::rtentry,
            )
        };
        if outcome < 0 {
            let error = io::Error::last_os_error();
            // A device that persisted from an earlier run still has its routes.
            if error.raw_os_error() != Some(libc::EEXIST) {
                return Err(failed("add a route", &subject, error));
            }
        }
        Ok(())
    }
}

fn failed(what: &'static str, subject: &str, error: io::Error) -> KernelError {
    KernelError::from_io(what, subject, error)
}

/// An `ifreq` for the interface of that name.
pub(crate) fn request(name: &str) -> Result<libc::ifreq> {
    let bad = |reason| KernelError::BadName {
        name: name.into(),
        reason,
    };
    if name.is_empty() {
        return Err(bad("it is empty"));
    }
    if name.len() >= libc::IFNAMSIZ {
        return Err(bad("it is longer than 15 bytes"));
    }
    if name == "."
        || name == ".."
        || name
            .bytes()
            .any(|b| b == b'/' || b == b':' || b <= b' ' || b == 0x7f)
    {
        return Err(bad(
            "it contains a slash, a colon, a blank or a control character",
        ));
    }
    // SAFETY: `ifreq` is plain data for which all zeroes is valid, and leaves the name terminated.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *slot = byte as libc::c_char;
    }
    Ok(request)
}

/// The name the kernel wrote back into a request.
pub(crate) fn request_name(request: &libc::ifreq) -> String {
    request
        .ifr_name
        .iter()
        .take_while(|&&c| c != 0)
        .map(|&c| c as u8 as char)
        .collect()
}

fn netmask(prefix: u8) -> Ipv4Addr {
    let bits = u32::MAX
        .checked_shl(32 - u32::from(prefix.min(32)))
        .unwrap_or(0);
    Ipv4Addr::from(bits)
}

/// A `sockaddr_in` in the clothes of the generic `sockaddr` that the ioctls take.
fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    // SAFETY: all zeroes is a valid sockaddr.
    let mut generic: libc::sockaddr = unsafe { std::mem::zeroed() };
    generic.sa_family = libc::AF_INET as libc::sa_family_t;
    // sockaddr_in: two bytes of port, then the address in network order.
    for (slot, octet) in generic.sa_data[2..6].iter_mut().zip(address.octets()) {
        *slot = octet as libc::c_char;
    }
    generic
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_kernel_cannot_carry_are_refused_before_asking() {
        for name in ["", "sixteen-bytes-xx", "a/b", "a b", ".."] {
            assert_eq!(
                request(name).err().map(|e| e.id()),
                Some("kernel.bad_name"),
                "{name:?}"
            );
        }
        assert_eq!(
            request_name(&request("utun7").expect("a good name")),
            "utun7"
        );
    }

    #[test]
    fn prefixes_become_masks() {
        assert_eq!(netmask(16), Ipv4Addr::new(255, 255, 0, 0));
        assert_eq!(netmask(32), Ipv4Addr::new(255, 255, 255, 255));
        assert_eq!(netmask(0), Ipv4Addr::new(0, 0, 0, 0));
    }
}
