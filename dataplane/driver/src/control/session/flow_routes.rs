//! List the flows of a node and their routes.

use nm_engine::{RoutedFlow, RoutedFlows};

use super::*;

impl Session {
    /// Requests the flows for which a node chose a route; they are the value of the acknowledgement.
    pub(super) fn list_flow_routes(&mut self, node: NodeId, id: u32, limit: u32) {
        let Some(attached) = self.attached_nodes.get(&node) else {
            return self.flow_routes_listed(node, id, None);
        };
        let input = self.input.clone();
        let done = move |flows| {
            let _ = input.send(Input::RoutedFlows { node, id, flows });
        };
        attached
            .executor
            .routed_flows(limit as usize, Box::new(done));
    }

    pub(super) fn flow_routes_listed(&mut self, node: NodeId, id: u32, flows: Option<RoutedFlows>) {
        match flows {
            Some(flows) => self.push_frame(
                node,
                Ack {
                    re: id,
                    value: Some(value(flows)),
                },
            ),
            None => self.push_frame(
                node,
                Error {
                    re: id,
                    error: "order.refused".to_owned(),
                    message: format!("node {node} is not in this process"),
                    hint: None,
                },
            ),
        }
    }
}

fn value(list: RoutedFlows) -> Value {
    let flow = |flow: RoutedFlow| {
        Value::Array(vec![
            flow.flow.to_string().into(),
            flow.route.into(),
            flow.by.as_str().into(),
            (flow.idle_ns / 1_000_000).into(),
        ])
    };
    let flows = list.flows.into_iter().map(flow).collect();
    Value::Map(vec![
        ("flows".into(), Value::Array(flows)),
        ("known".into(), list.known.into()),
        ("forgotten".into(), list.forgotten.into()),
    ])
}
