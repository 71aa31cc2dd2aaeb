//! The packets of probes: UDP datagrams between neighbours on [`crate::PROBE_PORT`], never forwarded.
//!
//! Each payload, of every segment of a super-packet too, starts with the same header, in network byte order:
//!
//! ```text
//! 0 kind (8) │ 1 below (8) │ 2 train (16) │ 4 segment or number (32) │ 8 probe (64) │ 16 time (64) │ 24 total (32) │ 28 zero
//! ```
//!
//! A report has a body of [`Received`] behind it. Requests, reports and the answers to them are sent below the
//! impairments: what a link does to packets is measured with packets of trains and echoes alone.

use crate::vnet::{GSO_NONE, GSO_UDP_L4};
use crate::wire::ip;
use crate::{Packet, Pool, VnetHeader, HEADROOM, PROBE_PORT};

/// Bytes of the IP and UDP headers (RFC 791, RFC 768).
pub(super) const IP_UDP: usize = ip::HEADER + 8;
/// Bytes of the header.
pub(super) const HEADER: usize = 32;
/// Bytes of the body of a report.
const BODY: usize = 40;
/// Bytes of an echo request or its answer, with its IP and UDP headers.
pub(super) const ECHO: u64 = (IP_UDP + HEADER) as u64;
/// Bytes of the largest super-packet of a train: its total length has 16 bits (RFC 791).
const LARGEST: usize = 64_000;

/// The most echo requests of one probe: one each millisecond for a minute.
pub(super) const MOST_ECHOES: u32 = 65_536;

/// The meaning of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A segment of a train.
    Train = 1,
    /// To be answered with [`Kind::Echo`].
    EchoRequest = 2,
    Echo = 3,
    /// To be answered with [`Kind::Report`].
    ReportRequest = 4,
    Report = 5,
}

impl Kind {
    const ALL: [Kind; 5] = [Self::Train, Self::EchoRequest, Self::Echo, Self::ReportRequest, Self::Report];
}

/// The header of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub kind: Kind,
    /// Whether the probe passes below the impairments.
    pub below: bool,
    /// The number of the train, from 1; 0 before the first one.
    pub train: u16,
    /// The segment of the train, or the number of the echo request, from 0.
    pub number: u32,
    pub probe: u64,
    /// When an echo request was sent, in nanoseconds of its sender's clock.
    pub time: u64,
    /// Segments of the whole train.
    pub total: u32,
}

impl Header {
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let bytes = payload.first_chunk::<HEADER>()?;
        let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == bytes[0])?;
        Some(Self {
            kind,
            below: bytes[1] != 0,
            train: u16::from_be_bytes([bytes[2], bytes[3]]),
            number: u32_at(bytes, 4),
            probe: u64_at(bytes, 8),
            time: u64_at(bytes, 16),
            total: u32_at(bytes, 24),
        })
    }

    fn write(&self, out: &mut [u8]) {
        out[0] = self.kind as u8;
        out[1] = u8::from(self.below);
        out[2..4].copy_from_slice(&self.train.to_be_bytes());
        out[4..8].copy_from_slice(&self.number.to_be_bytes());
        out[8..16].copy_from_slice(&self.probe.to_be_bytes());
        out[16..24].copy_from_slice(&self.time.to_be_bytes());
        out[24..28].copy_from_slice(&self.total.to_be_bytes());
        out[28..HEADER].fill(0);
    }
}

/// What a node has received of a probe.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Received {
    /// Segments of the train so far.
    pub segments: u32,
    /// Whether its last segment has arrived.
    pub ended: bool,
    /// Bytes, with headers, of the segments behind the one that began the measured part of the train.
    pub bytes: u64,
    /// Nanoseconds between the arrival of that one and the last.
    pub nanos: u64,
    /// Different echo requests.
    pub echoes: u32,
    /// Whether all of the train was measured, and not its second half.
    pub whole: bool,
    /// Nanoseconds for which the answer to an echo request occupies the link back; 0 if its rate is not limited.
    pub echo_ns: u64,
}

impl Received {
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let bytes = payload.get(HEADER..HEADER + BODY)?;
        Some(Self {
            segments: u32_at(bytes, 0),
            ended: u32_at(bytes, 4) != 0,
            bytes: u64_at(bytes, 8),
            nanos: u64_at(bytes, 16),
            echoes: u32_at(bytes, 24),
            whole: u32_at(bytes, 28) != 0,
            echo_ns: u64_at(bytes, 32),
        })
    }

    fn write(&self, out: &mut [u8]) {
        out[0..4].copy_from_slice(&self.segments.to_be_bytes());
        out[4..8].copy_from_slice(&u32::from(self.ended).to_be_bytes());
        out[8..16].copy_from_slice(&self.bytes.to_be_bytes());
        out[16..24].copy_from_slice(&self.nanos.to_be_bytes());
        out[24..28].copy_from_slice(&self.echoes.to_be_bytes());
        out[28..32].copy_from_slice(&u32::from(self.whole).to_be_bytes());
        out[32..BODY].copy_from_slice(&self.echo_ns.to_be_bytes());
    }
}

