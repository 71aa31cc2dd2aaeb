//! Settings, controller connection, threads, sockets and devices around the packet engine.
//!
//! ```text
//! config ──▶ node ──▶ control   one thread; websocket to the controller, orders become commands
//!             │  ◀──────┘
//!             └─────▶ runtime   a thread per core; engines, TUN devices, links
//! ```
//!
//! [`capture`] streams copies of packets to local programs that ask at a unix socket.
//!
//! [`node::Node`] is the public API; [`attach`] offers it to programs of other processes. Packets stay in `runtime`;
//! messages for a program leave it through a queue.

pub mod attach;
mod backoff;
pub mod capture;
pub mod config;
pub(crate) mod control;
pub mod max;
pub mod node;
pub mod runtime;
mod tls;

pub use nm_messages::Value;
