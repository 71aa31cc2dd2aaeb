//! Follow what routers say about the MTU of a path (RFC 1191, section 6.4).

use nm_engine::Instant;

use super::{Endpoint, HEADERS};
use crate::connection::Side;
use crate::frame::Peer;

impl Endpoint {
    /// Sends shorter segments on a connection from now on, retransmissions included.
    pub(super) fn shorten(&mut self, now: Instant, peer: Peer, mtu: u16) {
        let Some(index) = self.by_peer.get(&peer).copied() else {
            return;
        };
        let mtu = self.paths.learn(now, peer.addr, mtu);
        let Some(connection) = self.connections[index].as_mut().filter(|each| mtu < each.mtu) else {
            return;
        };
        connection.mtu = mtu;
        if let Side::Source(source) = &mut connection.side {
            source.set_mss(usize::from(mtu) - HEADERS);
        }
        self.set_ready(index);
    }
}
