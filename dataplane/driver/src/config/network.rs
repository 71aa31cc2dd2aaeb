//! The addresses of a node on the emulated network and on the private one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::forms::unless;
use super::reader::Reader;
use super::NodeSettings;

/// The least MTU of an interface with IPv6 (RFC 8200, section 5); Linux has no IPv6 on smaller ones.
const MIN_MTU6: u16 = 1280;

impl NodeSettings {
    /// The node's IPv6 address on the emulated network and the length of its prefix; `None` where the network has no
    /// such addresses, or the MTU is too small for them.
    pub fn interface6(&self) -> Option<(Ipv6Addr, u8)> {
        let (base, length) = self.ipv6.filter(|_| self.mtu >= MIN_MTU6)?;
        Some((
            Ipv6Addr::from_bits(base.to_bits() | u128::from(self.node_id)),
            length,
        ))
    }
}

/// The address of the node on the private network; `None` inside means that it is determined automatically.
pub(super) fn read_private_address(root: &mut Reader<'_>) -> Option<Option<IpAddr>> {
    root.parsed(
        "private_network_addr",
        Some("auto"),
        unless(&["", "auto"], "`auto` or an address"),
    )
}

/// The node's address is the base plus its number; a file that contradicts it would make an unreachable node.
pub(super) fn own_address(
    root: &mut Reader<'_>,
    node_id: u32,
    base: Ipv4Addr,
    mask: Ipv4Addr,
    given: Option<Ipv4Addr>,
) -> Option<Ipv4Addr> {
    let host_bits = !mask.to_bits();
    let expected = base.to_bits().checked_add(node_id).map(Ipv4Addr::from_bits);
    match expected.filter(|address| address.to_bits() & !host_bits == base.to_bits() & !host_bits) {
        None => {
            root.refuse_value(
                "node_id",
                format!("`node_id` is {node_id}, which does not fit into {base} with mask {mask}"),
            );
            None
        }
        Some(expected) => {
            match given {
                Some(given) if given != expected => {
                    root.refuse_value(
                    "local_address",
                    format!("`local_address` is {given}, but node {node_id} of {base} has {expected}"),
                );
                    None
                }
                _ => Some(expected),
            }
        }
    }
}
