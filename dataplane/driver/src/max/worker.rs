//! The event loop that carries flows: one thread, one epoll set, whatever the number of nodes and flows.

use std::collections::{HashMap, VecDeque};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nm_engine::NodeId;
use nm_kernel::poll::{Epoll, Interest, ReadyList};
use nm_kernel::{namespace, thread};

use super::flow::{Flow, FlowKey, Stage, DOWN, UP};
use super::inbox::{Inbox, Message};
use super::pump::Pipes;
use super::table::{Flows, Token};
use super::{Limits, NodeLinks, NodeSetup};

/// Turns of a flow before others get theirs; each moves up to one pipe per direction.
const TURNS: usize = 8;
/// Turns of all flows that can move bytes before events are read again: the bytes of a flow then cross several nodes of
/// this process in one go.
const ROUNDS: usize = 8;
/// How long events wait at most while flows move bytes: a new client and a link that goes down are handled in between.
const ROUNDS_LIMIT: Duration = Duration::from_millis(2);
/// Interval of the reports of running flows.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// At most this part of the descriptors that the process may open is used for flows.
const DESCRIPTOR_SHARE: u64 = 2;
/// Two connections, and a pipe with two ends for each direction whose receiver is slow.
const DESCRIPTORS_PER_FLOW: u64 = 6;
/// Descriptors assumed where the process has no limit.
const MANY_DESCRIPTORS: u64 = 1 << 20;

/// A node of the worker.
pub(super) struct Member {
    pub setup: NodeSetup,
    pub listeners: Vec<TcpListener>,
    pub flows: usize,
    /// Clients that have not named their destination, the oldest first. Those that have are removed lazily.
    pub unnamed: VecDeque<FlowKey>,
    /// The state of the node and its links.
    pub links: NodeLinks,
}

pub(super) struct Worker {
    pub epoll: Epoll,
    pub inbox: Arc<Inbox>,
    pub members: HashMap<u64, Member>,
    /// The numbers of nodes, by lab and node.
    pub numbers: HashMap<(Arc<str>, NodeId), u64>,
    pub flows: Flows,
    /// Flows in the table.
    pub count: usize,
    most: usize,
    pub limits: Limits,
    /// Flows that may move more bytes without another event.
    pub(super) runnable: VecDeque<FlowKey>,
    /// Flows whose neighbour in this process has sent something of the negotiation, with the side of the neighbour.
    pub(super) woken: VecDeque<(FlowKey, usize)>,
    /// Flows to reset because a neighbour's part was reset, with the reason.
    pub(super) broken: Vec<(FlowKey, String)>,
    pipes: Pipes,
    /// The namespace of the process, to return to.
    own_namespace: OwnedFd,
    /// When running flows are reported next.
    report_at: u64,
    /// When listeners are watched again that were paused for want of descriptors.
    pub(super) resume_at: Option<u64>,
    pub now: u64,
    stopped: bool,
}

