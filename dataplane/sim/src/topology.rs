//! Topologies, shortest paths and trees of simulated labs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use nm_engine::NodeId;

/// Edges of a ring of `n` nodes; two nodes have one edge.
pub(crate) fn ring(n: u32) -> Vec<(NodeId, NodeId)> {
    let mut edges = line(n);
    if n > 2 {
        edges.push((n, 1));
    }
    edges
}

/// Edges of a line of `n` nodes.
pub(crate) fn line(n: u32) -> Vec<(NodeId, NodeId)> {
    (1..n).map(|a| (a, a + 1)).collect()
}

/// Edges of a star around node 1.
pub(crate) fn star(n: u32) -> Vec<(NodeId, NodeId)> {
    (2..=n).map(|b| (1, b)).collect()
}

/// Edges of a complete binary tree with root 1.
pub(crate) fn tree(n: u32) -> Vec<(NodeId, NodeId)> {
    (2..=n).map(|b| (b / 2, b)).collect()
}

/// For every node its next hop on a shortest path to `root`; the lowest id among equal ones.
pub(crate) fn parents(edges: &BTreeSet<(NodeId, NodeId)>, root: NodeId) -> BTreeMap<NodeId, NodeId> {
    let mut neighbours: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
    for &(a, b) in edges {
        neighbours.entry(a).or_default().insert(b);
        neighbours.entry(b).or_default().insert(a);
    }
    let mut parents = BTreeMap::from([(root, root)]);
    let mut queue = VecDeque::from([root]);
    while let Some(node) = queue.pop_front() {
        for &next in neighbours.get(&node).into_iter().flatten() {
            if let std::collections::btree_map::Entry::Vacant(entry) = parents.entry(next) {
                entry.insert(node);
                queue.push_back(next);
            }
        }
    }
    parents
}

/// Children per node of the shortest-path tree from `root` that reaches `members`.
pub(crate) fn shortest_tree(
    edges: &BTreeSet<(NodeId, NodeId)>,
    root: NodeId,
    members: &[NodeId],
) -> BTreeMap<NodeId, BTreeSet<NodeId>> {
    let parents = parents(edges, root);
    let mut children: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
    for &member in members {
        let mut node = member;
        while node != root {
            let Some(&parent) = parents.get(&node) else {
                break;
            };
            children.entry(parent).or_default().insert(node);
            node = parent;
        }
    }
    children
}
