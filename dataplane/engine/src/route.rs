//! Unicast forwarding table: one next hop per destination, and explicit routes for pairs of nodes.

use std::collections::BTreeMap;

use crate::link::{Links, NO_LINK};
use crate::{LinkId, NodeId, PairRoute};

/// The number that stands for all addresses outside of the lab in the forwarding table.
pub(crate) const OUTSIDE: NodeId = 0;

/// The unicast routes of this node.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// Link per destination id; [`NO_LINK`] where there is none. The first entry leads to the nearest uplink.
    table: Vec<LinkId>,
    pairs: BTreeMap<(NodeId, NodeId), Pair>,
}

/// The explicit routes of a pair. `routes[i]` are the outgoing links of route `i`, empty if it does not contain this
/// node.
#[derive(Debug, Default)]
struct Pair {
    routes: Vec<Vec<LinkId>>,
}

impl Routes {
    pub(crate) fn install(
        &mut self,
        table: Option<Vec<NodeId>>,
        routes: Vec<PairRoute>,
        removed: &[(NodeId, NodeId)],
        links: &mut Links,
    ) {
        if let Some(table) = table {
            self.table =
                table.iter().map(|&node| if node == 0 { NO_LINK } else { links.slot_for(node) }).collect();
        }
        for pair in removed {
            self.pairs.remove(pair);
        }
        for route in routes {
            let pair = self.pairs.entry((route.src, route.dst)).or_default();
            pair.routes.resize_with(pair.routes.len().max(route.of.max(route.index + 1) as usize), Vec::new);
            pair.routes[route.index as usize] =
                route.next_hops.iter().map(|&node| links.slot_for(node)).collect();
        }
    }

    /// Whether any pair has explicit routes here.
    pub(crate) fn has_explicit(&self) -> bool {
        !self.pairs.is_empty()
    }

    /// The outgoing links of a packet of a pair with explicit routes; `None` when the table applies.
    ///
    /// `flow` is only called when the pair has several routes.
    #[inline]
    pub(crate) fn explicit(&self, src: NodeId, dst: NodeId, flow: impl FnOnce() -> u64) -> Option<&[LinkId]> {
        let routes = &self.pairs.get(&(src, dst))?.routes;
        let chosen = match routes.len() {
            1 => 0,
            len => (flow() % len as u64) as usize,
        };
        Some(&routes[chosen]).filter(|links| !links.is_empty()).map(Vec::as_slice)
    }

    /// Whether packets from this node to another one have a route.
    pub(crate) fn reaches(&self, src: NodeId, dst: NodeId) -> bool {
        let explicit =
            self.pairs.get(&(src, dst)).is_some_and(|pair| pair.routes.iter().any(|links| !links.is_empty()));
        explicit || self.towards(dst) != NO_LINK
    }

    /// Whether the table has an entry for a node, with or without a link.
    pub(crate) fn knows(&self, dst: NodeId) -> bool {
        (dst as usize) < self.table.len()
    }

    /// The link towards a destination, or [`NO_LINK`].
    #[inline]
    pub(crate) fn towards(&self, dst: NodeId) -> LinkId {
        self.table.get(dst as usize).copied().unwrap_or(NO_LINK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_may_name_neighbours_whose_links_are_added_later() {
        let (mut routes, mut links) = (Routes::default(), Links::default());
        routes.install(Some(vec![0, 0, 2, 3, 2]), vec![], &[], &mut links);
        assert_eq!(routes.towards(4), links.slot_for(2));
        assert_eq!(routes.towards(1), NO_LINK);
        assert_eq!(routes.towards(99), NO_LINK);
    }

    #[test]
    fn each_flow_of_a_pair_uses_one_of_its_routes_constantly() {
        let (mut routes, mut links) = (Routes::default(), Links::default());
        let route = |index, hop| PairRoute { src: 1, dst: 4, index, of: 2, next_hops: vec![hop] };
        routes.install(None, vec![route(0, 2), route(1, 3)], &[], &mut links);
        for flow in 0..10 {
            let links_of = |flow| routes.explicit(1, 4, || flow).map(<[u32]>::to_vec);
            assert_eq!(links_of(flow), links_of(flow));
            assert_ne!(links_of(flow), links_of(flow + 1));
        }
        assert_eq!(routes.explicit(4, 1, || 0), None);
        routes.install(None, vec![], &[(1, 4)], &mut links);
        assert_eq!(routes.explicit(1, 4, || 0), None);
    }
}
