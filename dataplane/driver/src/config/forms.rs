//! Parse values of a settings file: addresses, sizes, durations.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use nm_engine::Prefix;

/// The parser of a text that is one of several names.
pub fn one_of<'a, T: Copy>(names: &'a [(&str, T)]) -> impl Fn(&str) -> Result<T, String> + 'a {
    move |text| match names.iter().find(|(name, _)| *name == text) {
        Some((_, value)) => Ok(*value),
        None => Err(alternatives(names.iter().map(|(name, _)| *name))),
    }
}

/// "`a`, `b` or `c`".
fn alternatives<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    let last = names.pop().unwrap_or_default();
    match names.is_empty() {
        true => last,
        false => format!("{} or {last}", names.join(", ")),
    }
}

/// The parser of a value that is absent when its text is one of `absent`; `expected` names the form.
pub fn unless<'a, T: FromStr>(
    absent: &'a [&str],
    expected: &'a str,
) -> impl Fn(&str) -> Result<Option<T>, String> + 'a {
    move |text| match absent.contains(&text) {
        true => Ok(None),
        false => text.parse().map(Some).map_err(|_| expected.to_owned()),
    }
}

pub fn parse_mask(text: &str) -> Result<Ipv4Addr, String> {
    let expected = "an IPv4 network mask".to_owned();
    let mask: Ipv4Addr = text.parse().map_err(|_| expected.clone())?;
    let bits = mask.to_bits();
    if bits.leading_ones() + bits.trailing_zeros().min(32) == 32 && bits != 0 {
        Ok(mask)
    } else {
        Err(expected)
    }
}

/// The lengths of an IPv6 prefix: at least 32 bits remain for the number of a node, so that any fits.
const PREFIXES6: RangeInclusive<u8> = 8..=96;

/// An IPv6 network, its first address and the length of its prefix; empty for none.
pub fn parse_network6(text: &str) -> Result<Option<(Ipv6Addr, u8)>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = || {
        let (address, length) = text.split_once('/')?;
        let (address, length): (Ipv6Addr, u8) = (address.parse().ok()?, length.parse().ok()?);
        let host = u128::MAX.checked_shr(u32::from(length))?;
        (PREFIXES6.contains(&length) && address.to_bits() & host == 0).then_some((address, length))
    };
    let expected = "an IPv6 network such as `fd12:3456:789a::/48`, with a prefix of 8 to 96 bits";
    parsed().map(Some).ok_or_else(|| expected.to_owned())
}

/// A network behind a node, as `192.168.50.0/24 via 3`.
pub fn parse_prefix(text: &str) -> Result<Prefix, String> {
    let expected = || "a network and its node, as `192.168.50.0/24 via 3`".to_owned();
    let (network, node) = text.split_once(" via ").ok_or_else(expected)?;
    let (network, length) = network.split_once('/').ok_or_else(expected)?;
    let network: Ipv4Addr = network.parse().map_err(|_| expected())?;
    let length: u8 = length.parse().map_err(|_| expected())?;
    let node: u32 = node.parse().map_err(|_| expected())?;
    let hosts = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
    if length > 32 || node == 0 || u32::from(network) & hosts != 0 {
        return Err(expected());
    }
    Ok(Prefix {
        network,
        length,
        node,
    })
}

/// Completes `host:port` to `ws://host:port/control`; a complete address, also of `wss`, is accepted.
pub fn parse_controller(text: &str) -> Result<String, String> {
    let expected = "`ws://HOST:PORT/control`, `wss://HOST:PORT/control` or `HOST:PORT`".to_owned();
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme @ ("ws" | "wss"), rest)) => (scheme, rest),
        Some(_) => return Err(expected),
        None => ("ws", text),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = authority.rsplit_once(':').ok_or_else(|| expected.clone())?;
    let good_port = port.parse::<u16>().is_ok_and(|port| port != 0);
    if host.is_empty() || !good_port || text.chars().any(char::is_whitespace) {
        return Err(expected);
    }
    Ok(format!(
        "{scheme}://{authority}/{}",
        if path.is_empty() { "control" } else { path }
    ))
}

/// Linux allows 15 bytes and neither `/` nor white space in an interface name.
pub fn parse_interface(text: &str) -> Result<String, String> {
    let good = (1..=15).contains(&text.len())
        && !matches!(text, "." | "..")
        && text
            .chars()
            .all(|c| c.is_ascii_graphic() && c != '/' && c != ':');
    if good {
        Ok(text.to_owned())
    } else {
        Err("an interface name of 1 to 15 characters".to_owned())
    }
}

/// Combines the public address with its port, which may be given in either key.
///
/// # Errors
///
/// The error message when they contradict each other or form no address.
pub fn public_address(address: &str, port: u16) -> Result<String, String> {
    if address.is_empty() {
        return Ok(String::new());
    }
    match (address.rsplit_once(':'), port) {
        (None, 0) => Err(format!(
            "`public_network_addr` is {address:?}, expected `HOST:PORT` or nothing"
        )),
        (None, port) => Ok(format!("{address}:{port}")),
        (Some((host, text)), port) => match text.parse::<u16>() {
            Ok(found) if !host.is_empty() && (port == 0 || port == found) => Ok(address.to_owned()),
            Ok(_) if !host.is_empty() => Err(format!(
                "`public_network_port` is {port}, but `public_network_addr` is {address:?}"
            )),
            _ => Err(format!(
                "`public_network_addr` is {address:?}, expected `HOST:PORT` or nothing"
            )),
        },
    }
}
