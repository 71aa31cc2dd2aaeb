//! The connection to the controller: one per controller, shared by all nodes of the process.
//!
//! ```text
//! node ──Input──▶ connection ──frames──▶ controller
//!   ▲                │  ▲                    │
//!   └──Executor──── member ◀────orders───────┘
//! ```
//!
//! Everything here runs on one thread, which must not block: not on a packet thread, a name server or a controller
//! that does not read. A [`member::Member`] holds the state that the controller requested of a node and turns orders
//! into effects. A node's [`Executor`] starts these and reports their results later; only then is the order
//! acknowledged. The connection itself moves frames, keeps pending requests until they are answered, and reconnects
//! after a loss. Packets do not pass through it: transfers continue without a controller.

mod attached;
mod connect_delays;
mod connection;
mod dial;
mod error;
mod interface;
pub mod member;
mod pool;
mod requests;
mod resolve;
mod session;
mod state_filter;

pub use error::ControlError;
pub(crate) use interface::Input;
pub use interface::{ControlHandle, Done, Endpoint, Executor, LinkReport, Registration, Reply};
pub use member::{impairments, link_spec, Effect, Identity};

/// Attaches a node to a controller. Returns at once; `reply` is called when the controller has accepted the node and
/// sent its settings, or when that failed.
///
/// # Errors
///
/// [`ControlError::Start`] when the control thread cannot be started.
pub fn attach(
    endpoint: Endpoint,
    registration: Registration,
    reply: Reply<()>,
) -> Result<ControlHandle, ControlError> {
    let node = registration.identity.node_id;
    let input = pool::send(endpoint, Input::Attach(Box::new(registration), reply))?;
    Ok(ControlHandle::new(node, input))
}

#[cfg(test)]
mod tests;
