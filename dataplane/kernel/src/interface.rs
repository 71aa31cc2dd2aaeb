//! Addresses, state and routes of a network interface in the calling thread's namespace.
//!
//! It uses ioctls on a temporary socket (netdevice(7)): they exist in every kernel, need no parsing, and five of them
//! cost a few microseconds. What concerns IPv6 is in `interface6`.

use std::mem::size_of;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::ioctl::{ioctl, Opcode, Setter, Updater};
use rustix::net::{socket_with, AddressFamily, SocketFlags, SocketType};

use crate::error::{KernelError, Result};
use crate::interface6;

/// The configuration of a node's interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceSetup {
    /// The address of the interface.
    pub address: Ipv4Addr,
    /// Length of the network prefix in bits; the kernel adds the route to that network.
    pub prefix: u8,
    /// Its IPv6 address and the length of that network's prefix; `None` disables IPv6 on the interface.
    pub ipv6: Option<(Ipv6Addr, u8)>,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// Length of the transmit queue in packets; `None` keeps the kernel's 500.
    pub queue_packets: Option<u32>,
    /// Further networks that are routed through this interface (address, prefix length).
    pub routes: Vec<(Ipv4Addr, u8)>,
}

/// Applies a configuration and sets the interface up. A kernel without IPv6 leaves out the IPv6 address.
pub fn configure(name: &str, setup: &InterfaceSetup) -> Result<()> {
    let control = Control::open()?;
    interface6::prepare(name, setup.ipv6.is_some());
    control.set_mtu(name, setup.mtu)?;
    if let Some(packets) = setup.queue_packets {
        control.set_queue(name, packets)?;
    }
    control.set_address(name, setup.address, setup.prefix)?;
    control.up(name)?;
    if let Some((address, prefix)) = setup.ipv6 {
        interface6::add_address(name, address, prefix)?;
    }
    for &(network, prefix) in &setup.routes {
        control.add_route(name, network, prefix)?;
    }
    Ok(())
}

/// Sets an interface up without other changes.
pub fn bring_up(name: &str) -> Result<()> {
    Control::open()?.up(name)
}

/// Whether an interface of that name exists in this namespace.
pub fn exists(name: &str) -> Result<bool> {
    let control = Control::open()?;
    let mut request = Request::new(name)?;
    let found = control.call::<{ libc::SIOCGIFFLAGS as Opcode }>(&mut request);
    Ok(found.is_ok())
}

/// The socket for interface ioctls in this namespace.
struct Control(OwnedFd);

impl Control {
    fn open() -> Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)
            .map(Self)
            .map_err(|e| failed("open a control socket", "AF_INET", e))
    }

    fn call<const OPERATION: Opcode>(
        &self,
        request: &mut Request,
    ) -> std::result::Result<(), Errno> {
        // SAFETY: every operation used here takes exactly one `ifreq`, which is live and fully initialised.
        unsafe { ioctl(&self.0, Updater::<OPERATION, Request>::new(request)) }
    }

    fn set_mtu(&self, name: &str, mtu: u32) -> Result<()> {
        let mut request = Request::new(name)?;
        request.set(&mtu.to_ne_bytes());
        self.call::<{ libc::SIOCSIFMTU as Opcode }>(&mut request)
            .map_err(|e| failed("set the MTU of an interface", name, e))
    }

    fn set_queue(&self, name: &str, packets: u32) -> Result<()> {
        let mut request = Request::new(name)?;
        request.set(&packets.to_ne_bytes());
        self.call::<{ libc::SIOCSIFTXQLEN as Opcode }>(&mut request)
            .map_err(|e| failed("set the queue length", name, e))
    }

    fn set_address(&self, name: &str, address: Ipv4Addr, prefix: u8) -> Result<()> {
        let mut request = Request::new(name)?;
        request.set_address(address);
        self.call::<{ libc::SIOCSIFADDR as Opcode }>(&mut request)
            .map_err(|e| failed("set the address of an interface", name, e))?;
        request.set_address(netmask(prefix));
        self.call::<{ libc::SIOCSIFNETMASK as Opcode }>(&mut request)
            .map_err(|e| failed("set the netmask of an interface", name, e))
    }

    fn up(&self, name: &str) -> Result<()> {
        let what = "bring an interface up";
        let mut request = Request::new(name)?;
        self.call::<{ libc::SIOCGIFFLAGS as Opcode }>(&mut request)
            .map_err(|e| failed(what, name, e))?;
        let flags = request.flags() | (libc::IFF_UP | libc::IFF_RUNNING) as i16;
        request.set(&flags.to_ne_bytes());
        self.call::<{ libc::SIOCSIFFLAGS as Opcode }>(&mut request)
            .map_err(|e| failed(what, name, e))
    }

    fn add_route(&self, name: &str, network: Ipv4Addr, prefix: u8) -> Result<()> {
        let mut device = Request::new(name)?.name;
        // SAFETY: `rtentry` is plain data for which all zeroes is a valid empty value.
        let mut entry: libc::rtentry = unsafe { std::mem::zeroed() };
        entry.rt_dst = socket_address(network);
        entry.rt_genmask = socket_address(netmask(prefix));
        entry.rt_flags = libc::RTF_UP;
        entry.rt_dev = device.as_mut_ptr().cast();
        // SAFETY: the operation takes one `rtentry`; the device name it points to is live and terminated.
        let outcome = unsafe {
            ioctl(
                &self.0,
                Setter::<{ libc::SIOCADDRT as Opcode }, _>::new(entry),
            )
        };
        match outcome {
            // A persistent device of an earlier run still has its routes.
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => {
                let subject = format!("{network}/{prefix} through {name}");
                Err(failed("add a route", &subject, error))
            }
        }
    }
}

