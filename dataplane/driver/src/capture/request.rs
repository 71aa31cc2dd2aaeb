//! The request of a capture: a line of JSON.

use std::sync::atomic::AtomicU64;

use nm_engine::NodeId;
use serde::Deserialize;

use super::filter::Instruction;
use crate::runtime::{Interface, Point};

/// What a program asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    /// The node.
    pub node: NodeId,
    /// The interfaces that this node's packets have in the file.
    pub interfaces: Vec<RequestedInterface>,
    /// A program of classic BPF; empty accepts every packet.
    #[serde(default)]
    pub filter: Vec<Instruction>,
    /// Bytes of a packet that are kept.
    pub snaplen: u32,
    /// What is added to the monotonic clock to get the time since 1970, in nanoseconds.
    pub epoch_ns: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestedInterface {
    number: u32,
    point: PointName,
    /// The neighbour, for the points of a link.
    #[serde(default)]
    remote: NodeId,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PointName {
    Node,
    Refused,
    Before,
    After,
    Dropped,
}

impl RequestedInterface {
    pub(super) fn build(&self) -> Interface {
        let point = match self.point {
            PointName::Node => Point::Node,
            PointName::Refused => Point::Refused,
            PointName::Before => Point::Before(self.remote),
            PointName::After => Point::After(self.remote),
            PointName::Dropped => Point::Dropped(self.remote),
        };
        Interface {
            number: self.number,
            point,
            missed: AtomicU64::new(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_a_node_its_interfaces_and_a_filter() {
        let line = r#"{"node": 3, "snaplen": 96, "epoch_ns": 5, "filter": [{"code": 6, "jt": 0, "jf": 0, "k": 1}],
            "interfaces": [{"number": 2, "point": "before", "remote": 4}, {"number": 0, "point": "node"}]}"#;
        let request: Request = serde_json::from_str(line).expect("valid");
        let points: Vec<Point> = request.interfaces.iter().map(|i| i.build().point).collect();
        assert_eq!(points, [Point::Before(4), Point::Node]);
        assert_eq!(
            (request.node, request.snaplen, request.filter[0].k),
            (3, 96, 1)
        );
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let line = r#"{"node": 3, "snaplen": 96, "epoch_ns": 5, "interfaces": [], "colour": 1}"#;
        let error = serde_json::from_str::<Request>(line).expect_err("refused");
        assert!(error.to_string().contains("colour"), "{error}");
    }
}
