//! Open a flow: find its next hop, connect to it, and tell the previous one.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use nm_engine::{FiveTuple, HopTarget, NodeId};
use nm_kernel::relay_socket;
use nm_max::hop::{self, Answer, Reader};
use nm_max::{socks, Reply};

use super::end::{is_local, End};
use super::flow::{Flow, FlowKey, Request, Stage, DOWN, UP};
use super::inbox::Message;
use super::local;
use super::pump::Direction;
use super::worker::Worker;
use super::{Entry, Found, Query};

/// The number of TCP (RFC 790).
const PROTOCOL_TCP: u8 = 6;
/// How long the previous node may take for the header.
const HEADER_LIMIT: Duration = Duration::from_secs(5);
/// How long the answers of the nodes on the way may take, besides the connection at the exit.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long the engine may take to find the next hop: as long as for any command.
const ROUTE_LIMIT: Duration = Duration::from_secs(5);

impl Worker {
    /// Asks the engine of the node for the next hop.
    pub(super) fn ask_route(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get(key) else {
            return;
        };
        let Some(request) = &flow.request else {
            return;
        };
        let (client, destination) = (request.client, request.destination);
        let query = Query {
            source: request.source,
            target: request
                .exit
                .map_or(HopTarget::Address(destination.ip()), HopTarget::Node),
            flow: FiveTuple {
                src: client.ip(),
                dst: destination.ip(),
                protocol: PROTOCOL_TCP,
                src_port: client.port(),
                dst_port: destination.port(),
            },
            route: request.route,
        };
        flow.stage = Stage::Routing;
        let number = flow.node;
        let deadline = self.after(ROUTE_LIMIT);
        self.flows.set_deadline(key, Some(deadline));
        let Some(member) = self.members.get(&number) else {
            return;
        };
        let inbox = Arc::clone(&self.inbox);
        let then = Box::new(move |found| inbox.post(Message::Routed(key, found)));
        member.setup.router.next_hop(query, then);
    }

    /// The engine has answered.
    pub(super) fn routed(&mut self, key: FlowKey, found: Found) {
        let Some(flow) = self.flows.get(key) else {
            return;
        };
        if !matches!(flow.stage, Stage::Routing) {
            return;
        }
        let Some(request) = &mut flow.request else {
            return;
        };
        let hop = match found {
            Ok(hop) => hop,
            Err(reason) => return self.refuse(key, Reply::NetworkUnreachable, &reason),
        };
        (request.exit, request.route) = (Some(hop.exit), Some(hop.route));
        let Some(lab) = self
            .members
            .get(&flow.node)
            .map(|member| Arc::clone(&member.setup.lab))
        else {
            return;
        };
        let next = hop
            .next
            .and_then(|next| self.numbers.get(&(lab, next)).copied());
        match next {
            Some(_) if request.hops == 0 => self.refuse(key, Reply::TooManyHops, "too many hops"),
            Some(next) => self.pass_on(key, next),
            // The exit; or the next hop is not in max mode, and the flow continues as packets.
            None => self.connect(key),
        }
    }

    /// Passes a flow to a node of this process.
    fn pass_on(&mut self, key: FlowKey, next: u64) {
        let (near, far) = local::pair();
        let mut passing = Flow::passing(next, End::Local(far));
        passing.partners[UP] = Some(key);
        let Some(partner) = self.insert(passing, HEADER_LIMIT) else {
            return self.refuse(key, Reply::Failure, "too many flows");
        };
        let neighbour = self.members.get(&next).map(|member| member.setup.node);
        let Some(flow) = self.flows.get(key) else {
            return;
        };
        flow.partners[DOWN] = Some(partner);
        flow.neighbours[DOWN] = neighbour;
        flow.ends[DOWN] = Some(End::Local(near));
        self.send_header(key);
    }

    /// Sends the header of a flow to the next node, and waits for the answer.
    fn send_header(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get(key) else {
            return;
        };
        let (Some(request), Some(next)) = (&flow.request, &flow.ends[DOWN]) else {
            return;
        };
        let own = self
            .members
            .get(&flow.node)
            .map_or(0, |member| member.setup.node);
        let header = hop::Request {
            flow: request.flow,
            source: request.source,
            previous: own,
            exit: request.exit.unwrap_or(0),
            route: request.route.unwrap_or(0),
            hops: request.hops.saturating_sub(1),
            client: request.client,
            destination: request.destination,
        };
        let sent = next.send(&header.encode());
        flow.stage = Stage::Answer(Reader::default());
        let deadline = self.after(self.limits.connect + ANSWER_LIMIT);
        self.flows.set_deadline(key, Some(deadline));
        if sent.is_err() || !self.watch(key, DOWN) {
            return self.refuse(key, Reply::HostUnreachable, "the next node does not answer");
        }
        self.wake_partner(key, DOWN);
    }

    /// Reads the header of a flow from the previous node.
    pub(super) fn read_header(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get(key) else {
            return;
        };
        let (Stage::Header(reader), Some(previous)) = (&mut flow.stage, &flow.ends[UP]) else {
            return;
        };
        match read_message(reader, previous) {
            Ok(false) => {}
            Ok(true) => match reader.request() {
                Ok(request) => {
                    flow.neighbours[UP] = Some(request.previous);
                    flow.request = Some(Request {
                        flow: request.flow,
                        source: request.source,
                        exit: Some(request.exit),
                        route: Some(request.route),
                        hops: request.hops,
                        client: request.client,
                        destination: request.destination,
                    });
                    self.ask_route(key);
                }
                Err(error) => self.reset(key, &error.to_string()),
            },
            Err(reason) => self.reset(key, &reason),
        }
    }