fn failed(what: &'static str, subject: &str, error: Errno) -> KernelError {
    KernelError::from_io(what, subject, error)
}

/// An `ifreq`: the name of an interface and a value whose type depends on the operation (netdevice(7)).
#[repr(C, align(8))]
#[derive(Debug)]
pub(crate) struct Request {
    name: [u8; libc::IFNAMSIZ],
    value: [u8; size_of::<libc::ifreq>() - libc::IFNAMSIZ],
}

const _: () = assert!(size_of::<Request>() == size_of::<libc::ifreq>());

impl Request {
    /// A request for the interface of that name, with a value of zeroes.
    pub(crate) fn new(name: &str) -> Result<Self> {
        check_name(name)?;
        let mut request = Self {
            name: [0; libc::IFNAMSIZ],
            value: [0; size_of::<libc::ifreq>() - libc::IFNAMSIZ],
        };
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        Ok(request)
    }

    /// Sets the first bytes of the value.
    pub(crate) fn set(&mut self, value: &[u8]) {
        self.value[..value.len()].copy_from_slice(value);
    }

    /// Sets the value to a `sockaddr_in`: the address family, two bytes of port, the address.
    fn set_address(&mut self, address: Ipv4Addr) {
        self.set(&(libc::AF_INET as libc::sa_family_t).to_ne_bytes());
        self.value[4..8].copy_from_slice(&address.octets());
    }

    /// The value as `ifr_flags`.
    fn flags(&self) -> i16 {
        i16::from_ne_bytes([self.value[0], self.value[1]])
    }

    /// The name of the interface, which the kernel may have chosen.
    pub(crate) fn name(&self) -> String {
        let bytes = self.name.iter().take_while(|&&byte| byte != 0);
        bytes.map(|&byte| char::from(byte)).collect()
    }
}

/// Refuses a name that the kernel would not accept.
fn check_name(name: &str) -> Result<()> {
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
    Ok(())
}

fn netmask(prefix: u8) -> Ipv4Addr {
    let bits = u32::MAX
        .checked_shl(32 - u32::from(prefix.min(32)))
        .unwrap_or(0);
    Ipv4Addr::from(bits)
}

/// A `sockaddr_in` as the generic `sockaddr` of a route.
fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut sa_data = [0; 14];
    for (slot, octet) in sa_data[2..6].iter_mut().zip(address.octets()) {
        *slot = octet as libc::c_char;
    }
    libc::sockaddr {
        sa_family: libc::AF_INET as libc::sa_family_t,
        sa_data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_interface_names_are_refused_without_a_system_call() {
        for name in ["", "sixteen-bytes-xx", "a/b", "a b", ".."] {
            assert_eq!(
                Request::new(name).err().map(|e| e.id()),
                Some("kernel.bad_name"),
                "{name:?}"
            );
        }
        assert_eq!(Request::new("utun7").expect("a good name").name(), "utun7");
    }

    #[test]
    fn prefix_lengths_are_converted_to_masks() {
        assert_eq!(netmask(16), Ipv4Addr::new(255, 255, 0, 0));
        assert_eq!(netmask(32), Ipv4Addr::new(255, 255, 255, 255));
        assert_eq!(netmask(0), Ipv4Addr::new(0, 0, 0, 0));
    }
}
