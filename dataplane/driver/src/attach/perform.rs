//! Carry out the calls of an attached program.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nm_engine::{SessionState, SharedBytes, Target};
use nm_messages::Value;

use super::answer::Answer;
use super::limits::limit;
use super::session::{Kind, Session};
use super::wire::Request;
use crate::node::{values, Node, NodeError};

impl Session {
    /// Carries out one request; `bytes` and `descriptor` came with it.
    pub(super) fn perform(
        &mut self,
        node: &Node,
        request: Request,
        bytes: Vec<u8>,
        descriptor: Option<OwnedFd>,
    ) -> Result<Answer, NodeError> {
        Ok(match request {
            Request::Hello {} => self.hello(node),
            Request::NetworkInfo {} => {
                let info = node.network_info().into_iter();
                let pairs = info.map(|(name, text)| (name.into(), text.into()));
                Value::Map(pairs.collect()).into()
            }
            Request::Statistics {} => values::statistics(&node.statistics()?).into(),
            Request::TopologyReady {} => node.topology_ready().into(),
            Request::Event {} => match node.next_event_for(self.reader) {
                Some(event) => {
                    let (kind, details) = values::event(&event);
                    vec![Value::from(kind), details].into()
                }
                None => Value::Nil.into(),
            },
            Request::SendToNode {
                dst_node_id,
                src_port,
                dst_port,
            } => {
                let target = Target::Node(dst_node_id);
                let payload = SharedBytes::new(bytes);
                node.send_message(target, payload, src_port, dst_port)?
                    .into()
            }
            Request::SendToGroup {
                group_id,
                src_port,
                dst_port,
            } => {
                let target = node.group_target(group_id)?;
                let payload = SharedBytes::new(bytes);
                node.send_message(target, payload, src_port, dst_port)?
                    .into()
            }
            request @ (Request::SendData { .. }
            | Request::ReceiveData { .. }
            | Request::SessionDone { .. }
            | Request::SessionReport { .. }
            | Request::SessionData { .. }
            | Request::CancelSession { .. }) => self.transfer(node, request, descriptor)?,
            request @ (Request::Answer { .. }
            | Request::Forget { .. }
            | Request::RegisterReceiver { .. }
            | Request::CloseReceiver { .. }
            | Request::Take { .. }
            | Request::Dropped { .. }) => self.receive(node, request)?,
            request => self.group(node, request)?,
        })
    }

    fn group(&mut self, node: &Node, request: Request) -> Result<Answer, NodeError> {
        Ok(match request {
            Request::Group { label } => node.group(label.as_deref()).map_or(Value::Nil, |group| {
                Value::Array(vec![
                    group.group_id.into(),
                    group.group_ip.to_string().into(),
                    group.src_node_id.into(),
                ])
            }),
            Request::GroupAddress { group_id } => node
                .group_address(group_id)
                .map_or(Value::Nil, |address| address.to_string().into()),
            Request::IsMember { group_id } => node.is_member(group_id).into(),
            Request::GroupRoutes {
                group_id,
                src_node_id,
            } => node.group_routes(group_id, src_node_id).into(),
            Request::LeaveGroup { group_id } => {
                let members = &self.shared.members;
                members.release(group_id, self.program, || node.leave_group(group_id))?;
                Value::Nil
            }
            request => return self.ask(node, request),
        }
        .into())
    }

    /// Requests to the controller, whose answer is a thing to wait for.
    fn ask(&mut self, node: &Node, request: Request) -> Result<Answer, NodeError> {
        let charge = self.charge_thing()?;
        let kind = match request {
            Request::CreateGroup { label } => Kind::Nothing(node.create_group(&label)?),
            Request::JoinGroup { group_id, wait_ms } => {
                let wait = Duration::from_millis(wait_ms);
                Kind::Nothing(self.shared.members.hold(
                    group_id,
                    self.program,
                    || node.is_member(group_id),
                    || node.join_group(group_id, wait),
                )?)
            }
            Request::SetGroupRoutes { group_id, edges } => {
                Kind::Nothing(self.with_trees(group_id, || node.set_group_routes(group_id, edges))?)
            }
            Request::SetGroupRoutesMulti { group_id, trees } => {
                let set = || node.set_group_routes_multi(group_id, trees);
                Kind::Nothing(self.with_trees(group_id, set)?)
            }
            Request::ComputeGroupRoutes {
                group_id,
                receivers,
                kind,
            } => {
                let compute = || node.compute_group_routes(group_id, receivers, &kind);
                Kind::Edges(self.with_trees(group_id, compute)?)
            }
            _ => return Err(NodeError::Internal("a request of another kind")),
        };
        self.add(kind, charge)
    }

