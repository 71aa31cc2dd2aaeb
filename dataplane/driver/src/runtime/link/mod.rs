//! Links between processes: the bytes on the stream, independent of who drives it.

pub mod frame;
pub mod handshake;
pub mod stream;
pub mod wire;
