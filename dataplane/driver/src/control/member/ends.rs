//! Update a member's state when a step or a lookup has ended.

use super::*;

impl Member {
    /// A step has ended; on success its version is now in force.
    pub fn end(&mut self, ticket: u64, result: &Result<(), String>) -> Ended {
        let done = result.is_ok();
        let mut ended = Ended {
            tickets: vec![ticket],
            link: None,
        };
        match self.pending.remove(&ticket) {
            Some(Subject::Settings) => self.configured |= done,
            Some(Subject::Routes) => self.routes.end(ticket, done),
            Some(Subject::Groups) => self.directory.end(ticket, done),
            Some(Subject::Tree { group_id, none }) => {
                if let Some(progress) = self.trees.get_mut(&group_id) {
                    progress.end(ticket, done);
                    if none && progress.in_force().is_some() {
                        self.trees.remove(&group_id);
                    }
                }
            }
            Some(Subject::Made(remote)) => self.end_make(remote, ticket, result, &mut ended),
            // A refused change leaves the link as it was.
            Some(subject @ (Subject::Changed(remote) | Subject::Renewed(remote))) => {
                if let Some(link) = self.links.get_mut(&remote) {
                    link.progress.end(ticket, done);
                }
                // The controller takes a link that it sends again to be down until it is reported up.
                ended.link = matches!(subject, Subject::Renewed(_)).then_some(remote);
            }
            Some(Subject::Unlink(remote)) => {
                let removed = |link: &mut Link| done && link.phase == Phase::Removing(ticket);
                if self.links.get_mut(&remote).is_some_and(removed) {
                    let link = self.links.remove(&remote);
                    ended
                        .tickets
                        .extend(link.into_iter().flat_map(|link| link.parked));
                }
            }
            Some(Subject::Nothing) | None => {}
        }
        for parked in &ended.tickets {
            self.pending.remove(parked);
        }
        ended
    }

    pub(super) fn end_make(
        &mut self,
        remote: NodeId,
        ticket: u64,
        result: &Result<(), String>,
        ended: &mut Ended,
    ) {
        let Some(link) = self.links.get_mut(&remote) else {
            return;
        };
        link.progress.end(ticket, result.is_ok());
        if link.phase != Phase::Made(ticket) {
            return;
        }
        ended.tickets.append(&mut link.parked);
        if let Err(reason) = result {
            link.phase = Phase::Failed;
            link.state = Some((None, reason.clone()));
            ended.link = Some(remote);
        }
    }

    /// An address lookup for a link has ended.
    pub fn resolved(
        &mut self,
        remote: NodeId,
        ticket: u64,
        found: Result<SocketAddr, String>,
    ) -> Resolved {
        let Some(link) = self.links.get_mut(&remote) else {
            return Resolved::Stale;
        };
        if link.phase != Phase::Resolving(ticket) {
            return Resolved::Stale;
        }
        match found {
            Ok(address) => {
                link.attempts = 0;
                Resolved::Connect(self.make(remote, Some(address)))
            }
            Err(reason) => {
                link.attempts = link.attempts.saturating_add(1);
                let state = Some((None, reason));
                let changed = link.state != state;
                link.state = state;
                let attempts = link.attempts;
                Resolved::Failed { attempts, changed }
            }
        }
    }

    /// The lookup to repeat for a link, if the link still waits for one under this ticket.
    pub fn resolve_again(&self, remote: NodeId, ticket: u64) -> Option<Effect> {
        let link = self.links.get(&remote)?;
        (link.phase == Phase::Resolving(ticket)).then(|| Effect::Resolve {
            remote,
            name: link.order.remote_addr.clone(),
        })
    }
}
