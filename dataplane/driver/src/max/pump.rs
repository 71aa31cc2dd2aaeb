//! Move the bytes of one direction of a flow from one connection to the other.

use std::io::{self, ErrorKind};

use nm_kernel::splice::Pipe;

use super::end::End;

/// Empty pipes kept for reuse by all flows: creating one with a large capacity costs tens of microseconds.
const KEPT_PIPES: usize = 64;

/// Empty pipes. A flow has a pipe only while bytes are in it.
#[derive(Default)]
pub struct Pipes(Vec<Pipe>);

impl Pipes {
    fn take(&mut self) -> io::Result<Pipe> {
        match self.0.pop() {
            Some(pipe) => Ok(pipe),
            None => Pipe::new().map_err(io::Error::other),
        }
    }

    fn put(&mut self, pipe: Pipe) {
        if self.0.len() < KEPT_PIPES {
            self.0.push(pipe);
        }
    }
}

/// One direction of a flow.
#[derive(Default)]
pub struct Direction {
    pipe: Option<Pipe>,
    /// Bytes that were passed on.
    pub bytes: u64,
    /// Those at the last report.
    reported: u64,
    /// The sender has ended its stream.
    ended: bool,
    /// The end was passed on.
    pub finished: bool,
    /// The source may have bytes; false after it had none, until the kernel reports some.
    pub readable: bool,
    /// The same of the destination's free space.
    pub writable: bool,
}

impl Direction {
    /// A direction whose connections may be ready.
    pub fn new() -> Self {
        Self {
            readable: true,
            writable: true,
            ..Self::default()
        }
    }

    /// Whether bytes were passed on since the last call.
    pub fn take_progress(&mut self) -> bool {
        std::mem::replace(&mut self.reported, self.bytes) != self.bytes
    }

    /// Moves what one turn can; returns whether another turn may move more.
    ///
    /// # Errors
    ///
    /// A connection is broken: the flow must be reset.
    pub fn turn(&mut self, from: &End, to: &End, pipes: &mut Pipes) -> io::Result<bool> {
        let mut moved = self.fill(from, pipes)?;
        moved |= self.drain(to)?;
        if let Some(pipe) = self.pipe.take_if(|pipe| pipe.held() == 0) {
            pipes.put(pipe);
        }
        if self.ended && self.pipe.is_none() && !self.finished {
            // The peer may have closed its connection completely; then it needs no end of the stream.
            let _ = to.finish();
            self.finished = true;
        }
        Ok(moved)
    }

    fn fill(&mut self, from: &End, pipes: &mut Pipes) -> io::Result<bool> {
        if !self.readable || self.ended {
            return Ok(false);
        }
        let pipe = match &mut self.pipe {
            Some(pipe) => pipe,
            none => none.insert(pipes.take()?),
        };
        match pipe.fill(from) {
            Ok(0) => {
                self.ended = true;
                Ok(false)
            }
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                // With bytes in the pipe it may be the pipe that is full; the source is asked again once it is empty.
                self.readable = pipe.held() > 0;
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    fn drain(&mut self, to: &End) -> io::Result<bool> {
        let Some(pipe) = self.pipe.as_mut().filter(|pipe| pipe.held() > 0) else {
            return Ok(false);
        };
        if !self.writable {
            return Ok(false);
        }
        match pipe.drain(to) {
            Ok(moved) => {
                self.bytes += moved as u64;
                Ok(moved > 0)
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                self.writable = false;
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }
}
