//! Linux system calls of the dataplane, behind safe functions.
//!
//! System calls are made by rustix, by nix for the two that rustix lacks, and by memmap2 for mappings. The remaining
//! `unsafe`: `ioctl`, the type of whose argument is known only to the kernel ([`tun`], [`interface`]), `epoll_pwait2`
//! ([`poll`]), `madvise` and prefetch hints ([`memory`]), access to a mapping that another process writes too
//! ([`ring`]) or has written ([`shared_file`]), and entries of io_uring's queue ([`write_batch`]).
//!
//! The crate opens a TUN device ([`tun`]), sets its address ([`interface`]), creates or enters a namespace
//! ([`namespace`]), waits for readiness ([`poll`]), configures a socket ([`socket`], [`local`], [`abstract_socket`],
//! [`relay_socket`]), moves bytes between sockets ([`splice`]), shares memory with another process ([`ring`],
//! [`shared_file`]), and pins a thread ([`thread`]). It does not depend on nodes, links or routes of the testbed.
//!
//! No helper program is started (`ip` costs 10 ms per command); a namespace with a configured TUN device takes well
//! under a millisecond by system calls, which makes labs of a thousand nodes practical.
//!
//! Errors are one enum, [`KernelError`], whose variants contain the attempted operation, its subject, and a stable
//! identifier for scripts.

#![allow(unsafe_code)] // Denied in the workspace; this crate is the exception.
#![deny(clippy::undocumented_unsafe_blocks)]

pub mod abstract_socket;
mod error;
pub mod interface;
pub mod local;
pub mod memory;
pub mod namespace;
pub mod offload;
pub mod poll;
pub mod relay_socket;
pub mod ring;
pub mod shared_file;
pub mod socket;
pub mod splice;
pub mod thread;
pub mod tun;
pub mod wake_pair;
pub mod write_batch;

pub use error::{KernelError, Result};