    /// Reads the answer of the next node.
    pub(super) fn read_answer(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get(key) else {
            return;
        };
        let (Stage::Answer(reader), Some(next)) = (&mut flow.stage, &flow.ends[DOWN]) else {
            return;
        };
        match read_message(reader, next) {
            Ok(false) => {}
            Ok(true) => match reader.answer() {
                Ok(answer) if answer.reply == Reply::Succeeded => {
                    self.open(key, answer.bound, answer.route)
                }
                Ok(answer) => self.refuse(key, answer.reply, answer.reply.text()),
                Err(error) => self.refuse(key, Reply::Failure, &error.to_string()),
            },
            Err(reason) => self.refuse(key, Reply::HostUnreachable, &reason),
        }
    }

    /// Connects to the destination from the node's namespace.
    fn connect(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get(key) else {
            return;
        };
        let Some(request) = &flow.request else {
            return;
        };
        let (number, address) = (flow.node, request.destination);
        let marked = self
            .members
            .get(&number)
            .is_some_and(|member| member.setup.redirected);
        let stream = self.inside(number, || relay_socket::connect(address, marked));
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                let (reply, reason) = failure(&error);
                return self.refuse(key, reply, &reason);
            }
        };
        let Some(flow) = self.flows.get(key) else {
            return;
        };
        flow.ends[DOWN] = Some(End::Tcp(stream));
        flow.stage = Stage::Connecting;
        let deadline = self.after(self.limits.connect);
        self.flows.set_deadline(key, Some(deadline));
        if !self.watch(key, DOWN) {
            self.refuse(key, Reply::Failure, "no memory");
        }
    }

    /// The attempt to connect has ended.
    pub(super) fn connected(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get(key) else {
            return;
        };
        let Some(End::Tcp(stream)) = &flow.ends[DOWN] else {
            return;
        };
        match nm_kernel::socket::connect_outcome(stream).and_then(|()| stream.local_addr()) {
            Ok(bound) => {
                if is_local(stream) {
                    relay_socket::prepare_local(stream);
                }
                self.open(key, bound, Vec::new());
            }
            // Reported before the attempt had ended.
            Err(error) if error.kind() == ErrorKind::NotConnected => {}
            Err(error) => {
                let (reply, reason) = failure(&error);
                self.refuse(key, reply, &reason);
            }
        }
    }

    /// Both connections exist: tells the client or the previous node, and moves bytes from now on.
    fn open(&mut self, key: FlowKey, bound: SocketAddr, mut route: Vec<NodeId>) {
        let Some(flow) = self.flows.get(key) else {
            return;
        };
        let own = self
            .members
            .get(&flow.node)
            .map_or(0, |member| member.setup.node);
        route.insert(0, own);
        let message = answer(flow.entry, Reply::Succeeded, bound, route.clone());
        if flow.ends[UP]
            .as_ref()
            .is_none_or(|up| up.send(&message).is_err())
        {
            return self.reset(key, "the client left");
        }
        flow.stage = Stage::Open(Box::new([Direction::new(), Direction::new()]));
        let number = flow.node;
        let report = flow.report.as_deref_mut().map(|report| {
            report.route = route;
            report.clone()
        });
        self.flows.set_deadline(key, None);
        if let Some(report) = report {
            self.send_reports(number, vec![report]);
        }
        self.wake_partner(key, UP);
        self.check_held(key);
        self.pump(key);
    }

    /// Ends a flow that cannot be opened: the client or the previous node is told why.
    pub(super) fn refuse(&mut self, key: FlowKey, reply: Reply, reason: &str) {
        let Some(mut flow) = self.take(key) else {
            return;
        };
        let entry = flow.entry;
        if let Some(up) = flow.ends[UP].take() {
            let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
            let message = answer(entry, reply, nowhere, Vec::new());
            // A previous node or client that has left needs no answer.
            let _ = up.send(&message);
            // A redirected client believes to be connected, so only a reset tells it.
            if entry != Some(Entry::Redirected) {
                up.close_in_order();
            }
        }
        // The previous node reads the answer; it must not be reset before.
        if let Some(partner) = flow.partners[UP].take() {
            self.woken.push_back((partner, DOWN));
        }
        self.report_end(flow, reason);
    }
}

/// The message that tells a client or the previous node the result.
fn answer(entry: Option<Entry>, reply: Reply, bound: SocketAddr, route: Vec<NodeId>) -> Vec<u8> {
    match entry {
        Some(Entry::Redirected) => Vec::new(),
        Some(Entry::Socks) => socks::reply(reply, bound),
        None => Answer {
            reply,
            bound,
            route,
        }
        .encode(),
    }
}

/// Reads what is available of a message; returns whether it is complete.
fn read_message(reader: &mut Reader, from: &End) -> Result<bool, String> {
    loop {
        let bytes = from
            .read(reader.wants())
            .map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => {
                    "the neighbour closed the connection".to_owned()
                }
                _ => error.to_string(),
            })?;
        if bytes.is_empty() {
            return Ok(false);
        }
        if reader.handle(&bytes).map_err(|error| error.to_string())? {
            return Ok(true);
        }
    }
}

/// The reply and the reason for a connection that failed.
fn failure(error: &io::Error) -> (Reply, String) {
    let reply = match error.kind() {
        ErrorKind::ConnectionRefused => Reply::Refused,
        ErrorKind::NetworkUnreachable => Reply::NetworkUnreachable,
        ErrorKind::HostUnreachable | ErrorKind::TimedOut => Reply::HostUnreachable,
        _ => Reply::Failure,
    };
    match reply {
        Reply::Failure => (reply, error.to_string()),
        _ => (reply, reply.text().to_owned()),
    }
}
