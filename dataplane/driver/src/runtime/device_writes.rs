//! Packets of a shard that wait to be written to its nodes' devices, together at the end of a batch.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use nm_engine::{Packet, Pool, VnetHeader, HEADROOM};
use nm_kernel::tun::TunDevice;
use nm_kernel::write_batch::WriteBatch;

use super::stats::ShardCounters;

/// The position of the virtio header, such that the packet behind it starts at the end of the headroom.
pub const VNET_AT: usize = HEADROOM - VnetHeader::LEN;

/// Bytes that wait at most: with their copies they still fit a second-level cache of 1 MB.
const BYTES_AT_MOST: usize = 256 << 10;

// Error codes of a full device; see tun_get_user in the kernel's tun.c.
const EAGAIN: i32 = 11;
const ENOBUFS: i32 = 105;
const ENOMEM: i32 = 12;
// Error codes of kernels whose devices cannot be written through io_uring without waiting (before Linux 5.13).
const EINVAL: i32 = 22;
const EOPNOTSUPP: i32 = 95;
// Error codes of a process or machine with too many open files.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

/// The packets, in the order in which they are written.
pub struct DeviceWrites {
    queued: Vec<(Arc<TunDevice>, Packet)>,
    bytes: usize,
    batch: Batch,
}

/// The way to write several packets with one system call.
enum Batch {
    /// Not needed yet.
    Untried,
    Ready(Box<WriteBatch>),
    /// Switched off, or this process may not use it.
    Unavailable,
}

impl DeviceWrites {
    /// Without packets. If not `batched`, each packet is written at once.
    pub fn new(batched: bool) -> Self {
        let batch = if batched {
            Batch::Untried
        } else {
            Batch::Unavailable
        };
        Self {
            queued: Vec::with_capacity(WriteBatch::CAPACITY),
            bytes: 0,
            batch,
        }
    }

    /// Writes the packet, or keeps it until the next [`flush`](Self::flush), which must follow before the shard starts
    /// other work. Its buffer, in one piece with the virtio header, goes back to the pool afterwards.
    pub fn push(
        &mut self,
        device: &Arc<TunDevice>,
        mut packet: Packet,
        pool: &mut Pool,
        counters: &ShardCounters,
    ) {
        if matches!(self.batch, Batch::Unavailable) {
            write_one(device, &mut packet, counters);
            return pool.put(packet);
        }
        self.bytes += packet.len();
        self.queued.push((device.clone(), packet));
        if self.queued.len() == WriteBatch::CAPACITY || self.bytes >= BYTES_AT_MOST {
            self.flush(pool, counters);
        }
    }

    /// Writes the packets that wait.
    pub fn flush(&mut self, pool: &mut Pool, counters: &ShardCounters) {
        let written = self.queued.len() > 1 && self.write_batch(counters);
        for (device, mut packet) in self.queued.drain(..) {
            if !written {
                write_one(&device, &mut packet, counters);
            }
            pool.put(packet);
        }
        self.bytes = 0;
    }

    /// Drops the packets, of whatever node, whose state is unknown after a panic.
    pub fn clear(&mut self) {
        self.queued.clear();
        self.bytes = 0;
    }

    /// Writes the packets with one system call. Returns whether that was possible.
    fn write_batch(&mut self, counters: &ShardCounters) -> bool {
        if matches!(self.batch, Batch::Untried) {
            self.batch = match WriteBatch::new() {
                Ok(batch) => Batch::Ready(Box::new(batch)),
                // Tried again with the next packets.
                Err(error) if matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOMEM)) => {
                    Batch::Untried
                }
                Err(_) => Batch::Unavailable,
            };
        }
        let Batch::Ready(batch) = &mut self.batch else {
            return false;
        };
        let packets = self.queued.iter_mut().map(|entry| {
            let bytes = with_header(&mut entry.1).unwrap_or_default();
            (entry.0.as_fd(), bytes)
        });
        let mut usable = batch.write(packets).is_ok();
        let mut written = 0;
        for (index, (device, packet)) in self.queued.iter_mut().enumerate() {
            match batch.result(index) {
                Some(Ok(_)) => written += 1,
                // Either the packet is malformed, or the kernel cannot write to this device without waiting.
                Some(Err(error)) if matches!(error.raw_os_error(), Some(EINVAL | EOPNOTSUPP)) => {
                    usable &= !write_one(device, packet, counters);
                }
                Some(Err(error)) => count(&Err(error), counters),
                None => {
                    write_one(device, packet, counters);
                }
            }
        }
        counters.tun_writes.add(written);
        counters.tun_batched.add(written);
        if !usable {
            self.batch = Batch::Unavailable;
        }
        true
    }
}

/// Writes a packet with a system call of its own. Returns whether the device accepted it.
fn write_one(device: &TunDevice, packet: &mut Packet, counters: &ShardCounters) -> bool {
    let Some(bytes) = with_header(packet) else {
        counters.tun_refused.add(1);
        return false;
    };
    let result = device.write(bytes);
    count(&result, counters);
    result.is_ok()
}

/// Counts the result of a write.
pub fn count(result: &io::Result<usize>, counters: &ShardCounters) {
    match result.as_ref().map_err(io::Error::raw_os_error) {
        Ok(_) => counters.tun_writes.add(1),
        Err(Some(EAGAIN | ENOBUFS | ENOMEM)) => counters.tun_full.add(1),
        Err(_) => counters.tun_refused.add(1),
    }
}

/// The packet to write, in one piece with its virtio header, when its buffer is not shared.
pub fn with_header(packet: &mut Packet) -> Option<&[u8]> {
    if !packet.apply_ttl() {
        return None;
    }
    let (vnet, length, start) = (
        packet.vnet().to_bytes(),
        packet.len(),
        packet.bytes().as_ptr(),
    );
    let storage = packet.storage_mut()?;
    if storage[HEADROOM..].as_ptr() != start {
        return None;
    }
    storage[VNET_AT..HEADROOM].copy_from_slice(&vnet);
    Some(&storage[VNET_AT..HEADROOM + length])
}
