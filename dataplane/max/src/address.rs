//! Destinations, as SOCKS5 writes them (RFC 1928, section 5): a type, an address, a port in network byte order.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest name, in bytes (RFC 1035, section 2.3.4, without the final dot).
pub const MAX_NAME: usize = 253;

pub(crate) const TYPE_V4: u8 = 1;
pub(crate) const TYPE_NAME: u8 = 3;
pub(crate) const TYPE_V6: u8 = 4;

/// The host of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A name: letters, digits, `-`, `_` and dots, at most [`MAX_NAME`] bytes.
    Name(String),
}

/// The host and the port that a flow goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The host.
    pub host: Host,
    /// The port, which is not 0.
    pub port: u16,
}

impl Destination {
    /// The destination of an address.
    #[must_use]
    pub fn address(address: SocketAddr) -> Self {
        Self {
            host: Host::Address(address.ip()),
            port: address.port(),
        }
    }

    /// Appends type, address and port.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match &self.host {
            Host::Address(address) => encode_address(*address, out),
            Host::Name(name) => {
                // Its length was checked where it was read.
                let name = &name.as_bytes()[..name.len().min(MAX_NAME)];
                out.extend_from_slice(&[TYPE_NAME, name.len() as u8]);
                out.extend_from_slice(name);
            }
        }
        out.extend_from_slice(&self.port.to_be_bytes());
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(address) => SocketAddr::new(*address, self.port).fmt(out),
            Host::Name(name) => write!(out, "{name}:{}", self.port),
        }
    }
}

/// Appends the type and the bytes of an address.
pub(crate) fn encode_address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            out.push(TYPE_V4);
            out.extend_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            out.push(TYPE_V6);
            out.extend_from_slice(&address.octets());
        }
    }
}

/// A host from the bytes behind its type, without the length of a name; `None` for an unknown type, another number of
/// bytes, or a name that no host can have.
pub(crate) fn decode_host(kind: u8, bytes: &[u8]) -> Option<Host> {
    match kind {
        TYPE_V4 => {
            let octets: [u8; 4] = bytes.try_into().ok()?;
            Some(Host::Address(Ipv4Addr::from(octets).into()))
        }
        TYPE_V6 => {
            let octets: [u8; 16] = bytes.try_into().ok()?;
            Some(Host::Address(Ipv6Addr::from(octets).into()))
        }
        TYPE_NAME => name(bytes),
        _ => None,
    }
}

/// A name; one that is an address in text (as some clients send it) becomes that address.
fn name(bytes: &[u8]) -> Option<Host> {
    let text = std::str::from_utf8(bytes).ok()?;
    if let Ok(address) = text.parse() {
        return Some(Host::Address(address));
    }
    let text = text.strip_suffix('.').unwrap_or(text);
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let valid = (1..=MAX_NAME).contains(&text.len())
        && text.bytes().all(fits)
        && text.split('.').all(|label| (1..=63).contains(&label.len()));
    valid.then(|| Host::Name(text.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_addresses_in_text_are_addresses() {
        let of = |text: &str| decode_host(TYPE_NAME, text.as_bytes());
        assert_eq!(of("Node-3."), Some(Host::Name("node-3".into())));
        assert_eq!(
            of("10.0.0.3"),
            Some(Host::Address(Ipv4Addr::new(10, 0, 0, 3).into()))
        );
        assert_eq!(of("::1"), Some(Host::Address(Ipv6Addr::LOCALHOST.into())));
        for bad in [
            "",
            ".",
            "a..b",
            "a b",
            "a\0",
            "a/b",
            "ä",
            &"x".repeat(64),
            &"x.".repeat(128),
        ] {
            assert_eq!(of(bad), None, "{bad:?}");
        }
        assert_eq!(decode_host(TYPE_V4, &[1, 2, 3]), None);
        assert_eq!(decode_host(2, &[1, 2, 3, 4]), None);
    }
}
