//! The paths to other nodes: what routers said about their MTU (RFC 1191), and smoltcp's interface for each MTU.
//!
//! smoltcp has one MTU per interface, and sends segments of any size up to it. So a connection whose path has a
//! smaller one is polled on an interface of its own, which has nothing else that differs.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use nm_engine::{Instant, NodeConfig};
use smoltcp::iface::{Config, Interface};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use crate::connection::micros;
use crate::device::Slot;

/// The least MTU that is believed: that of a link, which every host supports (RFC 791).
const LEAST_MTU: u16 = 576;
/// A path may have changed after this time (RFC 1191, section 6.3).
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// See the module's documentation.
pub(crate) struct Paths {
    addr: Ipv4Addr,
    seed: u64,
    /// The MTU of the node.
    mtu: u16,
    interfaces: BTreeMap<u16, Interface>,
    /// MTUs below that of the node by destination, and when they were learned.
    known: BTreeMap<Ipv4Addr, (u16, Instant)>,
}

impl Paths {
    /// No path is known.
    pub(crate) fn new(config: &NodeConfig, addr: Ipv4Addr, seed: u64) -> Self {
        let mtu = config.mtu.max(LEAST_MTU);
        Self { addr, seed, mtu, interfaces: BTreeMap::new(), known: BTreeMap::new() }
    }

    /// The MTU of the node.
    pub(crate) const fn mtu(&self) -> u16 {
        self.mtu
    }

    /// The MTU of the path to a destination, as far as it is known.
    pub(crate) fn mtu_to(&self, now: Instant, addr: Ipv4Addr) -> u16 {
        let known = self.known.get(&addr).filter(|(_, at)| now < *at + FORGET_AFTER);
        known.map_or(self.mtu, |(mtu, _)| *mtu)
    }

    /// A router reported that its next link on the path to `addr` has the MTU `mtu`. Returns the MTU of the path.
    pub(crate) fn learn(&mut self, now: Instant, addr: Ipv4Addr, mtu: u16) -> u16 {
        let mtu = mtu.max(LEAST_MTU).min(self.mtu_to(now, addr));
        if mtu < self.mtu {
            self.known.insert(addr, (mtu, now));
        }
        mtu
    }

    /// The interface for connections over a path of this MTU.
    pub(crate) fn interface(&mut self, now: Instant, mtu: u16) -> &mut Interface {
        let (addr, seed) = (self.addr, self.seed);
        self.interfaces.entry(mtu).or_insert_with(|| {
            let mut wanted = Config::new(HardwareAddress::Ip);
            wanted.random_seed = seed;
            let mut interface = Interface::new(wanted, &mut Slot::new(mtu), micros(now));
            interface.update_ip_addrs(|addrs| {
                // The list is empty and holds at least one.
                let _ = addrs.push(IpCidr::new(IpAddress::Ipv4(addr), 32));
            });
            // Every address is reached through the node; smoltcp asks for a gateway. The table is empty as well.
            let _ = interface.routes_mut().add_default_ipv4_route(addr);
            interface
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_the_smallest_mtu_that_was_reported_until_it_is_forgotten() {
        let there = Ipv4Addr::new(10, 0, 0, 2);
        let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        let mut paths = Paths::new(&NodeConfig::new(1), Ipv4Addr::new(10, 0, 0, 1), 7);
        assert_eq!(paths.learn(at(0), there, 9000), 1500);
        assert_eq!(paths.mtu_to(at(0), there), 1500);
        assert_eq!([paths.learn(at(1), there, 1300), paths.learn(at(2), there, 1400)], [1300, 1300]);
        assert_eq!(paths.learn(at(3), there, 20), 576);
        assert_eq!((paths.mtu_to(at(602), there), paths.mtu_to(at(603), there)), (576, 1500));
        assert_eq!(paths.mtu_to(at(3), Ipv4Addr::new(10, 0, 0, 3)), 1500);
    }
}
