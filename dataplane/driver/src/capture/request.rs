//! The request of a capture: a line of JSON.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;

use nm_engine::NodeId;
use serde::Deserialize;

use super::filter::Instruction;
use crate::runtime::{Interface, Point};

/// Most interfaces of a request: the node's two, and three for each of 2730 links. A packet's interface is looked up
/// among all of them.
const MAX_INTERFACES: usize = 8192;

/// What a program asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    /// The node.
    pub node: NodeId,
    /// The interfaces that this node's packets have in the file.
    interfaces: Vec<RequestedInterface>,
    /// A program of classic BPF; empty accepts every packet.
    #[serde(default)]
    pub filter: Vec<Instruction>,
    /// Bytes of a packet that are kept.
    pub snaplen: u32,
    /// What is added to the monotonic clock to get the time since 1970, in nanoseconds.
    pub epoch_ns: u64,
}

impl Request {
    /// The interfaces.
    ///
    /// # Errors
    ///
    /// A sentence, when there are too many, or two have the same number or the same point.
    pub(super) fn interfaces(&self) -> Result<Vec<Interface>, String> {
        let count = self.interfaces.len();
        if count > MAX_INTERFACES {
            return Err(format!(
                "the request has {count} interfaces, at most {MAX_INTERFACES} are allowed"
            ));
        }
        let (mut numbers, mut points) = (BTreeSet::new(), BTreeSet::new());
        let mut interfaces = Vec::with_capacity(count);
        for interface in self.interfaces.iter().map(RequestedInterface::build) {
            if !numbers.insert(interface.number) {
                return Err(format!("interface {} is requested twice", interface.number));
            }
            if !points.insert(interface.point) {
                return Err(format!(
                    "interface {} has the point of another one",
                    interface.number
                ));
            }
            interfaces.push(interface);
        }
        Ok(interfaces)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestedInterface {
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
    fn build(&self) -> Interface {
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

    fn request(interfaces: &[(u32, &str, NodeId)]) -> Request {
        let interfaces: Vec<_> = interfaces
            .iter()
            .map(|(number, point, remote)| {
                serde_json::json!({"number": number, "point": point, "remote": remote})
            })
            .collect();
        let whole = serde_json::json!({
            "node": 3, "snaplen": 96, "epoch_ns": 5, "interfaces": interfaces
        });
        serde_json::from_value(whole).expect("valid")
    }

    #[test]
    fn two_interfaces_with_one_number_or_one_point_are_refused() {
        let error = |interfaces: &[_]| request(interfaces).interfaces().expect_err("refused");
        assert_eq!(
            error(&[(1, "before", 4), (1, "after", 4)]),
            "interface 1 is requested twice"
        );
        assert_eq!(
            error(&[(1, "before", 4), (2, "before", 5), (3, "before", 4)]),
            "interface 3 has the point of another one"
        );
    }

    #[test]
    fn too_many_interfaces_are_refused() {
        let all: Vec<_> = (0..=8192).map(|number| (number, "after", number)).collect();
        assert_eq!(
            request(&all[1..]).interfaces().map(|all| all.len()),
            Ok(8192)
        );
        let error = request(&all).interfaces().expect_err("refused");
        assert!(error.contains("8193 interfaces"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let line = r#"{"node": 3, "snaplen": 96, "epoch_ns": 5, "interfaces": [], "colour": 1}"#;
        let error = serde_json::from_str::<Request>(line).expect_err("refused");
        assert!(error.to_string().contains("colour"), "{error}");
    }
}
