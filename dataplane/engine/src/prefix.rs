//! Networks behind nodes: the node that packets to an address outside of the overlay are forwarded to.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::NodeId;

/// A network behind a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// The first address of the network.
    pub network: Ipv4Addr,
    /// Length of the prefix in bits, at most 32.
    pub length: u8,
    /// The node that forwards packets to the network.
    pub node: NodeId,
}

impl Prefix {
    /// The first and the last address.
    fn range(&self) -> (u32, u32) {
        let hosts = u32::MAX.checked_shr(u32::from(self.length)).unwrap_or(0);
        let first = u32::from(self.network) & !hosts;
        (first, first | hosts)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.network, self.length)
    }
}

/// The networks behind all nodes of a lab, for lookups by address.
///
/// They do not overlap, so at most one contains an address, which is the longest match; a binary search finds it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Prefixes {
    /// Ordered by their first address; `None` where there are none, so that labs without networks behind nodes do
    /// not follow the pointer.
    table: Option<Arc<[Range<u32>]>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range<A> {
    first: A,
    last: A,
    node: NodeId,
}

impl Prefixes {
    /// The table of these networks.
    ///
    /// # Errors
    ///
    /// Two of them overlap.
    pub fn new(prefixes: &[Prefix]) -> Result<Self, String> {
        let mut ordered = prefixes.to_vec();
        ordered.sort_by_key(Prefix::range);
        for pair in ordered.windows(2) {
            if pair[1].range().0 <= pair[0].range().1 {
                let (one, other) = (pair[0], pair[1]);
                return Err(format!(
                    "{one} behind node {} overlaps {other} behind node {}",
                    one.node, other.node
                ));
            }
        }
        let ranges: Arc<[_]> = ordered
            .iter()
            .map(|prefix| {
                let (first, last) = prefix.range();
                Range { first, last, node: prefix.node }
            })
            .collect();
        Ok(Self { table: Some(ranges).filter(|ranges| !ranges.is_empty()) })
    }

    /// The node in front of the network that contains an address.
    #[inline]
    pub(crate) fn node_before(&self, addr: u32) -> Option<NodeId> {
        find(self.table.as_deref()?, addr)
    }
}

fn find<A: Ord + Copy>(ranges: &[Range<A>], addr: A) -> Option<NodeId> {
    let after = ranges.partition_point(|range| range.first <= addr);
    let candidate = ranges.get(after.checked_sub(1)?)?;
    (addr <= candidate.last).then_some(candidate.node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str, node: NodeId) -> Prefix {
        let (network, length) = text.split_once('/').expect("a prefix");
        Prefix {
            network: network.parse().expect("an address"),
            length: length.parse().expect("a length"),
            node,
        }
    }

    fn at(table: &Prefixes, addr: [u8; 4]) -> Option<NodeId> {
        table.node_before(u32::from_be_bytes(addr))
    }

    #[test]
    fn an_address_is_behind_the_node_whose_network_contains_it() {
        let table = Prefixes::new(&[
            prefix("192.168.50.0/24", 3),
            prefix("172.20.0.0/16", 2),
            prefix("192.168.51.7/32", 4),
            prefix("192.168.51.0/30", 5),
        ])
        .expect("disjoint");
        for (addr, node) in [
            ([192, 168, 50, 0], Some(3)),
            ([192, 168, 50, 255], Some(3)),
            ([192, 168, 49, 255], None),
            ([192, 168, 51, 3], Some(5)),
            ([192, 168, 51, 4], None),
            ([192, 168, 51, 7], Some(4)),
            ([192, 168, 51, 8], None),
            ([172, 20, 9, 9], Some(2)),
            ([0, 0, 0, 0], None),
            ([255, 255, 255, 255], None),
        ] {
            assert_eq!(at(&table, addr), node, "{addr:?}");
        }
    }

    #[test]
    fn a_network_of_all_addresses_contains_the_first_and_the_last() {
        let table = Prefixes::new(&[prefix("0.0.0.0/0", 1)]).expect("alone");
        assert_eq!(at(&table, [0, 0, 0, 0]), Some(1));
        assert_eq!(at(&table, [255, 255, 255, 255]), Some(1));
        assert_eq!(at(&Prefixes::new(&[]).expect("empty"), [10, 0, 0, 1]), None);
    }

    #[test]
    fn networks_that_overlap_are_refused_by_name() {
        let refused = Prefixes::new(&[prefix("10.9.1.0/24", 4), prefix("10.9.0.0/16", 3)]);
        assert_eq!(
            refused.expect_err("overlapping"),
            "10.9.0.0/16 behind node 3 overlaps 10.9.1.0/24 behind node 4"
        );
        assert!(Prefixes::new(&[prefix("10.9.1.0/24", 4), prefix("10.9.1.0/24", 4)]).is_err());
    }
}
