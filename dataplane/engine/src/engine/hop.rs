//! Tell the driver where a flow that is not carried as packets goes next, by the routes that packets take.

use super::forward::is_unicast_outside;
use super::Engine;
use crate::address::Owner;
use crate::link::NO_LINK;
use crate::route::OUTSIDE;
use crate::wire::ip;
use crate::{CommandError, CommandOutput, FiveTuple, HopTarget, NodeId};

impl Engine {
    /// The node at which a flow of `src` leaves, and the neighbour through which it gets there; of several routes the
    /// one that `flow` selects.
    pub(super) fn find_hop(
        &self,
        src: NodeId,
        target: HopTarget,
        flow: u64,
    ) -> Result<CommandOutput, CommandError> {
        let exit = match target {
            HopTarget::Node(node) => node,
            HopTarget::Address(address) => match self.map.owner(address.into()) {
                Owner::Node(node) | Owner::Behind(node) => node,
                Owner::Nobody if is_unicast_outside(address) => OUTSIDE,
                _ => return Err(CommandError::UnknownAddress(address)),
            },
        };
        if self.paused {
            return Err(CommandError::Invalid(format!("node {} is paused", self.config.node_id)));
        }
        let own = self.config.node_id;
        if exit == own || (exit == OUTSIDE && self.config.uplink) {
            return Ok(CommandOutput::Hop { exit: own, next: None });
        }
        let explicit =
            self.routes.explicit_link((src, exit), &self.as_five_tuple(src, exit, flow), &self.links);
        let link = explicit.unwrap_or_else(|| self.routes.towards(exit));
        match self.links.neighbour(link) {
            Some(next) if link != NO_LINK => Ok(CommandOutput::Hop { exit, next: Some(next) }),
            _ if exit == OUTSIDE => Err(CommandError::Invalid("no route to an uplink".to_owned())),
            _ => Err(CommandError::NoRoute(exit)),
        }
    }

    /// A 5-tuple that stands for the flow where routes are chosen, equal at every node.
    fn as_five_tuple(&self, src: NodeId, exit: NodeId, flow: u64) -> FiveTuple {
        let address = |node| self.config.addresses.node_addr(node).into();
        FiveTuple {
            src: address(src),
            dst: address(exit),
            protocol: ip::TCP,
            src_port: flow as u16,
            dst_port: (flow >> 16) as u16,
        }
    }
}
