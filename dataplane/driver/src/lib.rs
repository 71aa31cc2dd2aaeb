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
//! [`node::Node`] is the public API. Packets stay in `runtime`; messages for a program leave it through a queue.

mod backoff;
pub mod capture;
pub mod config;
pub(crate) mod control;
pub mod node;
pub mod runtime;
