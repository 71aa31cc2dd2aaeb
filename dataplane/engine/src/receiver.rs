//! Receivers: UDP flows that are delivered to Python instead of TUN.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::stats::{DropCause, Traffic};
use crate::{CommandError, Delivery, FlowFilter, Io, Packet, ReceiverId};

#[derive(Debug)]
struct Receiver {
    id: ReceiverId,
    messages: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Receivers {
    by_flow: BTreeMap<FlowFilter, Receiver>,
    next_id: ReceiverId,
    pub delivered: Traffic,
}

impl Receivers {
    pub(crate) fn register(&mut self, filter: FlowFilter) -> Result<ReceiverId, CommandError> {
        if self.by_flow.contains_key(&filter) {
            let FlowFilter { src_node, src_port, dst_port, .. } = filter;
            return Err(CommandError::ReceiverExists { src_node, src_port, dst_port });
        }
        self.next_id += 1;
        self.by_flow.insert(filter, Receiver { id: self.next_id, messages: 0 });
        Ok(self.next_id)
    }

    pub(crate) fn close(&mut self, id: ReceiverId) -> Result<(), CommandError> {
        let before = self.by_flow.len();
        self.by_flow.retain(|_, receiver| receiver.id != id);
        if self.by_flow.len() == before {
            return Err(CommandError::UnknownReceiver(id));
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_flow.is_empty()
    }

    pub(crate) fn matches_flow(&self, filter: &FlowFilter) -> bool {
        self.by_flow.contains_key(filter)
    }

    /// Converts a packet to deliveries: one per datagram, small ones in small buffers. Returns the packet when no
    /// receiver matches its flow.
    pub(crate) fn deliver(&mut self, filter: &FlowFilter, packet: Packet, io: &mut Io) -> Option<Packet> {
        let Some(receiver) = self.by_flow.get_mut(filter) else {
            return Some(packet);
        };
        self.delivered.count(packet.segments(), packet.wire_bytes());
        let packet = io.pool.compact(packet);
        let meta = *packet.meta();
        let header = usize::from(meta.header);
        let payload = packet.len() - header;
        let step =
            if packet.vnet().is_super() { usize::from(packet.vnet().gso_size) } else { payload.max(1) };
        let flow_id = packet.flow_hash();
        let mut start = 0;
        loop {
            let len = step.min(payload - start);
            io.deliveries.push(Delivery {
                receiver: receiver.id,
                packet: packet.clone_ref(),
                payload_offset: (header + start) as u32,
                payload_len: len as u32,
                src_ip: Ipv4Addr::from(meta.src),
                dst_ip: Ipv4Addr::from(meta.dst),
                src_port: filter.src_port,
                dst_port: filter.dst_port,
                flow_id,
                message_id: receiver.messages,
            });
            receiver.messages += 1;
            start += step;
            if start >= payload {
                break;
            }
        }
        io.pool.put(packet);
        None
    }

    pub(crate) fn refused(&mut self) {
        self.delivered.drops.add(DropCause::ReceiverFull, 1);
    }
}
