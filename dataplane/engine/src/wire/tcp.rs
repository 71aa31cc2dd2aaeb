//! The flags of a TCP header (RFC 9293, section 3.1) that begin and end a connection.

use super::ip;
use crate::Packet;

const FLAGS: usize = 13;
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// The flags that matter for the life of a flow; all false where there is no TCP header.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TcpFlags {
    pub opens: bool,
    pub fin: bool,
    pub rst: bool,
}

impl TcpFlags {
    pub(crate) fn of(packet: &Packet) -> Self {
        let meta = packet.meta();
        if meta.protocol != ip::TCP || meta.fragment {
            return Self::default();
        }
        let flags = packet.bytes().get(usize::from(meta.ihl) + FLAGS).copied().unwrap_or_default();
        Self { opens: flags & (SYN | ACK) == SYN, fin: flags & FIN != 0, rst: flags & RST != 0 }
    }
}