/// A packet with a header alone, or a report.
pub(super) fn build(ends: (u32, u32), header: Header, report: Option<&Received>, pool: &mut Pool) -> Packet {
    let len = IP_UDP + HEADER + if report.is_some() { BODY } else { 0 };
    let mut packet = pool.get_for(len);
    if let Some(storage) = packet.storage_mut() {
        let out = &mut storage[HEADROOM..HEADROOM + len];
        header.write(&mut out[IP_UDP..]);
        if let Some(report) = report {
            report.write(&mut out[IP_UDP + HEADER..]);
        }
        emit_headers(out, ends);
    }
    packet.set_frame(HEADROOM, len, VnetHeader::default());
    parsed(packet)
}

/// How many segments of a train fit a super-packet.
pub(super) fn segments_per_packet(mtu: u16) -> u32 {
    let stride = (usize::from(mtu) - IP_UDP).max(1);
    ((LARGEST / stride) as u32).max(1)
}

/// A super-packet with segments of a train, the first of which `header` describes. Each one fills `mtu` bytes.
pub(super) fn build_train(ends: (u32, u32), header: Header, count: u32, mtu: u16, pool: &mut Pool) -> Packet {
    let stride = usize::from(mtu) - IP_UDP;
    let len = IP_UDP + count as usize * stride;
    let mut packet = pool.get_for(len);
    if let Some(storage) = packet.storage_mut() {
        let out = &mut storage[HEADROOM..HEADROOM + len];
        for (segment, number) in out[IP_UDP..].chunks_mut(stride).zip(header.number..) {
            Header { number, ..header }.write(segment);
            segment[HEADER..].fill(0);
        }
        emit_headers(out, ends);
    }
    let vnet = if count > 1 {
        let (gso_type, gso_size) = (GSO_UDP_L4, stride as u16);
        VnetHeader { gso_type, gso_size, hdr_len: IP_UDP as u16, ..VnetHeader::default() }
    } else {
        VnetHeader { gso_type: GSO_NONE, ..VnetHeader::default() }
    };
    packet.set_frame(HEADROOM, len, vnet);
    parsed(packet)
}

/// Reads the headers that were written here, as links expect of the packets that they are given.
fn parsed(mut packet: Packet) -> Packet {
    let result = packet.parse(u16::MAX);
    debug_assert_eq!(result, Ok(()), "probes build valid packets");
    packet
}

/// Writes IP and UDP headers in front of a payload; without a UDP checksum, as packets of sessions.
fn emit_headers(packet: &mut [u8], ends: (u32, u32)) {
    let len = packet.len();
    ip::emit(packet, ends.0, ends.1, ip::UDP, len as u16);
    let udp = &mut packet[ip::HEADER..];
    udp[0..2].copy_from_slice(&PROBE_PORT.to_be_bytes());
    udp[2..4].copy_from_slice(&PROBE_PORT.to_be_bytes());
    udp[4..6].copy_from_slice(&((len - ip::HEADER) as u16).to_be_bytes());
    udp[6..8].fill(0);
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) << 32 | u64::from(u32_at(bytes, at + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_reports_are_unchanged_by_writing_and_reading() {
        let header = Header {
            kind: Kind::Report,
            below: true,
            train: 513,
            number: 70_000,
            probe: 1 << 40 | 7,
            time: 1 << 50 | 9,
            total: 80_000,
        };
        let report = Received {
            segments: 3,
            ended: true,
            bytes: 1 << 33,
            nanos: 5,
            echoes: 6,
            whole: true,
            echo_ns: 1 << 34,
        };
        let mut bytes = [0xff; HEADER + BODY];
        header.write(&mut bytes);
        report.write(&mut bytes[HEADER..]);
        assert_eq!(Header::read(&bytes), Some(header));
        assert_eq!(Received::read(&bytes), Some(report));
    }

    #[test]
    fn short_payloads_and_unknown_kinds_are_not_read() {
        let bytes = [Kind::Train as u8; HEADER + BODY];
        assert!(Header::read(&bytes).is_some());
        for len in 0..HEADER {
            assert_eq!(Header::read(&bytes[..len]), None);
        }
        assert_eq!(Received::read(&bytes[..HEADER + BODY - 1]), None);
        assert_eq!(Header::read(&[6; HEADER]), None);
    }
}
