//! One connection to a controller: getting a line, keeping it, and getting it back.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use nm_messages::batches;
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{interval, timeout, Instant, MissedTickBehavior};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::WebSocketStream;

use super::backoff::Backoff;
use super::desk::Desk;
use super::dial::{dial, Failure, Line};
use super::{hub, Door, Input};

/// How often time limits are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How often it is looked whose counters are due.
const MEASURE_ROUND: Duration = Duration::from_secs(1);
/// How often a silent line is tried, and after how much silence it is given up.
const PING_EVERY: Duration = Duration::from_secs(10);
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// A controller that does not take bytes for this long is as good as gone.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// How long a controller that refused nodes which it knew before is left alone.
const REFUSED_PAUSE: Duration = Duration::from_secs(2);
/// Inputs taken at once, so that a thousand registrations become a few messages.
const BATCH: usize = 1024;

pub(super) struct Connection {
    door: Door,
    inputs: UnboundedReceiver<Input>,
    desk: Desk,
}

impl Connection {
    pub fn new(door: Door, inputs: UnboundedReceiver<Input>) -> Self {
        let desk = Desk::new(door.addr.clone());
        Connection { door, inputs, desk }
    }

    /// Lives until the last node has left.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(self.door.process ^ 0x9e37_79b9_7f4a_7c15);
        while self.has_work() {
            let pause = match self.connect().await {
                Some(Ok(line)) => {
                    backoff.found();
                    let opened = Instant::now();
                    let reason = self.talk(line).await;
                    // A controller that drops us at once is not asked at once again.
                    if opened.elapsed() > TICK {
                        backoff.reset();
                    }
                    self.desk.line_lost(&reason);
                    backoff.draw()
                }
                Some(Err(Failure::Again(reason))) => {
                    self.desk.attempt_failed(reason);
                    backoff.draw()
                }
                Some(Err(Failure::Refused(error))) => {
                    self.desk.refused(&error);
                    REFUSED_PAUSE
                }
                None => continue,
            };
            self.pause(pause).await;
        }
    }

    /// Whether somebody is here or about to come; after a no the hub knows this connection no more.
    fn has_work(&mut self) -> bool {
        while let Ok(input) = self.inputs.try_recv() {
            self.desk.take(input);
        }
        !self.desk.is_empty() || !hub::retire(&self.door, &self.inputs)
    }

    /// Tries once to get a line; nodes may come and go meanwhile. `None` when none is left.
    async fn connect(&mut self) -> Option<Result<Line, Failure>> {
        let door = self.door.clone();
        let attempt = dial(&door);
        tokio::pin!(attempt);
        let mut tick = interval(TICK);
        loop {
            tokio::select! {
                result = &mut attempt => return Some(result),
                input = self.inputs.recv() => match input {
                    Some(input) => self.desk.take(input),
                    None => return None,
                },
                _ = tick.tick() => self.desk.expire(),
            }
            self.desk.say_left();
            if self.desk.is_empty() {
                return None;
            }
        }
    }

    /// Waits before the next attempt; a node that comes new is not made to wait.
    async fn pause(&mut self, length: Duration) {
        let end = Instant::now() + length;
        let mut tick = interval(TICK);
        while Instant::now() < end && !self.desk.is_empty() {
            tokio::select! {
                () = tokio::time::sleep_until(end) => {}
                input = self.inputs.recv() => match input {
                    Some(input) => {
                        let newcomer = matches!(input, Input::Attach(..));
                        self.desk.take(input);
                        if newcomer {
                            return;
                        }
                    }
                    None => return,
                },
                _ = tick.tick() => self.desk.expire(),
            }
            self.desk.say_left();
        }
        self.desk.expire();
    }

    /// Speaks with the controller until the line is lost or the last node leaves; says why it ended.
    async fn talk(&mut self, line: Line) -> String {
        let Line { mut socket, local } = line;
        self.desk.line_opened(local);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut heard, mut pinged, mut measured) =
            (Instant::now(), Instant::now(), Instant::now());
        let mut batch = Vec::with_capacity(64);
        loop {
            if let Err(reason) = self.flush(&mut socket).await {
                return reason;
            }
            self.desk.say_left();
            if self.desk.is_empty() {
                let _ = timeout(WRITE_LIMIT, socket.close(None)).await;
                return "the last node has left".to_owned();
            }
            tokio::select! {
                message = socket.next() => {
                    heard = Instant::now();
                    match message {
                        Some(Ok(Message::Binary(bytes))) => self.desk.hear(&bytes),
                        Some(Ok(Message::Close(_))) | None => return "the controller closed it".to_owned(),
                        Some(Ok(_)) => {}
                        Some(Err(error)) => return error.to_string(),
                    }
                }
                _ = self.inputs.recv_many(&mut batch, BATCH) => {
                    batch.drain(..).for_each(|input| self.desk.take(input));
                }
                _ = tick.tick() => {
                    let now = Instant::now();
                    self.desk.expire();
                    if now - heard > SILENCE_LIMIT {
                        return format!("nothing was heard for {} s", SILENCE_LIMIT.as_secs());
                    }
                    if now - pinged > PING_EVERY {
                        pinged = now;
                        let ping = Message::Ping(Vec::new().into());
                        if !matches!(timeout(WRITE_LIMIT, socket.send(ping)).await, Ok(Ok(()))) {
                            return "a ping could not be sent".to_owned();
                        }
                    }
                    if now - measured > MEASURE_ROUND {
                        measured = now;
                        self.desk.measure();
                    }
                }
            }
        }
    }

    /// Puts what there is to say on the line.
    async fn flush(&mut self, socket: &mut WebSocketStream<TcpStream>) -> Result<(), String> {
        for bytes in batches(self.desk.outgoing()) {
            match timeout(WRITE_LIMIT, socket.send(Message::Binary(bytes.into()))).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => return Err(format!("nothing was taken for {} s", WRITE_LIMIT.as_secs())),
            }
        }
        Ok(())
    }
}
