//! Enhanced packet blocks of pcapng (draft-ietf-opsawg-pcapng, section 4.3), in little-endian order.
//!
//! Written here and not by the crate `pcap-file`: a packet is appended as it is made from its super-packet, without a
//! copy in between, and the only block of this stream is this one.

/// Type of the block.
const ENHANCED_PACKET: u32 = 6;
/// Options: the end, a comment, the flags.
const END_OF_OPTIONS: u16 = 0;
const COMMENT: u16 = 1;
const FLAGS: u16 = 2;
/// Values of the direction in the flags.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// What a block says besides the bytes of its packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Head<'a> {
    /// The number of the interface.
    pub interface: u32,
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    /// The direction: true when it was received.
    pub inbound: Option<bool>,
    /// A comment; empty is none.
    pub comment: &'a str,
}

/// Appends a block. `packet` appends the bytes of the packet; those behind the first `snaplen` are cut off. Returns the
/// length of the packet, or `None` when `keep` refuses its bytes: nothing is appended then.
pub fn append(
    out: &mut Vec<u8>,
    head: Head<'_>,
    snaplen: u32,
    packet: impl FnOnce(&mut Vec<u8>),
    keep: impl FnOnce(&[u8]) -> bool,
) -> Option<u32> {
    let start = out.len();
    out.extend_from_slice(&ENHANCED_PACKET.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&head.interface.to_le_bytes());
    out.extend_from_slice(&((head.time_ns >> 32) as u32).to_le_bytes());
    out.extend_from_slice(&(head.time_ns as u32).to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    let data = out.len();
    packet(out);
    if !keep(&out[data..]) {
        out.truncate(start);
        return None;
    }
    let length = (out.len() - data) as u32;
    let captured = length.min(snaplen);
    out.truncate(data + captured as usize);
    out[data - 8..data - 4].copy_from_slice(&captured.to_le_bytes());
    out[data - 4..data].copy_from_slice(&length.to_le_bytes());
    pad(out, captured as usize);
    append_options(out, head);
    let total = (out.len() - start + 4) as u32;
    out[start + 4..start + 8].copy_from_slice(&total.to_le_bytes());
    out.extend_from_slice(&total.to_le_bytes());
    Some(length)
}

fn append_options(out: &mut Vec<u8>, head: Head<'_>) {
    if let Some(inbound) = head.inbound {
        let flags = if inbound { INBOUND } else { OUTBOUND };
        append_option(out, FLAGS, &flags.to_le_bytes());
    }
    if !head.comment.is_empty() {
        append_option(out, COMMENT, head.comment.as_bytes());
    }
    if head.inbound.is_some() || !head.comment.is_empty() {
        append_option(out, END_OF_OPTIONS, &[]);
    }
}

fn append_option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(value);
    pad(out, value.len());
}

/// Fills up to a multiple of four bytes.
fn pad(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&[0; 3][..length.wrapping_neg() % 4]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(head: Head<'_>, snaplen: u32, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let length = append(
            &mut out,
            head,
            snaplen,
            |out| out.extend_from_slice(bytes),
            |_| true,
        );
        assert_eq!(length, Some(bytes.len() as u32));
        out
    }

    #[test]
    fn a_packet_without_options_is_exactly_these_bytes() {
        let head = Head {
            interface: 3,
            time_ns: 0x0102_0304_0506_0708,
            ..Head::default()
        };
        let wanted = [
            6, 0, 0, 0, 40, 0, 0, 0, 3, 0, 0, 0, 4, 3, 2, 1, 8, 7, 6, 5, 5, 0, 0, 0, 5, 0, 0, 0, 1,
            2, 3, 4, 5, 0, 0, 0, 40, 0, 0, 0,
        ];
        assert_eq!(block(head, 100, &[1, 2, 3, 4, 5]), wanted);
    }

    #[test]
    fn a_dropped_packet_has_its_cause_as_comment_and_a_received_one_its_direction() {
        let head = Head {
            inbound: Some(true),
            comment: "dropped: loss",
            ..Head::default()
        };
        let found = block(head, 100, &[9; 4]);
        let options = [
            &[2, 0, 4, 0, 1, 0, 0, 0, 1, 0, 13, 0][..],
            b"dropped: loss\0\0\0",
            &[0, 0, 0, 0, 68, 0, 0, 0],
        ];
        assert_eq!(found[32..], options.concat());
        assert_eq!(found.len(), 68);
    }

    #[test]
    fn a_long_packet_is_cut_off_and_keeps_its_length() {
        let found = block(Head::default(), 2, &[1, 2, 3, 4, 5]);
        assert_eq!(found[20..32], [2, 0, 0, 0, 5, 0, 0, 0, 1, 2, 0, 0]);
        assert_eq!(found.len(), 36);
    }

    #[test]
    fn a_refused_packet_leaves_no_trace() {
        let mut out = vec![7];
        let refused = append(
            &mut out,
            Head::default(),
            9,
            |out| out.push(1),
            |bytes| bytes != [1],
        );
        assert_eq!((refused, out), (None, vec![7]));
    }
}
