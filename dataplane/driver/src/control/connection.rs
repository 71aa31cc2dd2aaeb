//! One connection to a controller: connect, keep alive, reconnect.

use std::any::Any;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::{FutureExt, Sink, SinkExt, StreamExt};
use nm_engine::NodeId;
use nm_messages::batches;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{interval, timeout, Instant, MissedTickBehavior};
use tokio_tungstenite::tungstenite::Message;

use super::connect_delays::ConnectDelays;
use super::dial::{dial, Failure, OpenSocket};
use super::resolve::Resolver;
use super::session::Session;
use super::{Endpoint, Input};

/// Interval at which time limits are checked.
const TICK: Duration = Duration::from_millis(100);
/// Interval of pings, and how long nothing may be received before the connection is closed.
const PING_EVERY: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// A controller that takes no bytes for this long counts as lost.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest amount that one clock check adds to these times: a process that was itself stopped for a minute has not
/// read, and what arrived meanwhile is still in the socket.
const LONGEST_STEP: Duration = Duration::from_secs(1);
/// Delay before reconnecting to a controller that refused nodes which it knew before.
const REFUSED_PAUSE: Duration = Duration::from_secs(2);
/// Time limit for sending the last messages when the last node detaches.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Inputs handled at once, so that a thousand registrations become a few messages.
const BATCH: usize = 1024;

pub(super) struct Connection {
    endpoint: Endpoint,
    inputs: UnboundedReceiver<Input>,
    resolver: Resolver,
    session: Session,
    retire: Retire,
}

/// Removes a connection without nodes from its pool, unless its channel holds an input; true when it was removed.
pub(super) type Retire = fn(&Endpoint, &UnboundedReceiver<Input>) -> bool;

/// The result of an attempt to connect, with the node whose credentials were used.
type Attempt = (NodeId, Result<OpenSocket, Failure>);

impl Connection {
    /// A connection whose nodes send to `input`, the sender of the channel `inputs`.
    pub fn new(
        endpoint: Endpoint,
        input: UnboundedSender<Input>,
        inputs: UnboundedReceiver<Input>,
        resolver: Resolver,
        retire: Retire,
    ) -> Self {
        let session = Session::new(endpoint.addr.clone(), input, resolver.clone());
        Connection {
            endpoint,
            inputs,
            resolver,
            session,
            retire,
        }
    }

    /// Runs until the last node has detached. A panic ends the websocket but never this task, because the nodes have
    /// no other way to reach the controller.
    pub async fn run(mut self) {
        let mut delays = ConnectDelays::new(self.endpoint.process ^ 0x9e37_79b9_7f4a_7c15);
        while self.has_work() {
            let turn = AssertUnwindSafe(self.turn(&mut delays)).catch_unwind();
            let pause = turn.await.unwrap_or_else(|panic| {
                // The panic hook has already written the location to stderr.
                let reason = format!("the control connection failed: {}", text_of(&*panic));
                self.session.connection_lost(&reason);
                self.session.reset_nodes();
                Some(REFUSED_PAUSE)
            });
            if let Some(pause) = pause {
                self.pause(pause).await;
            }
        }
    }

    /// Opens a websocket and uses it until it is lost; returns the delay before the next attempt.
    async fn turn(&mut self, delays: &mut ConnectDelays) -> Option<Duration> {
        match self.connect().await? {
            (_, Ok(open)) => {
                delays.controller_reached();
                let opened = Instant::now();
                let reason = self.exchange(open).await;
                // No immediate retry after a websocket that the controller closed at once.
                if opened.elapsed() > TICK {
                    delays.reset();
                }
                self.session.connection_lost(&reason);
                Some(delays.next_delay())
            }
            (_, Err(Failure::Retry(reason))) => {
                self.session.attempt_failed(reason);
                Some(delays.next_delay())
            }
            (node, Err(Failure::Refused(error))) => {
                let left = self.session.refused(node, &error);
                (!left).then_some(REFUSED_PAUSE)
            }
        }
    }

    /// Whether nodes are attached or about to attach; after `false` the pool no longer has this connection.
    fn has_work(&mut self) -> bool {
        while let Ok(input) = self.inputs.try_recv() {
            self.session.handle_input(input);
        }
        !self.session.is_empty() || !(self.retire)(&self.endpoint, &self.inputs)
    }

    /// Makes one attempt to connect; nodes may attach and detach meanwhile. `None` when none is left.
    async fn connect(&mut self) -> Option<Attempt> {
        let (node, token) = self.session.credentials()?;
        let (endpoint, resolver) = (self.endpoint.clone(), self.resolver.clone());
        let attempt = dial(&endpoint, &resolver, node, &token);
        tokio::pin!(attempt);
        let mut tick = interval(TICK);
        loop {
            tokio::select! {
                result = &mut attempt => return Some((node, result)),
                input = self.inputs.recv() => match input {
                    Some(input) => self.session.handle_input(input),
                    None => return None,
                },
                _ = tick.tick() => self.session.expire(),
            }
            self.session.confirm_detached();
            if self.session.is_empty() {
                return None;
            }
        }
    }

