//! Linux system calls of the dataplane, behind safe functions.
//!
//! System calls are made by rustix, by nix for the two that rustix lacks, and by memmap2 for mappings. The remaining
//! `unsafe`: `ioctl`, whose argument's type only the kernel knows ([`tun`], [`interface`]), `epoll_pwait2`
//! ([`poll`]), `madvise` and prefetch hints ([`memory`]), and access to a mapping that another process writes as well
//! ([`ring`]). The crate opens a TUN device ([`tun`]), gives it an address ([`interface`]), makes or enters a
//! namespace ([`namespace`]), waits for readiness ([`poll`]), prepares a socket ([`socket`], [`local`]), shares
//! memory with another process ([`ring`]), and pins a thread ([`thread`]). Nothing here knows what a node, a link or
//! a route of the testbed is.
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
