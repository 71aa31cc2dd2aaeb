//! Add and remove ends of links, for links of all kinds.

use nm_engine::{Command, CommandError, CommandOutput, LinkId, NodeId};

use super::node::{LinkEnd, Path, Pressure};
use super::Shard;
use crate::runtime::mailbox::NodeKey;
use crate::runtime::setup::{LinkKind, LinkSetup};

/// Reasons that the neighbour's sink receives when this end is removed.
const REMOVED: &str = "the neighbour removed the link";
const CLOSED: &str = "the neighbouring node was closed";
pub(super) const FAILED: &str = "the neighbouring node's packet engine failed and was restarted";

impl Shard {
    /// Adds an end and starts to connect it. An earlier one for the same neighbour is removed first.
    pub(super) fn connect_link(
        &mut self,
        key: NodeKey,
        setup: LinkSetup,
    ) -> Result<(), CommandError> {
        let remote = setup.remote;
        if setup.secret.is_none() && setup.kind != LinkKind::Memory {
            return Err(CommandError::Invalid(format!(
                "a link to node {remote} in another process needs a key"
            )));
        }
        if self
            .nodes
            .get(key)
            .is_some_and(|node| node.by_remote.contains_key(&remote))
        {
            self.remove_link(key, remote)?;
        }
        let command = Command::AddLink {
            remote,
            remote_name: setup.remote_name.clone(),
            spec: setup.spec.clone(),
        };
        let link = match self.command(key, command)? {
            CommandOutput::Link(link) => link,
            _ => return Err(CommandError::UnknownLink(remote)),
        };
        let kind = setup.kind;
        let end = LinkEnd::new(setup, self.shared.next_epoch());
        let Some(node) = self.nodes.get(key) else {
            return Err(CommandError::UnknownLink(remote));
        };
        node.store(link, end);
        match kind {
            LinkKind::Memory => self.offer_end(key, link),
            LinkKind::Dial(_) => self.dial(key, link),
            LinkKind::Accept => self.expect_incoming(key, link),
        }
        Ok(())
    }

    /// Removes an end and notifies the other.
    pub(super) fn remove_link(&mut self, key: NodeKey, remote: NodeId) -> Result<(), CommandError> {
        let unknown = CommandError::UnknownLink(remote);
        let Some(node) = self.nodes.get(key) else {
            return Err(unknown);
        };
        let Some(&link) = node.by_remote.get(&remote) else {
            return Err(unknown);
        };
        self.report_link(key, link, None, "removed");
        self.drop_end(key, link, REMOVED);
        self.command(key, Command::RemoveLink { remote })
            .map(|_| ())
    }

    /// Carries out a command on a node's engine.
    pub(super) fn command(
        &mut self,
        key: NodeKey,
        command: Command,
    ) -> Result<CommandOutput, CommandError> {
        let now = self.instant();
        let Some(node) = self.nodes.get(key) else {
            return Err(CommandError::Invalid("the node is closed".into()));
        };
        if let Command::Configure { addresses } = &command {
            node.config.addresses.clone_from(addresses);
        }
        self.running = key.slot;
        let answer = node.engine.handle_command(now, command, &mut self.io);
        if let Ok(CommandOutput::Session(session)) = answer {
            node.config.last_session = session;
            let ask = Command::SessionReport { session };
            if let Ok(CommandOutput::Report(report)) =
                node.engine.handle_command(now, ask, &mut self.io)
            {
                node.sessions.insert(session, report);
            }
        }
        self.source = Some(key.slot);
        self.after_call(key.slot);
        self.run_work();
        self.source = None;
        answer
    }

    /// Removes a node from the shard.
    pub(super) fn close_node(&mut self, key: NodeKey) {
        let Some(node) = self.nodes.get(key) else {
            return;
        };
        // A panic on the way is followed by a second attempt.
        node.closing = true;
        let (id, lab) = (node.id, node.lab.clone());
        let links: Vec<LinkId> = node.by_remote.values().copied().collect();
        for link in links {
            self.drop_end(key, link, CLOSED);
        }
        self.remove_waiter(key);
        // Closing the device's descriptors takes them out of the epoll set as well.
        self.nodes.remove(key);
        self.shared.remove_node(&lab, id);
        self.mailbox
            .counters
            .nodes
            .set(self.mailbox.counters.nodes.get().saturating_sub(1));
    }

    /// Removes this end and notifies the other.
    pub(super) fn drop_end(&mut self, key: NodeKey, link: LinkId, reason: &'static str) {
        let Some(node) = self.nodes.get(key) else {
            return;
        };
        let (lab, from) = (node.lab.clone(), node.id);
        let Some(mut end) = node.links.get_mut(link as usize).and_then(Option::take) else {
            return;
        };
        let remote = end.setup.remote;
        node.by_remote.remove(&remote);
        let pressure = Pressure::Stream {
            slot: key.slot,
            link,
        };
        self.resume_nodes(pressure, &mut end.waiters);
        if let Path::Stream(mut stream) = end.path {
            stream.send_bye(reason);
        }
        match end.setup.kind {
            LinkKind::Memory => self.withdraw_end(&lab, from, remote, reason),
            LinkKind::Accept => self.shared.forget_expected(&lab, from, remote),
            LinkKind::Dial(_) => {}
        }
    }
}
