//! Mutual authentication of the two ends of a link between processes (HMAC-SHA256 challenge and response).
//!
//! ```text
//! dialler                                      acceptor
//!    HELLO(version, lab, from, to, nonce) ───▶
//!                                         ◀─── CHALLENGE(nonce, proof)
//!    PROOF(proof) ──────────────────────────▶
//!                                         ◀─── WELCOME
//! ```
//!
//! Both ends of a link have one key of 32 bytes, which the controller sent to each of them and which is never sent
//! between them. A proof is HMAC-SHA256 with this key over the role of its sender and the preceding messages: the
//! version, the lab, both nodes and both nonces. Each end draws a new nonce for each connection, so that no proof can
//! be replayed, and the role in it prevents that a proof is sent back to its author.
//!
//! The acceptor proves itself first: a dialler sends an unauthenticated listener nothing that could not have been
//! guessed. The shared memory of a link is passed with the dialler's proof and accepted after that was verified.
//!
//! This module does no I/O: nonces are arguments, messages are results.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use nm_engine::NodeId;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::frame::{Challenge, Control, Hello, LinkFault, Nonce, Proof, SECRET_BYTES, VERSION};

/// The key of one link, which its two ends share. It has no `==`: what a peer shows is compared in constant time.
#[derive(Clone)]
pub struct LinkSecret([u8; SECRET_BYTES]);

impl LinkSecret {
    /// A key of exactly [`SECRET_BYTES`] bytes; `None` for any other length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    fn proof(&self, role: Role, hello: &Hello, acceptor: &Nonce) -> [u8; SECRET_BYTES] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of every length");
        mac.update(role.label());
        mac.update(&[VERSION]);
        // The length comes first, so that different transcripts never have the same bytes.
        mac.update(&(hello.lab.len() as u64).to_le_bytes());
        mac.update(hello.lab.as_bytes());
        mac.update(&hello.from.to_le_bytes());
        mac.update(&hello.to.to_le_bytes());
        mac.update(&hello.nonce);
        mac.update(acceptor);
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for LinkSecret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("LinkSecret(..)")
    }
}

/// The role of a proof's sender.
#[derive(Clone, Copy)]
enum Role {
    Dialler,
    Acceptor,
}

impl Role {
    /// Neither label is a prefix of the other.
    fn label(self) -> &'static [u8] {
        match self {
            Self::Dialler => b"nm link dial\0",
            Self::Acceptor => b"nm link accept\0",
        }
    }
}

/// The dialler's side, from its hello message to its proof.
pub struct Dialler {
    secret: LinkSecret,
    hello: Hello,
}

impl Dialler {
    /// Starts the handshake; returns the hello message. `nonce` must be new and unpredictable.
    pub fn new(
        secret: LinkSecret,
        lab: String,
        from: NodeId,
        to: NodeId,
        nonce: Nonce,
    ) -> (Self, Control) {
        let hello = Hello {
            lab,
            from,
            to,
            nonce,
        };
        let hello_message = Control::Hello(hello.clone());
        (Self { secret, hello }, hello_message)
    }

    /// Verifies the acceptor; returns the dialler's proof.
    ///
    /// # Errors
    ///
    /// [`LinkFault::Impostor`] when the acceptor does not have the link's key.
    pub fn answer(&self, challenge: &Challenge) -> Result<Control, LinkFault> {
        let acceptor = &challenge.nonce;
        let expected = self.secret.proof(Role::Acceptor, &self.hello, acceptor);
        if !bool::from(expected.ct_eq(&challenge.proof)) {
            return Err(LinkFault::Impostor);
        }
        let proof = self.secret.proof(Role::Dialler, &self.hello, acceptor);
        Ok(Control::Proof(Proof { proof }))
    }
}

/// The acceptor's side, from a hello message for a known link to the dialler's proof.
pub struct Acceptor {
    expected: [u8; SECRET_BYTES],
}

impl Acceptor {
    /// Handles a hello message; returns the challenge. `nonce` must be new and unpredictable.
    pub fn new(secret: &LinkSecret, hello: &Hello, nonce: Nonce) -> (Self, Control) {
        let proof = secret.proof(Role::Acceptor, hello, &nonce);
        let expected = secret.proof(Role::Dialler, hello, &nonce);
        (
            Self { expected },
            Control::Challenge(Challenge { nonce, proof }),
        )
    }

