//! The IPv6 side of a network interface in the calling thread's namespace.
//!
//! The address is added over netlink (rtnetlink(7), RFC 3549), because the ioctl has no lifetimes.

use std::fs;
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd;

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    bind, recv, send, socket, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol,
    SockType,
};

use crate::error::{KernelError, Result};

/// Bytes of a netlink header and of the message about an address behind it.
const HEADER: usize = 16;
const ADDRESS_MESSAGE: usize = 8;
/// Attributes of an address and one of its flags (`linux/if_addr.h`), which libc lacks.
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
/// No duplicate address detection.
const IFA_F_NODAD: u32 = 2;
/// A lifetime without an end (RFC 4862, section 5.5.3).
const FOREVER: u32 = u32::MAX;

/// Sets whether the kernel uses IPv6 on an interface, before the interface is set up.
///
/// With it, the kernel neither makes addresses of its own there nor solicits routers, whose packets would wake every
/// node of an idle lab several times a minute. Errors are ignored: a kernel without IPv6 has no such files, and
/// `/proc/sys` of a container may be read-only, where its sysctls say the same for new interfaces.
pub(crate) fn prepare(name: &str, wanted: bool) {
    let set = |file: &str, value: &str| {
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/{file}"), value);
    };
    if !wanted {
        return set("disable_ipv6", "1");
    }
    // No link-local address, which would bring duplicate address detection and group reports with it.
    set("addr_gen_mode", "1");
    set("accept_ra", "0");
    set("router_solicitations", "0");
    // As for the TTL of IPv4: paths may be longer than the 64 nodes of the default.
    set("hop_limit", "255");
    set("disable_ipv6", "0");
}

/// Adds an address and the route to its network. False where this kernel or namespace has no IPv6.
///
/// The address never counts as preferred (RFC 4862, section 5.5.4), which changes nothing for a node whose only IPv6
/// address it is, except that programs which ask for a name get the IPv4 address first (RFC 6724, rule 3).
pub(crate) fn add_address(name: &str, address: Ipv6Addr, prefix: u8) -> Result<bool> {
    let failed = |error: io::Error| {
        KernelError::from_io(
            "set the IPv6 address of an interface",
            format!("{address}/{prefix} of {name}"),
            error,
        )
    };
    match exchange(name, address, prefix).map_err(failed)? {
        0 => Ok(true),
        // A persistent device of an earlier run still has its address.
        libc::EEXIST => Ok(true),
        libc::EACCES | libc::EAFNOSUPPORT | libc::EOPNOTSUPP | libc::ENODEV => Ok(false),
        errno => Err(failed(io::Error::from_raw_os_error(errno))),
    }
}

/// Sends the request and returns the errno of the answer.
fn exchange(name: &str, address: Ipv6Addr, prefix: u8) -> io::Result<i32> {
    let index = if_nametoindex(name)?;
    let link = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    bind(link.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    send(
        link.as_raw_fd(),
        &request(index, address, prefix),
        MsgFlags::empty(),
    )?;
    let mut answer = [0; 1024];
    let length = recv(link.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let code = answer[..length]
        .get(HEADER..)
        .and_then(|rest| rest.first_chunk())
        .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    Ok(-i32::from_ne_bytes(*code))
}

/// An `RTM_NEWADDR` message: a `nlmsghdr`, an `ifaddrmsg`, and three attributes.
fn request(index: u32, address: Ipv6Addr, prefix: u8) -> Vec<u8> {
    let flags =
        (libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
    let mut message = vec![0; HEADER + ADDRESS_MESSAGE];
    message[4..6].copy_from_slice(&libc::RTM_NEWADDR.to_ne_bytes());
    message[6..8].copy_from_slice(&flags.to_ne_bytes());
    message[HEADER] = libc::AF_INET6 as u8;
    message[HEADER + 1] = prefix;
    message[HEADER + 4..HEADER + 8].copy_from_slice(&index.to_ne_bytes());
    attribute(&mut message, IFA_LOCAL, &address.octets());
    attribute(&mut message, IFA_ADDRESS, &address.octets());
    attribute(&mut message, IFA_FLAGS, &IFA_F_NODAD.to_ne_bytes());
    // `ifa_cacheinfo`: preferred and valid lifetime, and two times that the kernel sets.
    let mut lifetimes = [0; 16];
    lifetimes[4..8].copy_from_slice(&FOREVER.to_ne_bytes());
    attribute(&mut message, IFA_CACHEINFO, &lifetimes);
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message
}

/// Appends an attribute whose value is a multiple of 4 bytes long, so that no padding follows.
fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(value);
}