    /// Waits before the next attempt; a node that attaches ends the wait.
    async fn pause(&mut self, length: Duration) {
        let end = Instant::now() + length;
        let mut tick = interval(TICK);
        while Instant::now() < end && !self.session.is_empty() {
            tokio::select! {
                () = tokio::time::sleep_until(end) => {}
                input = self.inputs.recv() => match input {
                    Some(input) => {
                        let new_node = matches!(input, Input::Attach(..));
                        self.session.handle_input(input);
                        if new_node {
                            return;
                        }
                    }
                    None => return,
                },
                _ = tick.tick() => self.session.expire(),
            }
            self.session.confirm_detached();
        }
        self.session.expire();
    }

    /// Exchanges messages until the websocket is lost or the last node detaches; returns the reason.
    ///
    /// Reads and writes concurrently: a controller that is slow to read must not stop the reading of its messages.
    async fn exchange(&mut self, open: OpenSocket) -> String {
        let OpenSocket { socket, local } = open;
        let (mut sink, mut stream) = socket.split();
        self.session.connection_opened(local);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut queue: VecDeque<Message> = VecDeque::new();
        let (mut unflushed, mut liveness) = (false, Liveness::new(Instant::now()));
        let mut batch = Vec::with_capacity(64);
        loop {
            let outgoing = batches(self.session.outgoing()).into_iter();
            queue.extend(outgoing.map(|bytes| Message::Binary(bytes.into())));
            self.session.confirm_detached();
            if self.session.is_empty() {
                let _ = timeout(CLOSE_TIMEOUT, send_all_and_close(sink, queue)).await;
                return "the last node has left".to_owned();
            }
            let full = !queue.is_empty();
            tokio::select! {
                message = stream.next() => {
                    liveness.received();
                    match message {
                        Some(Ok(Message::Binary(bytes))) => self.session.handle_message(&bytes),
                        Some(Ok(Message::Close(_))) | None => return "the controller closed it".to_owned(),
                        Some(Ok(_)) => unflushed = true, // an answer to a ping may wait to be sent
                        Some(Err(error)) => return error.to_string(),
                    }
                }
                writable = poll_fn(|context| match full {
                    true => sink.poll_ready_unpin(context),
                    false => sink.poll_flush_unpin(context),
                }), if full || unflushed => {
                    let next = queue.pop_front();
                    if let Err(error) = writable.and_then(|()| next.map_or(Ok(()), |it| sink.start_send_unpin(it))) {
                        return error.to_string();
                    }
                    unflushed = full;
                    liveness.sent();
                }
                _ = self.inputs.recv_many(&mut batch, BATCH) => {
                    batch.drain(..).for_each(|input| self.session.handle_input(input));
                }
                _ = tick.tick() => {
                    let now = Instant::now();
                    self.session.expire();
                    if let Err(reason) = liveness.check(now, unflushed || !queue.is_empty()) {
                        return reason;
                    }
                    if !unflushed && liveness.ping_due(now) {
                        queue.push_back(Message::Ping(Vec::new().into()));
                    }
                    self.session.measure(now);
                }
            }
        }
    }
}

/// Sends the last messages of a websocket and closes it.
async fn send_all_and_close<S>(mut sink: S, queue: VecDeque<Message>) -> Result<(), S::Error>
where
    S: Sink<Message> + Unpin,
{
    for message in queue {
        sink.feed(message).await?;
    }
    sink.close().await
}

/// How long a websocket has received nothing or could send nothing, and its last ping.
struct Liveness {
    checked: Instant,
    silence: Duration,
    blocked: Duration,
    pinged: Instant,
}

impl Liveness {
    fn new(now: Instant) -> Self {
        Self {
            checked: now,
            silence: Duration::ZERO,
            blocked: Duration::ZERO,
            pinged: now,
        }
    }

    fn received(&mut self) {
        self.silence = Duration::ZERO;
    }

    fn sent(&mut self) {
        self.blocked = Duration::ZERO;
    }

    /// Adds the time since the last check; `unsent`: whether something waits to be sent. An error is the reason to
    /// close the websocket.
    fn check(&mut self, now: Instant, unsent: bool) -> Result<(), String> {
        let step = (now - self.checked).min(LONGEST_STEP);
        self.checked = now;
        self.silence += step;
        if self.silence > READ_TIMEOUT {
            return Err(format!(
                "nothing was received for {} s",
                READ_TIMEOUT.as_secs()
            ));
        }
        if unsent {
            self.blocked += step;
        }
        if self.blocked > WRITE_TIMEOUT {
            return Err(format!(
                "nothing could be sent for {} s",
                WRITE_TIMEOUT.as_secs()
            ));
        }
        Ok(())
    }

    fn ping_due(&mut self, now: Instant) -> bool {
        is_due(&mut self.pinged, now, PING_EVERY)
    }
}

/// Whether the interval since `last` has passed; `last` is then `now`.
fn is_due(last: &mut Instant, now: Instant, interval: Duration) -> bool {
    let due = now - *last > interval;
    if due {
        *last = now;
    }
    due
}

/// The message of a panic.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let plain = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    plain
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic".to_owned())
}
