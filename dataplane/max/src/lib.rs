//! Parsers and encoders of max mode, in which a TCP flow ends at its first node and is carried over one connection per
//! hop to its last.
//!
//! [`socks`] is the server's side of SOCKS5 (RFC 1928, RFC 1929), by which a client names its destination. [`hop`] is the
//! header that a node sends to the next one, and the answer to it.
//!
//! Both are state machines that tell how many bytes they want next. The caller reads no more than that, so that every
//! byte behind the last message stays in the socket and can be spliced.

#![forbid(unsafe_code)]

mod address;
pub mod hop;
mod reply;
pub mod socks;

pub use address::{Destination, Host, MAX_NAME};
pub use reply::Reply;
