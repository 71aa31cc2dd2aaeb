//! Filter state changes of other nodes: pass only nodes that became unavailable or available again.

use std::collections::BTreeMap;

use nm_engine::NodeId;
use nm_messages::NodeState;

use super::member::is_unavailable;

/// The last state of each node that was received on the connection.
#[derive(Debug, Default)]
pub(super) struct StateFilter(BTreeMap<NodeId, String>);

impl StateFilter {
    /// Forgets all states: a new connection may report everything again.
    pub fn forget(&mut self) {
        self.0.clear();
    }

    /// Whether a state is relevant to the nodes of this process: a node became unavailable, or is available again.
    /// Other states on the way to ready concern only the controller, and with a thousand nodes there are a million of
    /// them.
    pub fn is_relevant(&mut self, change: &NodeState) -> bool {
        let before = self.0.insert(change.node_id, change.state.clone());
        match before {
            Some(before) if before == change.state => false,
            Some(before) => is_unavailable(&before) || is_unavailable(&change.state),
            None => is_unavailable(&change.state),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_to_and_from_unavailable_are_relevant() {
        let mut state_filter = StateFilter::default();
        let mut relevant = |state: &str| {
            state_filter.is_relevant(&NodeState {
                node_id: 4,
                state: state.to_owned(),
            })
        };
        assert!(!relevant("starting"));
        assert!(!relevant("ready"));
        assert!(relevant("unreachable"));
        assert!(!relevant("unreachable"));
        assert!(relevant("starting"));
        assert!(!relevant("ready"));
    }
}
