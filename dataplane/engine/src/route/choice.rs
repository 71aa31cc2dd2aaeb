//! Choose one of several routes for a flow: weighted rendezvous hashing.
//!
//! Each route gets the score `-weight / ln(u)`, where `u` in (0, 1] is a hash of the flow and of the route's number,
//! and the route with the highest score is taken. The shares of the routes are those of their weights, and a score
//! depends on its own route alone: without a route, only its flows change, and a new one takes no more than its
//! share (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998; the weights: Schindelhauer
//! and Schomaker, "Weighted distributed hash tables", 2005).

use super::pair::{Explicit, Pair};
use crate::link::Links;
use crate::rng::{mix, unit};
use crate::{FiveTuple, RouteId};

/// Why a flow takes its route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChosenBy {
    /// The pair has no other route.
    Only,
    /// Hashing.
    Hash,
    /// A pin, or the request of a user-space flow.
    Pin,
    /// Hashing, because the route to which the flow is pinned is down or does not exist.
    Fallback,
}

impl ChosenBy {
    /// The word of the control protocol.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Only => "only",
            Self::Hash => "hash",
            Self::Pin => "pin",
            Self::Fallback => "fallback",
        }
    }
}

/// The route of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteChoice {
    /// The route.
    pub route: RouteId,
    /// Why it is this one.
    pub by: ChosenBy,
}

/// A hash of a flow, equal for all of its packets.
pub(super) fn hash(seed: u64, flow: &FiveTuple) -> u64 {
    mix(seed ^ flow.hash())
}

/// The index of the route for a flow, and the reason. `pin`: the route that it shall take.
///
/// When no route of the pair can be used from here, one is chosen as if all could: its packets are then dropped and
/// counted at the link that is down.
pub(super) fn choose(pair: &Pair, pin: Option<RouteId>, hash: u64, links: &Links) -> (usize, ChosenBy) {
    let usable = |route: &Explicit| route.is_usable(links);
    let pinned = pin.and_then(|pin| pair.routes.iter().position(|route| route.id == pin));
    if let Some(index) = pinned.filter(|&index| usable(&pair.routes[index])) {
        return (index, ChosenBy::Pin);
    }
    let best = best(pair, hash, usable).or_else(|| best(pair, hash, |_| true));
    let by = match (pin, pair.routes.len()) {
        (Some(_), _) => ChosenBy::Fallback,
        (None, 1) => ChosenBy::Only,
        (None, _) => ChosenBy::Hash,
    };
    (best.unwrap_or(0), by)
}

fn best(pair: &Pair, hash: u64, usable: impl Fn(&Explicit) -> bool) -> Option<usize> {
    let scores = pair.routes.iter().enumerate().filter(|(_, route)| usable(route));
    let scores = scores.map(|(index, route)| (score(hash, route), index));
    // Of equal scores, which differ for the next flow, the lower number wins.
    scores.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, index)| index)
}

fn score(hash: u64, route: &Explicit) -> f64 {
    let own = unit(mix(hash ^ mix(u64::from(route.id))));
    -route.weight / own.ln()
}
