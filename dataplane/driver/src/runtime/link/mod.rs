//! Links between processes: the bytes on the stream, independent of who drives it.

pub mod frame;
pub mod stream;
pub mod wire;
