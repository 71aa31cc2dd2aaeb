//! Restart the engine of a node whose code panicked; all other nodes of the packet thread continue.
//!
//! A panic unwinds to the thread's loop. The state of the current turn is unknown and is dropped: packets, work
//! lists, deadlines. The lists and deadlines are then rebuilt from the state of the nodes and links. The node whose
//! engine or sink was running gets a new engine, as after a restart of its process: its links go down and are made
//! again when the controller sends them; its sessions and receivers end, and their owners are notified. Its device,
//! its slot and the handles to it stay.
//!
//! After a panic outside any node, or too many within a minute, all nodes of the thread are restarted; after twice as
//! many the process ends, so that its supervisor starts a new one.

use nm_engine::{Command, Engine, Event, LinkId, SessionReport, SessionState};
use nm_kernel::poll::Interest;

use super::links::FAILED;
use super::node::{Node, Path, NEVER};
use super::timers::{Timer, Timers};
use super::{Shard, NO_SLOT};
use crate::runtime::mailbox::NodeKey;
use crate::runtime::panics;
use crate::runtime::setup::LinkKind;
use crate::runtime::sinks;
use crate::runtime::tap;

/// The time in which panics are counted.
const PANIC_WINDOW_NS: u64 = 60_000_000_000;
/// Panics in that time from which every node of the thread is restarted: the cause of repeated failures may be in a
/// neighbour.
const PANICS_FOR_ALL: usize = 5;
/// Panics in that time after which the process ends: restarting every node has not helped.
const PANICS_FOR_THE_END: usize = 10;

/// A node to restart.
pub(super) struct Restart {
    pub key: NodeKey,
    pub reason: String,
}

impl Shard {
    /// Records a panic and makes the thread's own state consistent. Nodes are restarted on the next turn.
    pub(super) fn contain(&mut self) {
        let message = panics::last_message();
        self.now = nm_kernel::thread::monotonic_ns();
        self.mailbox.counters.panics.add(1);
        self.writes.clear();
        self.panics
            .retain(|&at| at.saturating_add(PANIC_WINDOW_NS) > self.now);
        self.panics.push(self.now);
        let count = self.panics.len();
        if count >= PANICS_FOR_THE_END {
            let reason = format!(
                "failed {PANICS_FOR_THE_END} times within a minute, the last time with: {message}"
            );
            end_process(self.index, &reason);
        }
        let running = std::mem::replace(&mut self.running, NO_SLOT);
        let failed = self.nodes.at(running).map(|node| (node.key, node.id));
        let (keys, reason) = match failed {
            Some((key, id)) if count < PANICS_FOR_ALL => (
                vec![key],
                format!("the packet engine of node {id} failed: {message}"),
            ),
            _ => (
                self.nodes.keys(),
                format!("packet thread {} failed: {message}", self.index),
            ),
        };
        for key in keys {
            let reason = reason.clone();
            if self.restarts.iter().all(|restart| restart.key != key) {
                self.restarts.push(Restart { key, reason });
            }
        }
        self.rebuild();
        self.panicked = true;
    }

    /// Drops the current work and rebuilds lists and deadlines.
    fn rebuild(&mut self) {
        self.io.transmits.clear();
        self.io.tun.clear();
        self.io.tapped.clear();
        self.io.deliveries.clear();
        self.io.events.clear();
        self.work.clear();
        self.received = Vec::with_capacity(256);
        self.touched.clear();
        self.keeping.clear();
        self.busy.clear();
        self.dirty.clear();
        self.polled.clear();
        self.ring_waiters.iter_mut().for_each(Vec::clear);
        self.stalled_rings.fill(false);
        self.source = None;
        self.timers = Timers::default();
        self.idle_ends.clear();
        for key in self.nodes.keys() {
            self.rebuild_node(key);
        }
        self.rearm_listeners();
    }

    fn rebuild_node(&mut self, key: NodeKey) {
        let (slot, now) = (key.slot, self.now);
        let epochs = self.shared.clone();
        let Some(node) = self.nodes.get(key) else {
            return;
        };
        // Handled when the next turn settles: device, deadline, sessions.
        (node.touched, node.keeps) = (true, true);
        self.touched.push(slot);
        self.keeping.push(slot);
        node.armed.clear();
        if node.busy {
            self.busy.push_back(slot);
        }
        let paused = node.paused.take().is_some();
        for (link, end) in node.links.iter_mut().enumerate() {
            let Some(end) = end else { continue };
            let link = link as LinkId;
            end.waiters.clear();
            (end.dirty, end.polled) = (false, false);
            match &end.path {
                Path::Stream(stream) => {
                    end.dirty = true;
                    self.dirty.push((slot, link));
                    if stream.wire().is_shared() {
                        stream.wire().clear_sleep_flag();
                        end.polled = true;
                        self.polled.push((slot, link));
                    }
                }
                Path::Connecting(_) | Path::Handshake(..) | Path::Idle if end.dials() => {
                    // Restarted at once, whatever the state of the attempt.
                    end.path = Path::Idle;
                    end.epoch = epochs.next_epoch();
                    let epoch = end.epoch;
                    self.timers.add(now, Timer::Link { key, link, epoch });
                }
                Path::Idle if end.setup.kind == LinkKind::Memory => {
                    // The other end may have been added during the panic.
                    self.idle_ends.push((key, link));
                }
                _ => {}
            }
        }
        if paused {
            self.watch_devices(slot, Interest::READ);
        }
    }

