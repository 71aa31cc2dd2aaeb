//! Move the bytes of one direction of a flow from one connection to the other.

use std::io::{self, ErrorKind};
use std::net::TcpStream;

use nm_kernel::splice::Pipe;

use super::end::End;
use super::local::LocalEnd;

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

/// What a turn has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Bytes that were taken from a connection or given to one. Another turn may move more unless this is 0.
    pub moved: usize,
    /// The node before this one, in this process, may send more.
    pub freed: bool,
    /// The node behind this one, in this process, has more to take.
    pub sent: bool,
}

/// One direction of a flow.
#[derive(Default)]
pub struct Direction {
    /// Between two sockets. To a node in this process, and from one, the bytes are in the pipe of the hop.
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

    /// Moves what one turn can.
    ///
    /// # Errors
    ///
    /// A connection is broken: the flow must be reset.
    pub fn turn(&mut self, from: &End, to: &End, pipes: &mut Pipes) -> io::Result<Turn> {
        let mut turn = Turn::default();
        match (from, to) {
            (End::Tcp(source), End::Tcp(destination)) => {
                let mut pipe = self.pipe.take();
                turn.moved = self.fill(source, &mut pipe, pipes)?;
                let drained = self.drain(&mut pipe, destination, pipes)?;
                self.bytes += drained as u64;
                turn.moved += drained;
                self.pipe = pipe;
            }
            (End::Tcp(source), End::Local(next)) => {
                turn.moved = next.sent(|to| self.fill(source, &mut to.pipe, pipes))?;
                self.bytes += turn.moved as u64;
                turn.sent = turn.moved > 0;
            }
            (End::Local(previous), End::Tcp(destination)) => {
                turn.moved =
                    previous.received(|from| self.drain(&mut from.pipe, destination, pipes))?;
                self.bytes += turn.moved as u64;
                turn.freed = turn.moved > 0;
            }
            (End::Local(previous), End::Local(next)) => {
                turn.moved = hand_on(previous, next, pipes)?;
                self.bytes += turn.moved as u64;
                (turn.freed, turn.sent) = (turn.moved > 0, turn.moved > 0);
            }
        }
        if let End::Local(previous) = from {
            self.ended = previous.received(|from| from.ended && from.pipe.is_none());
        }
        if self.ended && self.pipe.is_none() && !self.finished {
            // The peer may have closed its connection completely; then it needs no end of the stream.
            let _ = to.finish();
            self.finished = true;
            turn.sent = true;
        }
        Ok(turn)
    }

    /// Fills a pipe from a socket.
    fn fill(
        &mut self,
        from: &TcpStream,
        pipe: &mut Option<Pipe>,
        pipes: &mut Pipes,
    ) -> io::Result<usize> {
        if !self.readable || self.ended {
            return Ok(0);
        }
        let mut into = match pipe.take() {
            Some(pipe) => pipe,
            None => pipes.take()?,
        };
        let outcome = into.fill(from);
        let held = into.held();
        match held {
            0 => pipes.put(into),
            _ => *pipe = Some(into),
        }
        match outcome {
            Ok(0) => {
                self.ended = true;
                Ok(0)
            }
            Ok(moved) => Ok(moved),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                // With bytes in the pipe it may be the pipe that is full; the source is asked again once it is empty.
                self.readable = held > 0;
                Ok(0)
            }
            Err(e) => Err(e),
        }
    }

    /// Drains a pipe into a socket.
    fn drain(
        &mut self,
        pipe: &mut Option<Pipe>,
        to: &TcpStream,
        pipes: &mut Pipes,
    ) -> io::Result<usize> {
        let Some(from) = pipe.as_mut().filter(|_| self.writable) else {
            return Ok(0);
        };
        match from.drain(to) {
            Ok(moved) => {
                if from.held() == 0 {
                    pipe.take().into_iter().for_each(|empty| pipes.put(empty));
                }
                Ok(moved)
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                self.writable = false;
                Ok(0)
            }
            Err(e) => Err(e),
        }
    }
}

/// Moves the bytes of one hop to the next one: its pipe as it is, or what the other one has space for.
fn hand_on(previous: &LocalEnd, next: &LocalEnd, pipes: &mut Pipes) -> io::Result<usize> {
    previous.received(|from| {
        next.sent(|to| {
            let Some(pipe) = &mut from.pipe else {
                return Ok(0);
            };
            let Some(into) = &mut to.pipe else {
                let moved = pipe.held();
                to.pipe = from.pipe.take();
                return Ok(moved);
            };
            let moved = match pipe.transfer(into) {
                Ok(moved) => moved,
                Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
                Err(e) => return Err(e),
            };
            if pipe.held() == 0 {
                from.pipe
                    .take()
                    .into_iter()
                    .for_each(|empty| pipes.put(empty));
            }
            Ok(moved)
        })
    })
}
