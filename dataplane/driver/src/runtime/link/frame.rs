//! Frames on a stream between two processes.
//!
//! ```text
//! u32 length of what follows the header │ u16 flags │ u16 hops │ u32 route │ virtio header (10) │ IP packet
//! ```
//!
//! All numbers are little endian, as in the virtio header. With [`CONTROL`] set in the flags the rest is not a packet
//! but a message between the two drivers; its kind is in the low byte. `hops` carries
//! [`Packet::hops`](nm_engine::Packet::hops), so that a routing loop over several processes is detected too,
//! and `route` carries [`Packet::route`](nm_engine::Packet::route), so that the nodes behind the first one follow its
//! choice.

use nm_engine::{NodeId, VnetHeader, MAX_IP_HEADER};

/// Bytes of a key, of a nonce and of a proof: the output of SHA-256.
pub const SECRET_BYTES: usize = 32;

/// A number that is used once.
pub type Nonce = [u8; SECRET_BYTES];

/// Bytes in front of every packet.
pub const HEADER: usize = 12 + VnetHeader::LEN;
/// The longest packet: the largest total length of IPv4.
pub const MAX_PACKET: usize = 65_535;
/// The longest message between drivers. A hello message with a long lab name has a few hundred bytes.
pub const MAX_CONTROL: usize = 2048;
/// Set in the flags of a message between drivers.
pub const CONTROL: u16 = 0x8000;
/// Room for a frame header together with a rewritten IP header.
pub const HEAD_ROOM: usize = HEADER + MAX_IP_HEADER;

/// A frame header, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    pub length: usize,
    pub flags: u16,
    pub hops: u16,
    pub route: u32,
    pub vnet: VnetHeader,
}

impl FrameHeader {
    /// The header as bytes.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&(self.length as u32).to_le_bytes());
        bytes[4..6].copy_from_slice(&self.flags.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.hops.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.route.to_le_bytes());
        bytes[12..].copy_from_slice(&self.vnet.to_bytes());
        bytes
    }

    /// Decodes a header and refuses lengths that no valid peer sends.
    pub fn decode(bytes: &[u8; HEADER]) -> Result<Self, LinkFault> {
        let length = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        let flags = u16::from_le_bytes([bytes[4], bytes[5]]);
        let hops = u16::from_le_bytes([bytes[6], bytes[7]]);
        let route = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        let mut vnet = [0; VnetHeader::LEN];
        vnet.copy_from_slice(&bytes[12..]);
        let limit = if flags & CONTROL != 0 {
            MAX_CONTROL
        } else {
            MAX_PACKET
        };
        if length > limit {
            return Err(LinkFault::TooLarge { length, limit });
        }
        Ok(Self {
            length,
            flags,
            hops,
            route,
            vnet: VnetHeader::from_bytes(&vnet),
        })
    }

    /// The kind of a message between drivers, if the frame is one.
    pub fn control(&self) -> Option<u8> {
        (self.flags & CONTROL != 0).then_some(self.flags as u8)
    }
}

/// Why a link between processes ended or never came up. The text is shown to the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkFault {
    /// The stream ended between two frames.
    #[error("the neighbour closed the link")]
    Closed,
    /// The stream ended inside a frame.
    #[error("the link ended in the middle of a packet")]
    Truncated,
    /// An invalid length.
    #[error("the neighbour announced a frame of {length} bytes; at most {limit} are possible")]
    TooLarge {
        /// The announced length.
        length: usize,
        /// The largest valid length.
        limit: usize,
    },
    /// Invalid bytes, or a message that is not allowed at this point.
    #[error("the neighbour violates the link protocol: {0}")]
    Protocol(&'static str),
    /// The neighbour refused the link, with the reason.
    #[error("the neighbour refused the link: {0}")]
    Refused(String),
    /// The answering process does not have the link's key.
    #[error(
        "the answering process is not the neighbour: it could not prove that it has the link's key"
    )]
    Impostor,
    /// The neighbour ended the link, with the reason.
    #[error("the neighbour ended the link: {0}")]
    Goodbye(String),
    /// The neighbour did not answer in time.
    #[error("the neighbour did not answer in time")]
    Timeout,
    /// An error of the operating system.
    #[error("{0}")]
    Io(String),
}

