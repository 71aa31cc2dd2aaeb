//! What is known of other nodes' states, so that a lab that comes up does not tell every node of every other.

use std::collections::BTreeMap;

use nm_engine::NodeId;
use nm_messages::NodeState;

use super::member::is_gone;

/// The last state of each node that was heard on a line.
#[derive(Debug, Default)]
pub(super) struct News(BTreeMap<NodeId, String>);

impl News {
    /// A new line may tell everything again.
    pub fn forget(&mut self) {
        self.0.clear();
    }

    /// Whether a state matters to the nodes here: somebody has gone, or one that had gone is back. What nodes do
    /// on their way to being ready is the controller's business, and with a thousand of them a million events.
    pub fn is_news(&mut self, change: &NodeState) -> bool {
        let before = self.0.insert(change.node_id, change.state.clone());
        match before {
            Some(before) if before == change.state => false,
            Some(before) => is_gone(&before) || is_gone(&change.state),
            None => is_gone(&change.state),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn going_and_coming_back_are_news_and_coming_up_is_not() {
        let mut news = News::default();
        let mut tell = |state: &str| {
            news.is_news(&NodeState {
                node_id: 4,
                state: state.to_owned(),
            })
        };
        assert!(!tell("starting"));
        assert!(!tell("ready"));
        assert!(tell("unreachable"));
        assert!(!tell("unreachable"));
        assert!(tell("starting"));
        assert!(!tell("ready"));
    }
}
