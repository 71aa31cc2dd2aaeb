//! Fuzz targets: one function for each interface at which bytes from outside enter the dataplane.
//!
//! | Target | Enters at | Held to |
//! | --- | --- | --- |
//! | [`control`] | messages of the control protocol, both directions | what was read can be written and read again |
//! | [`stream`] | frames of a link, in any chunks | what a plain reader makes of the same bytes |
//! | [`packets`] | packets with virtio headers from a device and from links | a slow segmentation; limits; counters |
//! | [`sessions`] | messages of the lossless protocol, with sessions open | lengths; bounded answers |
//! | [`max`] | SOCKS5 clients and headers of hops in max mode, in any pieces | what was read can be written and read again |
//! | [`ring`] | shared memory that the other process corrupts | a queue of bytes |
//!
//! Each takes any bytes and panics where a check fails. `scripts/fuzz.sh` searches for such bytes with libFuzzer;
//! `cargo test -p nm-fuzz` replays the stored ones (`corpus/TARGET/*`).

#![forbid(unsafe_code)]

pub mod control;
mod input;
pub mod max;
pub mod packets;
mod reference;
pub mod ring;
pub mod sessions;
mod setup;
mod specs;
pub mod stream;

/// A target: its name, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 6] = [
    ("control", control::run),
    ("stream", stream::run),
    ("packets", packets::run),
    ("sessions", sessions::run),
    ("ring", ring::run),
    ("max", max::run),
];
