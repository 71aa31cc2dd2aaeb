//! The explicit routes of a pair of nodes that contain this node.

use crate::link::Links;
use crate::{LinkId, RouteId};

/// The explicit routes of a pair that contain this node, ordered by number.
#[derive(Debug, Default)]
pub(super) struct Pair {
    pub routes: Vec<Explicit>,
}

impl Pair {
    /// The links of a route.
    pub fn find(&self, id: RouteId) -> Option<&[LinkId]> {
        self.routes.iter().find(|route| route.id == id).map(|route| route.links.as_slice())
    }
}

/// A route's next hops here.
#[derive(Debug)]
pub(super) struct Explicit {
    pub id: RouteId,
    pub weight: f64,
    /// Not empty.
    pub links: Vec<LinkId>,
}

impl Explicit {
    /// Whether a packet can be sent on it from here.
    pub fn is_usable(&self, links: &Links) -> bool {
        self.links.iter().any(|&link| links.carries(link))
    }
}
