//! Read and write a node's TUN device on its shard.
//!
//! Packets are read and written with their virtio header. Where super-packets are not carried (disabled, or this
//! kernel failed the self-test), the engine completes and segments each packet before it is written.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nm_engine::vnet::GSO_UDP_L4;
use nm_engine::{segment, Packet, Pool, VnetHeader, HEADROOM, MAX_IP_HEADER};
use nm_kernel::offload::{self, OffloadState};
use nm_kernel::tun::{Offload, TunDevice};
use nm_kernel::{interface, namespace};

use super::device_writes::{count, with_header, DeviceWrites, VNET_AT};
use super::setup::{OffloadChoice, RuntimeError, TunNamespace, TunSetup};
use super::stats::ShardCounters;

/// An open device with all its queues.
pub struct NodeTun {
    queues: Vec<Arc<TunDevice>>,
    /// The offloads of the device.
    offload: Offload,
    /// Datagrams to be written together at the end of the shard's batch, where the device supports that.
    run: segment::Run,
}

/// Whether a device of this setup carries super-packets.
pub fn offload_state(setup: &TunSetup) -> OffloadState {
    match setup.offload {
        OffloadChoice::Auto => offload::self_test(&setup.device),
        OffloadChoice::Off => OffloadState::Off("switched off".into()),
    }
}

/// Opens and configures the device in its namespace.
pub fn open(setup: &TunSetup, offload: Offload) -> Result<NodeTun, RuntimeError> {
    if setup.queues == 0 || setup.queues > 64 {
        return Err(RuntimeError::Invalid(format!(
            "a TUN device cannot have {} queues",
            setup.queues
        )));
    }
    let held;
    let namespace = match &setup.namespace {
        TunNamespace::Current => None,
        TunNamespace::Descriptor(fd) => Some(fd.as_fd()),
        TunNamespace::Path(path) => {
            held = namespace::open(path)?;
            Some(held.as_fd())
        }
    };
    let queues = namespace::run_in(namespace, || {
        open_queues(setup, offload, namespace.is_some())
    })?;
    Ok(NodeTun {
        queues,
        offload,
        run: segment::Run::default(),
    })
}

fn open_queues(
    setup: &TunSetup,
    offload: Offload,
    persistent: bool,
) -> nm_kernel::Result<Vec<Arc<TunDevice>>> {
    let multi_queue = setup.queues > 1;
    let mut queues = Vec::with_capacity(setup.queues);
    for _ in 0..setup.queues {
        let device = TunDevice::open(&setup.device, &setup.name, multi_queue)?;
        device.set_offload(offload)?;
        // Set at the start and not only before an orderly close: otherwise the end of a killed process takes 33 ms
        // per device.
        device.set_persistent(persistent)?;
        queues.push(Arc::new(device));
    }
    match interface::configure(&setup.name, &setup.interface) {
        Ok(()) => Ok(queues),
        Err(error) => {
            // A device that no node uses must not remain in the namespace.
            for device in &queues {
                let _ = device.set_persistent(false);
            }
            Err(error)
        }
    }
}

/// The result of one attempt to read.
pub enum TunRead {
    /// A packet, with its length.
    Packet(Packet),
    /// No packet is available.
    Empty,
    /// The device was removed.
    Lost(io::Error),
}

impl NodeTun {
    /// The queues' descriptors, in order.
    pub fn queues(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.queues.iter().map(|queue| queue.as_fd())
    }

    /// Reads one packet from a queue.
    pub fn read(&self, queue: usize, pool: &mut Pool) -> TunRead {
        let mut packet = pool.get();
        let storage = packet
            .storage_mut()
            .expect("the buffer of a new packet is not shared");
        match self.queues[queue].read(&mut storage[VNET_AT..]) {
            Ok(length) => {
                let vnet = vnet_of(storage);
                let length = length.saturating_sub(VnetHeader::LEN);
                packet.set_frame(HEADROOM, length, vnet);
                TunRead::Packet(packet)
            }
            Err(error) => {
                pool.put(packet);
                match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => TunRead::Empty,
                    _ => TunRead::Lost(error),
                }
            }
        }
    }

    /// Passes a packet on to be written, or keeps it to join it with others: then [`NodeTun::flush`] must follow before
    /// the shard starts other work. Returns whether anything is kept.
    pub fn write(
        &mut self,
        packet: Packet,
        writes: &mut DeviceWrites,
        pool: &mut Pool,
        counters: &ShardCounters,
    ) -> bool {
        if !self.offload.udp {
            self.pass_on(packet, writes, pool, counters);
            return false;
        }
        if let Err(packet) = self.run.push(packet, pool) {
            // Kept packets are written first, to preserve the order.
            self.flush(writes, pool, counters);
            if let Err(packet) = self.run.push(packet, pool) {
                self.pass_on(packet, writes, pool, counters);
            }
        }
        !self.run.is_empty()
    }

    /// Drops the kept packets, whose state is unknown after a panic.
    pub fn forget_kept(&mut self) {
        self.run = segment::Run::default();
    }

    /// Passes the kept packets on to be written.
    pub fn flush(&mut self, writes: &mut DeviceWrites, pool: &mut Pool, counters: &ShardCounters) {
        if let Some(packet) = self.run.take() {
            self.pass_on(packet, writes, pool, counters);
        }
    }

    /// Passes a packet on, without segmentation if the device supports that.
    fn pass_on(
        &self,
        packet: Packet,
        writes: &mut DeviceWrites,
        pool: &mut Pool,
        counters: &ShardCounters,
    ) {
        if self.takes_unsegmented(&packet) {
            return self.pass_on_piece(packet, writes, pool, counters);
        }
        segment::segment(packet, pool, |piece, pool| {
            self.pass_on_piece(piece, writes, pool, counters)
        });
    }

    fn takes_unsegmented(&self, packet: &Packet) -> bool {
        if packet.vnet().kind() == GSO_UDP_L4 {
            return self.offload.udp;
        }
        self.offload.tcp || !segment::needs_work(packet)
    }

    fn pass_on_piece(
        &self,
        mut packet: Packet,
        writes: &mut DeviceWrites,
        pool: &mut Pool,
        counters: &ShardCounters,
    ) {
        if with_header(&mut packet).is_some() {
            return writes.push(&self.queues[0], packet, pool, counters);
        }
        // Packets that wait are written first, to preserve the order.
        writes.flush(pool, counters);
        count(&self.write_shared(&packet), counters);
        pool.put(packet);
    }

    /// Writes a packet whose buffer is shared: the headers come from the packet, the rest from the shared buffer.
    fn write_shared(&self, packet: &Packet) -> io::Result<usize> {
        let mut head = [0u8; VnetHeader::LEN + MAX_IP_HEADER];
        head[..VnetHeader::LEN].copy_from_slice(&packet.vnet().to_bytes());
        let mut ip = [0u8; MAX_IP_HEADER];
        let length = packet.patched_ip_header(&mut ip);
        head[VnetHeader::LEN..].copy_from_slice(&ip);
        self.queues[0].write_pieces(&[
            IoSlice::new(&head[..VnetHeader::LEN + length]),
            IoSlice::new(&packet.bytes()[length..]),
        ])
    }
}

fn vnet_of(storage: &[u8]) -> VnetHeader {
    let mut bytes = [0; VnetHeader::LEN];
    bytes.copy_from_slice(&storage[VNET_AT..HEADROOM]);
    VnetHeader::from_bytes(&bytes)
}