/// A message between two drivers. [`handshake`](super::handshake) defines their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// The dialler's first message.
    Hello(Hello),
    /// The acceptor's proof, and its request for the dialler's proof.
    Challenge(Challenge),
    /// The dialler's proof; a shared memory descriptor comes with it.
    Proof(Proof),
    /// The link is up; `shared` when it uses the memory that came with the proof.
    Welcome { shared: bool },
    /// The link is refused, with the reason.
    Refuse(String),
    /// The link ends, with the reason.
    Bye(String),
}

/// The two ends of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub lab: String,
    pub from: NodeId,
    pub to: NodeId,
    pub nonce: Nonce,
}

/// The acceptor's nonce, and the proof that it has the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    pub nonce: Nonce,
    pub proof: [u8; SECRET_BYTES],
}

/// The proof that the dialler has the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub proof: [u8; SECRET_BYTES],
}

/// Increases when the frame format changes; both ends must have the same version.
pub const VERSION: u8 = 3;
const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const REFUSE: u8 = 3;
const BYE: u8 = 4;
const CHALLENGE: u8 = 5;
const PROOF: u8 = 6;
/// In a welcome: the link uses shared memory.
const SHARED: u8 = 1;

impl Control {
    /// The complete frame.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, body) = match self {
            Self::Hello(hello) => (HELLO, hello.encode()),
            Self::Challenge(challenge) => (CHALLENGE, [challenge.nonce, challenge.proof].concat()),
            Self::Proof(proof) => (PROOF, proof.proof.to_vec()),
            Self::Welcome { shared: false } => (WELCOME, Vec::new()),
            Self::Welcome { shared: true } => (WELCOME, vec![SHARED]),
            Self::Refuse(reason) => (REFUSE, short(reason)),
            Self::Bye(reason) => (BYE, short(reason)),
        };
        let header = FrameHeader {
            length: body.len(),
            flags: CONTROL | u16::from(kind),
            hops: 0,
            route: 0,
            vnet: VnetHeader::default(),
        };
        let mut frame = header.encode().to_vec();
        frame.extend_from_slice(&body);
        frame
    }

    /// Decodes the body of a frame of that kind.
    pub fn decode(kind: u8, body: &[u8]) -> Result<Self, LinkFault> {
        let text = || String::from_utf8_lossy(body).into_owned();
        match kind {
            HELLO => Hello::decode(body).map(Self::Hello),
            CHALLENGE => {
                let mut rest = body;
                let (nonce, proof) = (take_array(&mut rest)?, take_array(&mut rest)?);
                nothing_more(rest)?;
                Ok(Self::Challenge(Challenge { nonce, proof }))
            }
            PROOF => {
                let mut rest = body;
                let proof = take_array(&mut rest)?;
                nothing_more(rest)?;
                Ok(Self::Proof(Proof { proof }))
            }
            WELCOME => match body {
                [] => Ok(Self::Welcome { shared: false }),
                [SHARED] => Ok(Self::Welcome { shared: true }),
                _ => Err(LinkFault::Protocol("a welcome to something unknown")),
            },
            REFUSE => Ok(Self::Refuse(text())),
            BYE => Ok(Self::Bye(text())),
            _ => Err(LinkFault::Protocol("unknown kind of message")),
        }
    }
}

/// Reasons are sentences; one that is longer than half the limit is cut.
fn short(reason: &str) -> Vec<u8> {
    reason.bytes().take(MAX_CONTROL / 2).collect()
}

impl Hello {
    fn encode(&self) -> Vec<u8> {
        let mut body = vec![VERSION];
        body.extend_from_slice(&self.from.to_le_bytes());
        body.extend_from_slice(&self.to.to_le_bytes());
        body.extend_from_slice(&self.nonce);
        let lab = &self.lab.as_bytes()[..self.lab.len().min(MAX_CONTROL / 4)];
        body.extend_from_slice(&(lab.len() as u16).to_le_bytes());
        body.extend_from_slice(lab);
        body
    }

