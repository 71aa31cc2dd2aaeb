//! Accept clients, and read what they ask for.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nm_kernel::poll::Interest;
use nm_kernel::relay_socket;
use nm_max::hop::MAX_HOPS;
use nm_max::socks::{Negotiation, Progress, SocksError};
use nm_max::{Destination, Host, Reply};

use super::end::{is_local, End};
use super::ending::unix_micros;
use super::flow::{Flow, FlowKey, Request, Stage, UP};
use super::worker::Worker;
use super::{hosts, Entry, FlowReport};

/// Clients accepted per event and listener.
const ACCEPTS: usize = 64;
/// Pause of all listeners when the kernel has no descriptor or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Worker {
    /// Accepts the clients that wait at a listener.
    pub(super) fn accept(&mut self, number: u64, index: usize) {
        for _ in 0..ACCEPTS {
            let member = self.members.get(&number);
            let Some(listener) = member.and_then(|member| member.listeners.get(index)) else {
                return;
            };
            match listener.accept() {
                Ok((stream, _)) => self.enter(number, stream),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e)
                    if matches!(
                        e.kind(),
                        ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                    ) => {}
                // EMFILE, ENFILE, ENOBUFS, ENOMEM: another attempt right now would only repeat it.
                Err(_) => {
                    self.resume_at = Some(self.after(ACCEPT_PAUSE));
                    return self.watch_listeners(Interest::NONE);
                }
            }
        }
    }

    /// A client; it is reset when there are too many flows.
    fn enter(&mut self, number: u64, stream: TcpStream) {
        let Some(member) = self.members.get(&number) else {
            return;
        };
        if relay_socket::prepare_accepted(&stream).is_err() {
            return;
        }
        let redirected = member.setup.redirected;
        let original = redirected
            .then(|| relay_socket::original_destination(&stream))
            .flatten();
        if original.is_some() || is_local(&stream) {
            relay_socket::prepare_local(&stream);
        }
        let credentials = member.setup.credentials.clone();
        let client = End::Tcp(stream);
        let flow = match original {
            Some(_) => Flow::entering(number, client, Entry::Redirected, Stage::Routing),
            None => {
                let negotiation = Box::new(Negotiation::new(credentials));
                Flow::entering(number, client, Entry::Socks, Stage::Socks(negotiation))
            }
        };
        let Some(key) = self.insert(flow, self.limits.client) else {
            return;
        };
        match original {
            Some(address) => self.begin(key, Destination::address(address)),
            None => self.limit_unnamed(number, key),
        }
    }

    /// Counts a client that has not named its destination, and resets the oldest one when there are too many.
    fn limit_unnamed(&mut self, number: u64, key: FlowKey) {
        let Some(member) = self.members.get_mut(&number) else {
            return;
        };
        member.unnamed.push_back(key);
        if member.unnamed.len() <= self.limits.unnamed {
            return;
        }
        let flows = &mut self.flows;
        let waits = |key: &FlowKey| {
            let flow = flows.get(*key);
            flow.is_some_and(|flow| matches!(flow.stage, Stage::Socks(_)))
        };
        member.unnamed.retain(waits);
        if member.unnamed.len() > self.limits.unnamed {
            if let Some(oldest) = member.unnamed.pop_front() {
                self.reset(oldest, "too many clients named no destination");
            }
        }
    }

    /// Reads a client's part of SOCKS5.
    pub(super) fn negotiate(&mut self, key: FlowKey) {
        loop {
            let Some(flow) = self.flows.get(key) else {
                return;
            };
            let (Stage::Socks(negotiation), Some(client)) = (&mut flow.stage, &flow.ends[UP])
            else {
                return;
            };
            let bytes = match client.read(negotiation.wants()) {
                Ok(bytes) if bytes.is_empty() => return,
                Ok(bytes) => bytes,
                Err(_) => return self.reset(key, "the client left"),
            };
            match negotiation.handle(&bytes) {
                Ok(Progress::More) => {}
                Ok(Progress::Send(answer)) => {
                    if client.send(&answer).is_err() {
                        return self.reset(key, "the client left");
                    }
                }
                Ok(Progress::Connect(destination)) => return self.begin(key, destination),
                Err(error) => return self.turn_away(key, error),
            }
        }
    }

    /// Answers a client that broke the protocol, and closes the connection.
    fn turn_away(&mut self, key: FlowKey, error: SocksError) {
        let Some(mut flow) = self.take(key) else {
            return;
        };
        if let Some(client) = flow.ends[UP].take() {
            // A client that does not read the answer loses nothing.
            let _ = client.send(&error.answer());
            client.close_in_order();
        }
    }

    /// A client has named its destination.
    fn begin(&mut self, key: FlowKey, destination: Destination) {
        let Ok(number) = nm_kernel::thread::random_u64() else {
            return self.reset(key, "no random number");
        };
        let Some(flow) = self.flows.get(key) else {
            return;
        };
        let (Some(entry), Some(client)) = (flow.entry, flow.client()) else {
            return self.reset(key, "the client left");
        };
        flow.report = Some(Box::new(FlowReport {
            flow: number,
            entry,
            client,
            destination: destination.to_string(),
            route: Vec::new(),
            start_us: unix_micros(),
            end_us: None,
            sent: 0,
            received: 0,
            reason: String::new(),
        }));
        let address = match &destination.host {
            Host::Address(address) => Some(*address),
            Host::Name(name) => hosts::look_up(name),
        };
        let Some(address) = address else {
            return self.refuse(key, Reply::HostUnreachable, "unknown name");
        };
        let source = self
            .members
            .get(&flow.node)
            .map_or(0, |member| member.setup.node);
        flow.request = Some(Request {
            flow: number,
            source,
            exit: None,
            route: None,
            hops: MAX_HOPS,
            client,
            destination: SocketAddr::new(address, destination.port),
        });
        self.ask_route(key);
    }

    /// A flow has exceeded the time limit of its stage.
    pub(super) fn overdue(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get(key) else {
            return;
        };
        match flow.stage {
            Stage::Socks(_) => self.reset(key, "the client named no destination in time"),
            Stage::Header(_) => self.reset(key, "the previous node sent no header in time"),
            Stage::Routing => self.refuse(key, Reply::Failure, "no answer about the route in time"),
            Stage::Connecting => self.refuse(
                key,
                Reply::HostUnreachable,
                "no answer of the destination in time",
            ),
            Stage::Answer(_) => self.refuse(
                key,
                Reply::HostUnreachable,
                "no answer of the next node in time",
            ),
            Stage::Open(_) => match flow.held.take() {
                Some(why) => {
                    let limit = self.limits.held.as_secs_f64();
                    self.reset(key, &format!("held for {limit} s: {why}"));
                }
                None => self.flows.set_deadline(key, None),
            },
        }
    }
}
