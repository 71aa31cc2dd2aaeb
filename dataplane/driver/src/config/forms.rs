//! Parse values of a settings file: addresses, names, words.

use std::net::{IpAddr, Ipv4Addr};

use super::{LinkProtocol, OffloadMode, TtlSetting};

pub fn only(text: &str, supported: &str) -> Result<String, String> {
    if text == supported {
        Ok(text.to_owned())
    } else {
        Err(format!("`{supported}`, the only one supported"))
    }
}

pub fn parse_offload(text: &str) -> Result<OffloadMode, String> {
    match text {
        "auto" => Ok(OffloadMode::Auto),
        "off" => Ok(OffloadMode::Off),
        _ => Err("`auto` or `off`".to_owned()),
    }
}

pub fn parse_protocol(text: &str) -> Result<LinkProtocol, String> {
    match text {
        "auto" => Ok(LinkProtocol::Auto),
        "unix" => Ok(LinkProtocol::Unix),
        "tcp" => Ok(LinkProtocol::Tcp),
        _ => Err("`auto`, `unix` or `tcp`".to_owned()),
    }
}

pub fn parse_ttl(text: &str) -> Result<TtlSetting, String> {
    match text {
        "uniform" => Ok(TtlSetting::Uniform),
        "pipe" => Ok(TtlSetting::Pipe),
        _ => Err("`uniform` or `pipe`".to_owned()),
    }
}

/// The node's address on its private network; `None` determines it automatically.
pub fn parse_own_address(text: &str) -> Result<Option<IpAddr>, String> {
    match text {
        "" | "auto" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|_| "`auto` or an address".to_owned()),
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

/// Completes `host:port` to `ws://host:port/control`; a complete address is also accepted.
pub fn parse_controller(text: &str) -> Result<String, String> {
    let expected = "`ws://HOST:PORT/control` or `HOST:PORT`".to_owned();
    let rest = match text.split_once("://") {
        Some(("ws", rest)) => rest,
        Some(_) => return Err(expected),
        None => text,
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = authority.rsplit_once(':').ok_or_else(|| expected.clone())?;
    let good_port = port.parse::<u16>().is_ok_and(|port| port != 0);
    if host.is_empty() || !good_port || text.chars().any(char::is_whitespace) {
        return Err(expected);
    }
    Ok(format!(
        "ws://{authority}/{}",
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
