//! User-space flows of test nodes.

use std::net::Ipv4Addr;

use nm_engine::{AddressPlan, Command, NodeId};
use nm_flows::{Amount, FlowEnd, FlowEvent, FlowSpec};

use super::TestNode;

/// Gives a node user-space addresses, and lets its flows begin.
pub fn prepare(node: &TestNode) {
    let user_base_addr = Some(Ipv4Addr::new(192, 168, 0, 0));
    let addresses = AddressPlan {
        user_base_addr,
        ..AddressPlan::default()
    };
    node.command(Command::Configure { addresses });
    node.port.start_flows();
}

/// A flow.
pub fn spec(id: u64, src: NodeId, dst: NodeId, amount: Amount, rate_bps: Option<u64>) -> FlowSpec {
    FlowSpec {
        id,
        src,
        dst,
        amount,
        rate_bps,
        weight: 1,
        route: 0,
    }
}

/// Requests flows at both of their ends.
pub fn add(nodes: &[&TestNode], flows: &[FlowSpec]) {
    for node in nodes {
        let own = flows
            .iter()
            .filter(|flow| flow.src == node.id || flow.dst == node.id);
        node.port
            .add_flows_then(own.cloned().collect(), |answer| assert!(answer.is_ok()));
    }
}

/// Waits until that many flows of a node have ended; their results in that order.
pub fn wait_ends(node: &TestNode, count: usize) -> Vec<FlowEnd> {
    node.record.wait("the end of the flows", |record| {
        let ends = record.flows.iter().filter_map(|event| match event {
            FlowEvent::Ended(end) => Some(end.clone()),
            _ => None,
        });
        Some(ends.collect::<Vec<_>>()).filter(|ends| ends.len() >= count)
    })
}