    /// Carries out a call that gives a group trees, which stay until the last program that did so ends.
    fn with_trees<T>(
        &self,
        group_id: u32,
        set: impl FnOnce() -> Result<T, NodeError>,
    ) -> Result<T, NodeError> {
        self.shared
            .trees
            .hold(group_id, self.program, || false, set)
    }

    fn receive(&mut self, node: &Node, request: Request) -> Result<Answer, NodeError> {
        Ok(match request {
            Request::RegisterReceiver {
                src_node_id,
                group_ip,
                src_port,
                dst_port,
            } => {
                let charge = self.charge_thing()?;
                let group = group_ip.as_deref().map(address).transpose()?;
                let receiver = node.register_receiver(src_node_id, group, src_port, dst_port)?;
                return self.add(Kind::Receiver(receiver), charge);
            }
            Request::Take { thing, limit } => return self.take(thing, limit),
            Request::Dropped { thing } => self.queue(thing)?.dropped().into(),
            Request::CloseReceiver { thing } => {
                if let Kind::Receiver(receiver) = self.thing(thing)? {
                    receiver.close();
                }
                Value::Nil
            }
            Request::Answer { thing } => {
                let edges = match self.thing(thing)? {
                    Kind::Nothing(pending) => pending.take().map(|done| done.map(|()| Vec::new())),
                    Kind::Edges(pending) => pending.take(),
                    Kind::Receiver(_) => None,
                };
                let Some(done) = edges else {
                    return Ok(Value::Nil.into());
                };
                self.forget(thing); // it is handed out once
                let edge = |(from, to): (u32, u32)| Value::Array(vec![from.into(), to.into()]);
                Value::Array(done?.into_iter().map(edge).collect())
            }
            Request::Forget { thing } => {
                self.forget(thing);
                Value::Nil
            }
            _ => return Err(NodeError::Internal("a request of another kind")),
        }
        .into())
    }

    fn transfer(
        &mut self,
        node: &Node,
        request: Request,
        descriptor: Option<OwnedFd>,
    ) -> Result<Answer, NodeError> {
        Ok(match request {
            Request::SendData {
                group_id,
                dest_ip,
                receiver_ids,
                chunk_size,
            } => {
                let dest = address(&dest_ip)?;
                let file = descriptor.ok_or_else(|| limit("the bytes to send are missing"))?;
                let start = |data| node.send_data(group_id, dest, receiver_ids, data, chunk_size);
                self.transfers.send(node, &file, start)?.into()
            }
            Request::ReceiveData {
                group_id,
                dest_ip,
                source_node_id,
                expected_bytes,
                chunk_size,
            } => {
                let dest = address(&dest_ip)?;
                let start = || {
                    node.receive_data(group_id, dest, source_node_id, expected_bytes, chunk_size)
                };
                self.transfers.receive(node, expected_bytes, start)?.into()
            }
            Request::SessionDone { session_id } => {
                let state = node.session_state(self.transfers.own(session_id)?)?;
                state.map_or(Value::Nil, |state| (state == SessionState::Complete).into())
            }
            Request::SessionReport { session_id } => {
                values::report(&node.session_report(self.transfers.own(session_id)?)?)
            }
            Request::SessionData {
                session_id,
                consume,
            } => {
                return self.transfers.data(node, session_id, consume);
            }
            Request::CancelSession { session_id } => {
                self.transfers.cancel(node, session_id)?;
                Value::Nil
            }
            _ => return Err(NodeError::Internal("a request of another kind")),
        }
        .into())
    }
}

fn address(text: &str) -> Result<Ipv4Addr, NodeError> {
    text.parse().map_err(|_| NodeError::Argument {
        id: "argument.address",
        message: format!("{text:?} is not an IPv4 address"),
    })
}