    fn decode(body: &[u8]) -> Result<Self, LinkFault> {
        let mut rest = body;
        let version = take(&mut rest, 1)?[0];
        if version != VERSION {
            return Err(LinkFault::Protocol("another version"));
        }
        let from = take_u32(&mut rest)?;
        let to = take_u32(&mut rest)?;
        let nonce = take_array(&mut rest)?;
        let lab = take_text(&mut rest)?;
        nothing_more(rest)?;
        Ok(Self {
            lab,
            from,
            to,
            nonce,
        })
    }
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], LinkFault> {
    if rest.len() < count {
        return Err(LinkFault::Protocol("a message cut short"));
    }
    let (taken, left) = rest.split_at(count);
    *rest = left;
    Ok(taken)
}

fn take_array(rest: &mut &[u8]) -> Result<[u8; SECRET_BYTES], LinkFault> {
    let mut array = [0; SECRET_BYTES];
    array.copy_from_slice(take(rest, SECRET_BYTES)?);
    Ok(array)
}

fn nothing_more(rest: &[u8]) -> Result<(), LinkFault> {
    match rest {
        [] => Ok(()),
        _ => Err(LinkFault::Protocol("a message that is too long")),
    }
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, LinkFault> {
    let bytes = take(rest, 4)?;
    Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

fn take_text(rest: &mut &[u8]) -> Result<String, LinkFault> {
    let bytes = take(rest, 2)?;
    let length = usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
    let text = take(rest, length)?;
    String::from_utf8(text.to_vec()).map_err(|_| LinkFault::Protocol("text that is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            lab: "ring".into(),
            from: 7,
            to: 2,
            nonce: [5; SECRET_BYTES],
        }
    }

    #[test]
    fn messages_are_unchanged_by_encoding_and_decoding() {
        let all = [
            Control::Hello(hello()),
            Control::Challenge(Challenge {
                nonce: [6; SECRET_BYTES],
                proof: [7; SECRET_BYTES],
            }),
            Control::Proof(Proof {
                proof: [8; SECRET_BYTES],
            }),
            Control::Welcome { shared: false },
            Control::Welcome { shared: true },
            Control::Refuse("no".into()),
            Control::Bye("done".into()),
        ];
        for message in all {
            let frame = message.encode();
            let header = FrameHeader::decode(frame[..HEADER].try_into().expect("a header"))
                .expect("a length");
            assert_eq!(header.length, frame.len() - HEADER);
            let kind = header.control().expect("a message");
            assert_eq!(Control::decode(kind, &frame[HEADER..]), Ok(message));
        }
    }

    #[test]
    fn a_handshake_cut_anywhere_or_longer_is_refused_and_never_panics() {
        let challenge = Challenge {
            nonce: [6; SECRET_BYTES],
            proof: [7; SECRET_BYTES],
        };
        let proof = Proof {
            proof: [8; SECRET_BYTES],
        };
        for (kind, message) in [
            (HELLO, Control::Hello(hello())),
            (CHALLENGE, Control::Challenge(challenge)),
            (PROOF, Control::Proof(proof)),
        ] {
            let mut frame = message.encode();
            for cut in HEADER..frame.len() {
                let outcome = Control::decode(kind, &frame[HEADER..cut]);
                assert!(
                    matches!(outcome, Err(LinkFault::Protocol(_))),
                    "{cut}: {outcome:?}"
                );
            }
            frame.push(0);
            assert!(Control::decode(kind, &frame[HEADER..]).is_err());
        }
    }

    #[test]
    fn invalid_lengths_are_refused() {
        let mut header = FrameHeader {
            length: MAX_PACKET + 1,
            flags: 0,
            hops: 0,
            route: 0,
            vnet: VnetHeader::default(),
        };
        assert!(matches!(
            FrameHeader::decode(&header.encode()),
            Err(LinkFault::TooLarge { .. })
        ));
        header.length = MAX_CONTROL + 1;
        assert!(FrameHeader::decode(&header.encode()).is_ok());
        header.flags = CONTROL;
        assert!(matches!(
            FrameHeader::decode(&header.encode()),
            Err(LinkFault::TooLarge { .. })
        ));
    }
}
