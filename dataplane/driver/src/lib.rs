//! What surrounds the pure engine in a process: settings, the controller, threads, sockets and devices.
//!
//! ```text
//! config ──▶ node ──▶ control   one thread; websocket to the controller, orders become commands
//!             │  ◀──────┘
//!             └─────▶ runtime   a thread per core; engines, TUN devices, links
//! ```
//!
//! [`node::Node`] is the public API. Packets never leave `runtime`; messages for a program do, through a queue.

pub mod config;
pub(crate) mod control;
pub mod node;
pub mod runtime;
