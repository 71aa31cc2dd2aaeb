//! Data packets: when the next one may be sent, and how it is built.

use super::{Phase, Sender};
use crate::session::send_queue::{emit_headers, Outgoing, SendQueue};
use crate::session::wire::{self, tag_of, Header, IP_UDP};
use crate::vnet::{GSO_NONE, GSO_UDP_L4};
use crate::{Instant, Io, Packet, Pool, VnetHeader, HEADROOM};

impl Sender {
    /// The earliest time at which pacing permits data; `None` when no data is left or the windows are full.
    pub(in crate::session) fn next_data(&self) -> Option<Instant> {
        if self.phase != Phase::Sending || self.plan.left() == 0 {
            return None;
        }
        let mut counting = self.peers.iter().filter(|peer| peer.is_responsive()).peekable();
        counting.peek()?;
        counting.all(|peer| self.pace.has_room(&peer.path, self.position)).then(|| self.pace.next_send())
    }

    /// Builds and queues the next super-packet. Call when [`Sender::next_data`] permits it.
    pub(in crate::session) fn data(&mut self, now: Instant, queue: &mut SendQueue, io: &mut Io) {
        let count = self.pace.quantum(self.per_packet).min(self.plan.left());
        let Some(data) = &self.data else { return };
        let data = data.clone();
        let packet = self.build(count, data.as_slice(), queue, &mut io.pool);
        queue.packets.push(Outgoing { packet, session: Some(self.id) });
        self.position += u64::from(count);
        if self.plan.left() == 0 {
            self.finish_digest();
        }
        self.pace.sent(now, count, self.position);
        if self.plan.left() == 0 {
            self.phase = Phase::Requesting(now);
            self.send_request(queue, &mut io.pool);
            self.schedule_request(now, self.shortest_request_interval());
        }
    }

    /// Finishes the digest after the first round, which sends all segments once and in order.
    fn finish_digest(&mut self) {
        if let Some(digester) = self.digester.take() {
            self.digest = Some(digester.finish());
        }
    }

    fn build(&mut self, count: u32, data: &[u8], queue: &SendQueue, pool: &mut Pool) -> Packet {
        let stride = self.segment_size + wire::HEADER;
        let mut packet = pool.get_for(IP_UDP + count as usize * stride);
        let mut end = IP_UDP;
        if let Some(storage) = packet.storage_mut() {
            let out = &mut storage[HEADROOM..];
            let tag = tag_of(self.number);
            let first = self.plan.sent_end();
            let round = self.round as u8;
            for position in self.position..self.position + u64::from(count) {
                let Some(segment) = self.plan.next() else {
                    break;
                };
                let start = segment as usize * self.segment_size;
                let part = &data[start..data.len().min(start + self.segment_size)];
                let sequence = position as u16;
                let header = Header { kind: wire::DATA, tree: 0, round, tag, index: segment, sequence };
                header.write(&mut out[end..end + wire::HEADER]);
                end += wire::HEADER;
                out[end..end + part.len()].copy_from_slice(part);
                end += part.len();
            }
            // The digester exists only in the first round, which sends the segments in order.
            if let Some(digester) = &mut self.digester {
                let mut ahead = data.len().min((first + count) as usize * self.segment_size);
                for (index, segment) in (first..).zip(out[IP_UDP..end].chunks(stride)) {
                    let next = &data[ahead..data.len().min(ahead + self.segment_size)];
                    (queue.prefetch)(next.as_ptr(), next.len());
                    ahead += next.len();
                    digester.add(index, &segment[wire::HEADER..]);
                }
            }
            emit_headers(&mut out[..end], queue.addr(queue.node_id), self.dest);
        }
        let gso_type = if count > 1 { GSO_UDP_L4 } else { GSO_NONE };
        let gso_size = if count > 1 { stride as u16 } else { 0 };
        packet.set_frame(
            HEADROOM,
            end,
            VnetHeader { gso_type, gso_size, hdr_len: IP_UDP as u16, ..Default::default() },
        );
        packet
    }
}