impl Worker {
    pub fn new(inbox: Arc<Inbox>, limits: Limits) -> nm_kernel::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(&inbox.wake, Token::Wake.encode(), Interest::READ)?;
        let descriptors = thread::descriptor_limit().unwrap_or(MANY_DESCRIPTORS);
        let limit = descriptors / DESCRIPTOR_SHARE / DESCRIPTORS_PER_FLOW;
        Ok(Self {
            epoll,
            inbox,
            members: HashMap::new(),
            numbers: HashMap::new(),
            flows: Flows::default(),
            count: 0,
            most: usize::try_from(limit).unwrap_or(usize::MAX),
            limits,
            runnable: VecDeque::new(),
            woken: VecDeque::new(),
            broken: Vec::new(),
            pipes: Pipes::default(),
            own_namespace: namespace::current()?,
            report_at: 0,
            resume_at: None,
            now: thread::monotonic_ns(),
            stopped: false,
        })
    }

    /// Runs until it is stopped.
    pub fn run(&mut self) {
        let mut ready = ReadyList::with_capacity(256);
        while !self.stopped {
            if self.epoll.wait(&mut ready, self.timeout()).is_err() {
                return; // the set is broken; nothing can be carried any more
            }
            self.now = thread::monotonic_ns();
            for index in 0..ready.len() {
                let event = ready.get(index);
                match Token::decode(event.token) {
                    Token::Wake => self.read_inbox(),
                    Token::Listener(number, listener) => self.accept(number, listener),
                    Token::Flow(key, side) => self.ready(key, side, event.readable, event.writable),
                }
                self.reset_broken();
                self.read_woken();
            }
            self.now = thread::monotonic_ns(); // reading events took time as well
            let until = self.after(ROUNDS_LIMIT);
            for _ in 0..ROUNDS * self.runnable.len() {
                let Some(key) = self.runnable.pop_front() else {
                    break;
                };
                self.pump(key);
                self.reset_broken();
                if thread::monotonic_ns() >= until {
                    break;
                }
            }
            self.check_time();
        }
        self.reset_all();
    }

    /// How long to wait, in nanoseconds.
    fn timeout(&self) -> Option<u64> {
        if !self.runnable.is_empty() {
            return Some(0);
        }
        let report_at = (self.count > 0).then_some(self.report_at);
        let next = [self.flows.next_deadline(), self.resume_at, report_at];
        let next = next.into_iter().flatten().min()?;
        Some(next.saturating_sub(self.now))
    }

    fn read_inbox(&mut self) {
        for message in self.inbox.take() {
            match message {
                Message::Add(number, setup, listeners) => self.add(number, *setup, listeners),
                Message::Remove(number, done) => {
                    self.remove(number);
                    drop(done);
                }
                Message::Routed(key, found) => self.routed(key, found),
                Message::Changed(number) => self.changed(number),
                Message::Stop => self.stopped = true,
            }
        }
    }

    fn add(&mut self, number: u64, setup: NodeSetup, listeners: Vec<TcpListener>) {
        for (index, listener) in listeners.iter().enumerate() {
            let token = Token::Listener(number, index).encode();
            // Without memory for the set nobody can connect there; the kernel has logged it.
            let _ = self.epoll.add(listener, token, Interest::READ);
        }
        self.numbers
            .insert((Arc::clone(&setup.lab), setup.node), number);
        let member = Member {
            links: setup.router.links(),
            setup,
            listeners,
            flows: 0,
            unnamed: VecDeque::new(),
        };
        self.members.insert(number, member);
    }

    fn remove(&mut self, number: u64) {
        let flows = self.flows.iter().filter(|(_, flow)| flow.node == number);
        let keys: Vec<FlowKey> = flows.map(|(key, _)| key).collect();
        for key in keys {
            self.reset(key, "the node was stopped");
        }
        if let Some(member) = self.members.remove(&number) {
            let name = (member.setup.lab, member.setup.node);
            if self.numbers.get(&name) == Some(&number) {
                self.numbers.remove(&name);
            }
        }
    }

    /// Runs `work` in a node's network namespace. Entering one takes microseconds.
    pub(super) fn inside<T>(
        &self,
        number: u64,
        work: impl FnOnce() -> std::io::Result<T>,
    ) -> std::io::Result<T> {
        let member = self.members.get(&number);
        let Some(space) = member.and_then(|member| member.setup.namespace.as_ref()) else {
            return work();
        };
        namespace::enter(space.as_fd()).map_err(std::io::Error::other)?;
        let outcome = work();
        namespace::enter(self.own_namespace.as_fd()).map_err(std::io::Error::other)?;
        outcome
    }

    /// Adds a flow to the table, if the limits allow it.
    pub(super) fn insert(&mut self, flow: Flow, limit: Duration) -> Option<FlowKey> {
        let number = flow.node;
        let member = self.members.get_mut(&number)?;
        if member.flows >= self.limits.flows || self.count >= self.most {
            return None;
        }
        let key = self.flows.insert(flow)?;
        member.flows += 1;
        if self.count == 0 {
            self.report_at = self.after(REPORT_EVERY);
        }
        self.count += 1;
        let deadline = self.after(limit);
        self.flows.set_deadline(key, Some(deadline));
        if !self.watch(key, UP) {
            self.reset(key, "no memory");
            return None;
        }
        Some(key)
    }

    /// The time on the monotonic clock after a duration.
    pub(super) fn after(&self, duration: Duration) -> u64 {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.now.saturating_add(nanos)
    }

    /// Watches a connection of a flow.
    pub(super) fn watch(&mut self, key: FlowKey, side: usize) -> bool {
        let token = Token::Flow(key, side).encode();
        let end = self
            .flows
            .get(key)
            .and_then(|flow| flow.ends[side].as_ref());
        end.is_some_and(|end| match end.socket() {
            Some(socket) => self.epoll.add_stream_edge(socket, token).is_ok(),
            // A neighbour in this process says itself when it has sent something.
            None => true,
        })
    }

    fn ready(&mut self, key: FlowKey, side: usize, readable: bool, writable: bool) {
        let Some(flow) = self.flows.get(key) else {
            return;
        };
        match &mut flow.stage {
            Stage::Socks(_) if side == UP && readable => self.negotiate(key),
            Stage::Header(_) if side == UP && readable => self.read_header(key),
            Stage::Connecting if side == DOWN && (writable || readable) => self.connected(key),
            Stage::Answer(_) if side == DOWN && readable => self.read_answer(key),
            Stage::Open(directions) => {
                let [up, down] = directions.as_mut();
                let (from, to) = if side == UP { (up, down) } else { (down, up) };
                from.readable |= readable;
                to.writable |= writable;
                self.pump(key);
            }
            _ => {}
        }
    }

    /// Lets the neighbour of a flow read what was sent to it, if it is in this process.
    pub(super) fn wake_partner(&mut self, key: FlowKey, side: usize) {
        let partner = self.flows.get(key).and_then(|flow| flow.partners[side]);
        self.woken
            .extend(partner.map(|partner| (partner, DOWN - side)));
    }

    fn read_woken(&mut self) {
        while let Some((key, side)) = self.woken.pop_front() {
            self.ready(key, side, true, false);
            self.reset_broken();
        }
    }

    /// Gives a flow another turn.
    fn run_later(&mut self, key: FlowKey) {
        if let Some(flow) = self.flows.get(key) {
            if !std::mem::replace(&mut flow.runnable, true) {
                self.runnable.push_back(key);
            }
        }
    }

    /// The state of a node or of its links has changed.
    fn changed(&mut self, number: u64) {
        let Some(member) = self.members.get_mut(&number) else {
            return;
        };
        member.links = member.setup.router.links();
        let flows = self.flows.iter().filter(|(_, flow)| flow.node == number);
        let keys: Vec<FlowKey> = flows.map(|(key, _)| key).collect();
        for key in keys {
            self.check_held(key);
        }
    }

    /// Holds an open flow or lets it go on, by the state of its node and of the links that it passes.
    pub(super) fn check_held(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get(key) else {
            return;
        };
        let Some(member) = self.members.get(&flow.node) else {
            return;
        };
        if !matches!(flow.stage, Stage::Open(_)) {
            return;
        }
        let down = |node: &NodeId| member.links.links.get(node) == Some(&false);
        let own = member.setup.node;
        let held = match flow.neighbours.into_iter().flatten().find(down) {
            _ if member.links.paused => Some(format!("node {own} is paused")),
            Some(node) => Some(format!("the link from node {own} to node {node} is down")),
            None => None,
        };
        let was_held = std::mem::replace(&mut flow.held, held.clone()).is_some();
        if held.is_some() == was_held {
            return;
        }
        let deadline = held.map(|_| self.after(self.limits.held));
        self.flows.set_deadline(key, deadline);
        self.run_later(key);
    }

    /// Moves bytes of a flow in both directions.
    pub(super) fn pump(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get(key) else {
            return;
        };
        flow.runnable = false;
        let (Stage::Open(directions), [Some(up), Some(down)]) = (&mut flow.stage, &flow.ends)
        else {
            return;
        };
        if flow.held.is_some() {
            return;
        }
        let (mut again, mut moved) = (false, 0);
        // Whether the neighbours towards the client and towards the server get a turn, if they are in this process.
        let mut wakes = [false; 2];
        for _ in 0..TURNS {
            let sent = directions[UP].turn(up, down, &mut self.pipes);
            let received = directions[DOWN].turn(down, up, &mut self.pipes);
            match (sent, received) {
                (Ok(sent), Ok(received)) => {
                    wakes[UP] |= sent.freed || received.sent;
                    wakes[DOWN] |= sent.sent || received.freed;
                    again = sent.moved + received.moved > 0;
                    moved += sent.moved + received.moved;
                }
                (Err(error), _) | (_, Err(error)) => {
                    return self.reset(key, &reason(&error));
                }
            }
            if !again {
                break;
            }
        }
        let partners = flow.partners;
        if let Some(report) = &mut flow.report {
            (report.sent, report.received) = (directions[UP].bytes, directions[DOWN].bytes);
        }
        // A reset that arrives while its direction is blocked is found here alone.
        let broken = match moved {
            0 => up.error().or_else(|| down.error()),
            _ => None,
        };
        let finished = flow.is_finished();
        for (partner, _) in partners.into_iter().zip(wakes).filter(|(_, wakes)| *wakes) {
            partner.into_iter().for_each(|key| self.run_later(key));
        }
        if finished {
            self.finish(key);
        } else if let Some(error) = broken {
            self.reset(key, &reason(&error));
        } else if again {
            self.run_later(key);
        }
    }

    /// Ends a flow whose directions have ended.
    fn finish(&mut self, key: FlowKey) {
        if let Some(mut flow) = self.take(key) {
            for end in &mut flow.ends {
                if let Some(end) = end.take() {
                    end.close_in_order();
                }
            }
            self.report_end(flow, "");
        }
    }

    fn check_time(&mut self) {
        while let Some(key) = self.flows.overdue(self.now) {
            self.overdue(key);
            self.reset_broken();
            self.read_woken();
        }
        if self.resume_at.is_some_and(|at| at <= self.now) {
            self.resume_at = None;
            self.watch_listeners(Interest::READ);
        }
        if self.count > 0 && self.report_at <= self.now {
            self.report_at = self.after(REPORT_EVERY);
            self.report_running();
        }
    }

    /// Watches the listeners of all nodes, or stops that.
    pub(super) fn watch_listeners(&self, interest: Interest) {
        for (&number, member) in &self.members {
            for (index, listener) in member.listeners.iter().enumerate() {
                let token = Token::Listener(number, index).encode();
                // They are in the set since the node was added.
                let _ = self.epoll.modify(listener, token, interest);
            }
        }
    }
}

/// Why a connection broke.
fn reason(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "reset".to_owned(),
        _ => error.to_string(),
    }
}