    /// Whether the dialler has the link's key.
    #[must_use]
    pub fn verify(&self, proof: &Proof) -> bool {
        self.expected.ct_eq(&proof.proof).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAB: &str = "ring";

    fn secret(byte: u8) -> LinkSecret {
        LinkSecret::from_bytes(&[byte; SECRET_BYTES]).expect("the right length")
    }

    fn dial(key: u8, lab: &str, from: NodeId, to: NodeId) -> (Dialler, Hello) {
        match Dialler::new(secret(key), lab.into(), from, to, [3; SECRET_BYTES]) {
            (dialler, Control::Hello(hello)) => (dialler, hello),
            (_, other) => panic!("{other:?}"),
        }
    }

    fn accept(key: u8, hello: &Hello, nonce: u8) -> (Acceptor, Challenge) {
        match Acceptor::new(&secret(key), hello, [nonce; SECRET_BYTES]) {
            (acceptor, Control::Challenge(challenge)) => (acceptor, challenge),
            (_, other) => panic!("{other:?}"),
        }
    }

    fn proof(dialler: &Dialler, challenge: &Challenge) -> Proof {
        match dialler.answer(challenge).expect("the acceptor has the key") {
            Control::Proof(proof) => proof,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn two_ends_with_one_key_agree() {
        let (dialler, hello) = dial(7, LAB, 2, 1);
        let (acceptor, challenge) = accept(7, &hello, 4);
        assert!(acceptor.verify(&proof(&dialler, &challenge)));
    }

    #[test]
    fn the_proof_is_hmac_sha256_over_the_transcript() {
        // Computed with Python's hmac module from the module's description.
        let (_, hello) = dial(7, LAB, 2, 1);
        let (_, challenge) = accept(7, &hello, 4);
        let found: String = challenge.proof.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(found, EXPECTED_PROOF);
    }

    #[test]
    fn both_ends_refuse_a_proof_with_another_key() {
        let (dialler, hello) = dial(7, LAB, 2, 1);
        let (_, challenge) = accept(8, &hello, 4);
        assert_eq!(dialler.answer(&challenge), Err(LinkFault::Impostor));
        let (acceptor, right) = accept(7, &hello, 4);
        let (other, _) = dial(8, LAB, 2, 1);
        // The proof that the other dialler would send without checking the challenge.
        let forged = other.secret.proof(Role::Dialler, &hello, &right.nonce);
        assert!(!acceptor.verify(&Proof { proof: forged }));
    }

    #[test]
    fn a_proof_is_refused_in_another_connection_lab_role_or_pair() {
        let (dialler, hello) = dial(7, LAB, 2, 1);
        let (acceptor, challenge) = accept(7, &hello, 4);
        let good = proof(&dialler, &challenge);
        // Replayed: the acceptor has drawn another nonce.
        assert!(!accept(7, &hello, 5).0.verify(&good));
        // Reflected: the acceptor's own proof sent back to it, and the dialler's to the dialler.
        let reflected = Proof {
            proof: challenge.proof,
        };
        assert!(!acceptor.verify(&reflected));
        let mirror = Challenge {
            nonce: challenge.nonce,
            proof: good.proof,
        };
        assert_eq!(dialler.answer(&mirror), Err(LinkFault::Impostor));
        // A challenge that was made for another dialler's nonce.
        let stale = Hello {
            nonce: [9; SECRET_BYTES],
            ..hello.clone()
        };
        assert_eq!(
            dialler.answer(&accept(7, &stale, 4).1),
            Err(LinkFault::Impostor)
        );
        // Another lab or another pair with the same key.
        for (lab, from, to) in [("other", 2, 1), (LAB, 1, 2), (LAB, 3, 1), (LAB, 2, 3)] {
            let (other, other_hello) = dial(7, lab, from, to);
            let (_, theirs) = accept(7, &other_hello, 4);
            assert!(
                !acceptor.verify(&proof(&other, &theirs)),
                "{lab} {from} {to}"
            );
        }
    }

    #[test]
    fn a_key_has_one_length_and_is_not_printed() {
        assert!(LinkSecret::from_bytes(&[]).is_none());
        assert!(LinkSecret::from_bytes(&[1; 31]).is_none());
        assert!(LinkSecret::from_bytes(&[1; 33]).is_none());
        assert_eq!(format!("{:?}", secret(0xab)), "LinkSecret(..)");
    }

    const EXPECTED_PROOF: &str = "725b4758bb3605250ae98b5fdd01988bf1d42b6add05cd4ed84ea2acae4a960e";
}
