//! Tell the driver where a flow that is not carried as packets goes next, by the routes that packets take.

use std::net::IpAddr;

use super::forward::is_unicast_outside;
use super::Engine;
use crate::address::Owner;
use crate::route::OUTSIDE;
use crate::{CommandError, CommandOutput, FiveTuple, HopTarget, LinkId, NodeId, RouteId};

impl Engine {
    /// The node at which a flow of `src` leaves, and the neighbour through which it gets there.
    ///
    /// Of several routes the first node chooses as for a packet of the flow: pins, then hashing. The nodes behind it
    /// follow the number of the route, and refuse the flow where that is not possible.
    pub(super) fn find_hop(
        &self,
        src: NodeId,
        target: HopTarget,
        flow: &FiveTuple,
        route: Option<RouteId>,
    ) -> Result<CommandOutput, CommandError> {
        let exit = self.exit(target)?;
        let own = self.config.node_id;
        if self.paused {
            return Err(CommandError::Invalid(format!("node {own} is paused")));
        }
        if exit == own || (exit == OUTSIDE && self.config.uplink) {
            return Ok(CommandOutput::Hop { exit: own, next: None, route: 0 });
        }
        let pair = (src, exit);
        let route = match route {
            Some(route) => route,
            None => self.routes.route_of(pair, flow, 0, &self.links).map_or(0, |choice| choice.route),
        };
        let links = match route {
            0 => vec![self.routes.towards(exit)],
            _ => self.routes.links_of(pair, route).map(<[LinkId]>::to_vec).ok_or_else(|| {
                CommandError::Invalid(format!("route {route} of the flow does not lead through node {own}"))
            })?,
        };
        // Packets of a route with several next hops are sent to each of them; a flow takes the first that it can.
        if let Some(next) = links.iter().find_map(|&link| self.links.neighbour(link)) {
            return Ok(CommandOutput::Hop { exit, next: Some(next), route });
        }
        match links.first().and_then(|&link| self.links.remote(link)) {
            Some(next) => Err(CommandError::Invalid(format!("the link to node {next} is down"))),
            None if exit == OUTSIDE => Err(CommandError::Invalid("no route to an uplink".to_owned())),
            None => Err(CommandError::NoRoute(exit)),
        }
    }

    fn exit(&self, target: HopTarget) -> Result<NodeId, CommandError> {
        let address = match target {
            HopTarget::Node(node) => return Ok(node),
            HopTarget::Address(address) => address,
        };
        // Uplinks are for IPv4 alone.
        let leaves = matches!(address, IpAddr::V4(address) if is_unicast_outside(address));
        match self.map.owner_at(address) {
            Owner::Node(node) | Owner::Behind(node) if node != OUTSIDE => Ok(node),
            Owner::Nobody if leaves => Ok(OUTSIDE),
            // As for packets: beyond the nodes that exist, the user-space range is outside.
            Owner::User(node) if !self.routes.knows(node) && leaves => Ok(OUTSIDE),
            _ => Err(CommandError::UnknownAddress(address)),
        }
    }
}
