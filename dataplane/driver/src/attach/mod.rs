//! The API of a node for programs of other processes in the node's network namespace.
//!
//! ```text
//! program                                    process of the node
//! client ── call, bytes, descriptor ──▶ server: a thread per program ──▶ Node
//!        ◀── reply, bytes, descriptor ──
//! ```
//!
//! A program connects to an abstract unix socket that only its network namespace has, as a user that the process of
//! the node trusts. It makes one call at a time, and no call waits: the client waits on descriptors
//! ([`WakePair`](nm_kernel::wake_pair::WakePair)), which the node's signals make readable without a detour over the
//! server's thread. Messages pass through the socket. The bytes of a transfer are in a sealed memory file, whose
//! descriptor is passed.
//!
//! What a program opened is closed when it closes the connection or ends ([`session::Session`]). A program that sends
//! invalid calls, or stops in the middle of one, loses its connection; nothing of the node waits for a program.

mod answer;
pub mod client;
mod holders;
mod limits;
mod perform;
mod server;
mod session;
mod transfers;
pub mod watcher;
pub mod wire;

pub use client::Client;
pub use server::serve;
pub use watcher::Watcher;

/// The abstract name under which the programs of a node find it.
pub const NAME: &str = "nextmini_py.attach";
