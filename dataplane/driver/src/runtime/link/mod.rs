//! Links between processes: protocol and transport of the byte stream, independent of the shard that uses it.

pub mod frame;
pub mod handshake;
pub mod stream;
pub mod wire;
