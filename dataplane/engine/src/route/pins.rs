//! Pins: flows that shall take a certain route of their pair.

use std::collections::BTreeMap;

use crate::{FiveTuple, NodeId, RouteId};

/// The flows of a pair that shall take one of its routes. A field that is `None` matches every value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Its number.
    pub id: u64,
    /// Source of the packets.
    pub src: NodeId,
    /// Their destination.
    pub dst: NodeId,
    /// The number of the transport protocol (RFC 790).
    pub protocol: Option<u8>,
    /// Source port of TCP and UDP.
    pub src_port: Option<u16>,
    /// Destination port of TCP and UDP.
    pub dst_port: Option<u16>,
    /// The route.
    pub route: RouteId,
}

impl Pin {
    fn matches(&self, flow: &FiveTuple) -> bool {
        self.protocol.is_none_or(|protocol| protocol == flow.protocol)
            && self.src_port.is_none_or(|port| port == flow.src_port)
            && self.dst_port.is_none_or(|port| port == flow.dst_port)
    }

    /// Of two pins of a flow the one with more fields applies, then the one with the lower number.
    fn precedence(&self) -> (usize, u64) {
        let any = usize::from(self.protocol.is_none())
            + usize::from(self.src_port.is_none())
            + usize::from(self.dst_port.is_none());
        (any, self.id)
    }
}

/// Pins by pair, in the order of their precedence.
#[derive(Debug, Default)]
pub(super) struct Pins {
    by_pair: BTreeMap<(NodeId, NodeId), Vec<Pin>>,
    pairs: BTreeMap<u64, (NodeId, NodeId)>,
}

impl Pins {
    pub(super) fn change(&mut self, pins: Vec<Pin>, removed: &[u64]) {
        removed.iter().for_each(|&id| self.remove(id));
        for pin in pins {
            self.remove(pin.id);
            self.pairs.insert(pin.id, (pin.src, pin.dst));
            let of_pair = self.by_pair.entry((pin.src, pin.dst)).or_default();
            let at = of_pair.partition_point(|each| each.precedence() < pin.precedence());
            of_pair.insert(at, pin);
        }
    }

    fn remove(&mut self, id: u64) {
        let Some(pair) = self.pairs.remove(&id) else {
            return;
        };
        if let Some(of_pair) = self.by_pair.get_mut(&pair) {
            of_pair.retain(|pin| pin.id != id);
            if of_pair.is_empty() {
                self.by_pair.remove(&pair);
            }
        }
    }

    /// The route that a flow shall take: of its pin, or else the one that it asks for, 0 for none.
    pub(super) fn find(&self, src: NodeId, dst: NodeId, flow: &FiveTuple, asked: RouteId) -> Option<RouteId> {
        let of_pair = self.by_pair.get(&(src, dst)).map_or(&[][..], Vec::as_slice);
        let pin = of_pair.iter().find(|pin| pin.matches(flow)).map(|pin| pin.route);
        pin.or_else(|| (asked != 0).then_some(asked))
    }
}
