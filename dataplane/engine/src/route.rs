//! Unicast routes: one next hop per destination, and explicit routes for pairs of nodes.
//!
//! A pair may have several routes. The first node of a packet chooses one for its flow and writes the route's number
//! beside the packet; the nodes behind it follow the number, so that all packets of a flow take one route whatever
//! these nodes know. The choice is weighted rendezvous hashing (see [`choice`]): of the flows of a pair only those
//! of a route that dies, or those that a new route gets, change their route.

mod assigned;
mod choice;
mod pair;
mod pins;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::link::{Links, NO_LINK};
use crate::{FiveTuple, Instant, LinkId, NodeId, Packet, PairRoute, RouteId};
use assigned::Assigned;
pub use assigned::{RoutedFlow, RoutedFlows};
pub use choice::{ChosenBy, RouteChoice};
use pair::{Explicit, Pair};
pub use pins::Pin;
use pins::Pins;

/// The number that stands for all addresses outside of the lab in the forwarding table.
pub(crate) const OUTSIDE: NodeId = 0;

/// The unicast routes of this node.
#[derive(Debug)]
pub(crate) struct Routes {
    /// Link per destination id; [`NO_LINK`] where there is none. The first entry leads to the nearest uplink.
    table: Vec<LinkId>,
    pairs: BTreeMap<(NodeId, NodeId), Pair>,
    /// What the last change removed, for packets that are still on their way on these routes.
    retired: BTreeMap<(NodeId, NodeId), Pair>,
    pins: Pins,
    assigned: Assigned,
    seed: u64,
    /// Increases when routes, pins or links change, so that recorded choices are made again.
    generation: u64,
}

impl Routes {
    /// No routes; `seed` makes the choices of one lab differ from those of another.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            table: Vec::new(),
            pairs: BTreeMap::new(),
            retired: BTreeMap::new(),
            pins: Pins::default(),
            assigned: Assigned::default(),
            seed,
            generation: 0,
        }
    }

    pub(crate) fn install(
        &mut self,
        table: Option<Vec<NodeId>>,
        routes: Vec<PairRoute>,
        removed: &[(NodeId, NodeId)],
        links: &mut Links,
    ) {
        self.generation += 1;
        if let Some(table) = table {
            self.table =
                table.iter().map(|&node| if node == 0 { NO_LINK } else { links.slot_for(node) }).collect();
        }
        self.retired = removed.iter().filter_map(|pair| self.pairs.remove_entry(pair)).collect();
        for route in routes {
            let pair = self.pairs.entry((route.src, route.dst)).or_default();
            pair.routes.retain(|each| each.id != route.id);
            if !route.next_hops.is_empty() {
                let links = route.next_hops.iter().map(|&node| links.slot_for(node)).collect();
                let at = pair.routes.partition_point(|each| each.id < route.id);
                pair.routes.insert(at, Explicit { id: route.id, weight: route.weight, links });
            }
            if pair.routes.is_empty() {
                self.pairs.remove(&(route.src, route.dst));
            }
        }
    }

    /// Adds or replaces pins by number, and removes others.
    pub(crate) fn set_pins(&mut self, pins: Vec<Pin>, removed: &[u64]) {
        self.generation += 1;
        self.pins.change(pins, removed);
    }

    /// A link of this node has come or gone.
    pub(crate) fn links_changed(&mut self) {
        self.generation += 1;
    }

    /// Increases when the routes of flows may have changed.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether any pair has explicit routes here.
    pub(crate) fn has_explicit(&self) -> bool {
        !(self.pairs.is_empty() && self.retired.is_empty())
    }

    /// The outgoing links of a packet of a pair with explicit routes; `None` when the table applies.
    ///
    /// `first`: whether this is the first node of the packet. It then chooses the route for the packet's flow and
    /// writes its number beside the packet; a number that is there already is that of the route which is preferred.
    #[inline]
    pub(crate) fn explicit(
        &mut self,
        now: Instant,
        (src, dst): (NodeId, NodeId),
        packet: &mut Packet,
        first: bool,
        links: &Links,
    ) -> Option<&[LinkId]> {
        let asked = packet.route();
        let Some(pair) = self.pairs.get(&(src, dst)) else {
            let retired = self.retired.get(&(src, dst)).filter(|_| !first)?;
            return retired.find(asked);
        };
        let known = pair.routes.iter().position(|route| route.id == asked);
        let index = match known {
            Some(index) if !first => index,
            _ => {
                let flow = packet.five_tuple();
                let hash = choice::hash(self.seed, &flow);
                let choose = || choice::choose(pair, self.pins.find(src, dst, &flow, asked), hash, links).0;
                if first {
                    self.assigned.route(now, hash, asked, self.generation, &flow, choose)
                } else if let Some(links) =
                    self.retired.get(&(src, dst)).and_then(|retired| retired.find(asked))
                {
                    return Some(links);
                } else {
                    choose()
                }
            }
        };
        let route = pair.routes.get(index)?;
        packet.set_route(route.id);
        Some(&route.links)
    }

    /// The route on which this node sends the packets of a flow now; `None` when the pair has no explicit routes.
    ///
    /// `asked`: the route that the flow prefers, 0 for none.
    pub(crate) fn route_of(
        &self,
        pair: (NodeId, NodeId),
        flow: &FiveTuple,
        asked: RouteId,
        links: &Links,
    ) -> Option<RouteChoice> {
        let routes = self.pairs.get(&pair)?;
        let pin = self.pins.find(pair.0, pair.1, flow, asked);
        let (index, by) = choice::choose(routes, pin, choice::hash(self.seed, flow), links);
        Some(RouteChoice { route: routes.routes.get(index)?.id, by })
    }

    /// The outgoing links of a route of a pair, also of one that the last change removed; `None` when it does not lead
    /// through this node.
    pub(crate) fn links_of(&self, pair: (NodeId, NodeId), route: RouteId) -> Option<&[LinkId]> {
        let current = self.pairs.get(&pair).and_then(|known| known.find(route));
        current.or_else(|| self.retired.get(&pair).and_then(|known| known.find(route)))
    }

    /// The flows for which this node has chosen a route, at most `limit`, the latest first. `pair_of` tells the nodes
    /// of a flow.
    pub(crate) fn routed_flows(
        &self,
        now: Instant,
        limit: usize,
        links: &Links,
        pair_of: impl Fn(&FiveTuple) -> Option<(NodeId, NodeId)>,
    ) -> RoutedFlows {
        let mut entries: Vec<_> = self.assigned.entries().collect();
        entries.sort_by_key(|entry| (std::cmp::Reverse(entry.last_use), entry.flow));
        let known = entries.len() as u64;
        let routed = |entry: &&assigned::Entry| {
            let choice = self.route_of(pair_of(&entry.flow)?, &entry.flow, entry.asked, links)?;
            let idle_ns = now.0.saturating_sub(entry.last_use.0);
            Some(RoutedFlow { flow: entry.flow, route: choice.route, by: choice.by, idle_ns })
        };
        let flows = entries.iter().filter_map(routed).take(limit).collect();
        RoutedFlows { flows, known, forgotten: self.assigned.forgotten }
    }

    /// Whether packets from this node to another one have a route.
    pub(crate) fn reaches(&self, src: NodeId, dst: NodeId) -> bool {
        self.pairs.contains_key(&(src, dst)) || self.towards(dst) != NO_LINK
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
