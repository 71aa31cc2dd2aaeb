//! Records of packets for captures: optional, and without one a comparison per packet.
//!
//! A record shares the buffer of a large packet. Hops never write to a shared buffer, so the record keeps the packet as
//! it was at that point. Small packets are copied: that costs less than what a device can do with a buffer that is not
//! shared, such as joining datagrams.

use crate::link::Piece;
use crate::stats::DropCause;
use crate::{Instant, NodeId, Packet};

/// Where a packet was recorded. Those of a link name the neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapPoint {
    /// The node's programs sent it, through its TUN device or its Python API.
    Sent,
    /// It was delivered to the node's programs.
    Received,
    /// The node dropped it before a link was selected, or on delivery.
    Refused(DropCause),
    /// It reached the outgoing side of a link: before its impairments.
    Offered(NodeId),
    /// It passed the impairments of a link.
    Passed(NodeId),
    /// The link dropped it.
    Dropped(NodeId, DropCause),
}

/// A packet, or a run of its segments, at a point.
#[derive(Debug)]
pub struct Tapped {
    /// When, by the clock of the engine.
    pub at: Instant,
    /// Where.
    pub point: TapPoint,
    /// The packet; it may share its buffer.
    pub packet: Packet,
    /// The first segment of the packet that the record is about.
    pub first: u32,
    /// The number of segments that it is about.
    pub count: u32,
}

impl Tapped {
    pub(crate) fn of_piece(at: Instant, point: TapPoint, piece: Piece) -> Self {
        let Piece { packet, first, count, .. } = piece;
        Self { at, point, packet, first, count }
    }
}

/// The points of an engine at which packets are recorded; by default none.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Taps {
    /// Those of the node itself.
    pub node: bool,
    /// Those of the outgoing sides of links, by neighbour.
    pub links: Vec<NodeId>,
}

#[cfg(test)]
mod tests;