    /// Restarts failed nodes, and finishes what the panic interrupted. A panic in here is handled as any other: each
    /// node is removed from the list before it is restarted.
    pub(super) fn recover(&mut self) {
        while let Some(Restart { key, reason }) = self.restarts.pop() {
            self.restart(key, &reason);
            self.settle();
        }
        while let Some((key, link)) = self.idle_ends.pop() {
            self.offer_end(key, link);
            self.settle();
        }
        for key in self.nodes.keys() {
            if self.nodes.get(key).is_some_and(|node| node.closing) {
                self.close_node(key);
            }
        }
        self.settle();
    }

    /// Restarts a node as if its process had been restarted, except for its device and the handles to it.
    fn restart(&mut self, key: NodeKey, reason: &str) {
        let slot = key.slot;
        let Some(node) = self.nodes.get(key) else {
            return;
        };
        let links: Vec<(LinkId, u32)> = node
            .by_remote
            .iter()
            .map(|(remote, link)| (*link, *remote))
            .collect();
        let sink = node.sink.clone();
        self.running = slot;
        if let Some(node) = self.nodes.get(key) {
            renew(node);
        }
        for (link, remote) in links {
            self.drop_end(key, link, FAILED);
            self.running = slot;
            sink.link_state(remote, None, reason);
        }
        let Some(node) = self.nodes.get(key) else {
            return;
        };
        let sessions = std::mem::take(&mut node.sessions);
        let members = std::mem::take(&mut node.memberships);
        for report in sessions.into_values() {
            sink.event(Event::SessionFinished {
                report: failed(report, reason),
                data: None,
            });
        }
        sink.engine_restarted(reason);
        for group_id in members {
            // Only a group that was left meanwhile could be refused.
            let _ = self.command(key, Command::JoinGroup { group_id });
        }
        self.running = NO_SLOT;
    }
}

/// The report of a session whose engine has failed, from its report at the start.
fn failed(mut report: Box<SessionReport>, reason: &str) -> Box<SessionReport> {
    report.state = SessionState::Failed;
    reason.clone_into(&mut report.reason);
    for peer in &mut report.peers {
        peer.state = SessionState::Failed;
        reason.clone_into(&mut peer.reason);
    }
    report
}

/// Gives a node a new engine.
fn renew(node: &mut Node) {
    // Peers use this number to distinguish the sessions of the two engines. Without randomness the old number is
    // rotated.
    node.config.incarnation =
        nm_kernel::thread::random_u64().unwrap_or_else(|_| node.config.incarnation.wrapping_add(1));
    let mut engine = Engine::new(node.config.clone());
    engine.set_paused(nm_engine::Instant::ZERO, node.engine.is_paused());
    sinks::install_allocator(&mut engine);
    engine.set_taps(&tap::points(&node.taps));
    engine.set_endpoint(true);
    node.engine = engine;
    // Its flows start again when the controller sends them again.
    node.endpoint = None;
    node.busy = false;
    if let Some(tun) = &mut node.tun {
        tun.forget_kept();
    }
}

/// Ends the process: this thread cannot carry packets any more, and nodes that only appear to run are worse than
/// none.
fn end_process(shard: usize, reason: &str) -> ! {
    eprintln!("nm: packet thread {shard} {reason}\nnm: this process ends; `nm up` starts it again");
    std::process::abort()
}

/// Ends the process when epoll fails: other code has closed the thread's descriptors.
pub(super) fn epoll_broken(shard: usize, error: &std::io::Error) -> ! {
    let reason = format!(
        "cannot wait for packets any more: {error}; other code of this process closes descriptors of this thread"
    );
    end_process(shard, &reason)
}

impl Shard {
    /// The listeners' deadline was dropped with the others.
    fn rearm_listeners(&mut self) {
        self.listener.armed = NEVER;
        self.check_listeners();
    }
}

/// Ends the process after a second panic during the handling of the first.
pub(super) fn end_after_second_panic(shard: usize) -> ! {
    let message = panics::last_message();
    end_process(
        shard,
        &format!("panicked while it handled a panic: {message}"),
    )
}
