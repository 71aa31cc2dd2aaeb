//! The device of smoltcp: one packet in, at most one packet out per call.

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// Holds one packet in each direction.
#[derive(Debug)]
pub(crate) struct Slot {
    mtu: usize,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
}

impl Slot {
    pub(crate) fn new(mtu: u16) -> Self {
        Self { mtu: usize::from(mtu), incoming: Vec::new(), outgoing: Vec::new() }
    }

    /// Stores a packet for the next call of smoltcp.
    pub(crate) fn set_incoming(&mut self, packet: &[u8]) {
        self.incoming.clear();
        self.incoming.extend_from_slice(packet);
    }

    /// That packet, until smoltcp has read it.
    pub(crate) fn incoming(&self) -> &[u8] {
        &self.incoming
    }

    /// The packet that the last call of smoltcp built, if any.
    pub(crate) fn outgoing(&self) -> Option<&[u8]> {
        (!self.outgoing.is_empty()).then_some(&self.outgoing[..])
    }

    /// Drops that packet, before the next one is built.
    pub(crate) fn clear(&mut self) {
        self.outgoing.clear();
    }
}

impl Device for Slot {
    type RxToken<'a> = Rx<'a>;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx<'_>, Tx<'_>)> {
        (!self.incoming.is_empty()).then_some((Rx(&mut self.incoming), Tx(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        self.outgoing.is_empty().then_some(Tx(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

pub(crate) struct Rx<'a>(&'a mut Vec<u8>);

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        let result = read(self.0);
        self.0.clear();
        result
    }
}

pub(crate) struct Tx<'a>(&'a mut Vec<u8>);

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        self.0.clear();
        self.0.resize(len, 0);
        write(self.0)
    }
}
