//! Everything the dataplane asks of Linux, behind one door.
//!
//! This is the only crate of the workspace that contains `unsafe`. A use is either one system call wide, or one access
//! to memory that the language cannot check: a mapping that another process writes as well ([`ring`]), or a hint to the
//! processor ([`memory::prefetch`]). What it does for
//! its callers: open a TUN device ([`tun`]), give it an address ([`interface`]), make or enter a namespace
//! ([`namespace`]), wait for readiness ([`poll`]), prepare a socket ([`socket`], [`local`]), share memory with another
//! process ([`ring`]), pin a thread ([`thread`]). Nothing here knows what a node, a link or a route of the testbed is.
//!
//! No helper program is ever started (`ip` costs 10 ms per command); a namespace with a configured TUN device takes
//! well under a millisecond by plain system calls, which is what makes labs of a thousand nodes practical.
//!
//! Failures are one enum, [`KernelError`], whose members carry what was attempted and on what, and a stable
//! identifier that scripts may hold on to.

#![allow(unsafe_code)] // The workspace denies it; this crate is where it is allowed to be.
#![deny(clippy::undocumented_unsafe_blocks)]

mod error;
pub mod interface;
pub mod local;
pub mod memory;
pub mod namespace;
pub mod offload;
pub mod poll;
pub mod ring;
pub mod socket;
pub mod thread;
pub mod tun;

pub use error::{KernelError, Result};
