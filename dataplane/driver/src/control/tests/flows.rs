//! Tests of orders about user-space flows, and of their reports.

use nm_flows::Amount;
use nm_messages::{AddFlows, Flow, FlowProgress, StopFlows, UserFlowProgress, UserFlowStart};

use super::*;

#[test]
fn flows_are_passed_on_as_requested_and_acknowledged() {
    let (_listener, node, mut peer) = registered_node();
    let second = Flow {
        size_bytes: None,
        duration_ms: Some(1_500),
        rate_bps: Some(1_000_000),
        weight: Some(3),
        ..flow(8)
    };
    let flows = vec![flow(7), second];
    peer.order(5, 2, AddFlows { flows });
    let controller_ids = vec![7];
    peer.order(6, 2, StopFlows { controller_ids });
    assert!(matches!(
        node.effects.recv_timeout(LONG),
        Ok(Effect::Configure(_))
    ));
    let Ok(Effect::AddFlows(flows)) = node.effects.recv_timeout(LONG) else {
        panic!("flows")
    };
    let found = flows.iter().map(|flow| (flow.id, flow.amount, flow.weight));
    let time = Amount::Time(Duration::from_millis(1_500));
    let expected = [(7, Amount::Bytes(1_000), 1), (8, time, 3)];
    assert!(found.eq(expected), "{flows:?}");
    assert_eq!(
        node.effects.recv_timeout(LONG),
        Ok(Effect::StopFlows(vec![7]))
    );
    let mut acknowledged = Vec::new();
    while acknowledged.len() < 2 {
        if let ToController::Ack(ack) = peer.handle_message().message {
            acknowledged.push(ack.re);
        }
    }
    assert_eq!(acknowledged, [5, 6]);
}

#[test]
fn a_flow_that_makes_no_sense_is_refused_with_all_that_came_with_it() {
    let (_listener, _node, mut peer) = registered_node();
    let other = |change: &dyn Fn(&mut Flow)| {
        let mut flow = flow(8);
        change(&mut flow);
        flow
    };
    let cases = [
        (other(&|flow| flow.duration_ms = Some(1)), "either a size"),
        (other(&|flow| flow.size_bytes = None), "either a size"),
        (other(&|flow| flow.rate_bps = Some(0)), "a rate of 0"),
        (other(&|flow| flow.transport = "x".to_owned()), "transport"),
    ];
    for (wrong, expected) in cases {
        let flows = vec![flow(7), wrong];
        peer.order(5, 2, AddFlows { flows });
        let error = loop {
            if let ToController::Error(error) = peer.handle_message().message {
                break error;
            }
        };
        assert!(
            error.re == 5 && error.message.contains(expected),
            "{error:?}"
        );
    }
}

#[test]
fn the_beginning_of_a_flow_is_reported_until_it_is_acknowledged() {
    let (listener, node, mut peer) = registered_node();
    assert_eq!(node.registered.recv_timeout(LONG), Ok(Ok(())));
    peer.send(2, routes_of(77));
    peer.expect_ready();
    let report = LinkReport(node.handle.clone());
    report.report_flows(UserFlowStart { flows: vec![] }, true);
    let is_start = |frame: &Frame<ToController>| {
        frame.id != 0 && matches!(frame.message, ToController::UserFlowStart(_))
    };
    assert!(is_start(&peer.handle_message()));
    drop(peer);
    let mut peer = Peer::welcome(&listener);
    peer.register(2);
    let frame = loop {
        let frame = peer.handle_message();
        if is_start(&frame) {
            break frame;
        }
    };
    let (re, value) = (frame.id, None);
    peer.send(2, Ack { re, value });
    let flows = vec![FlowProgress {
        controller_id: 7,
        size_bytes: 1,
    }];
    report.report_flows(UserFlowProgress { time_ms: 1, flows }, false);
    let progress =
        |frame: &Frame<ToController>| matches!(frame.message, ToController::UserFlowProgress(_));
    while !progress(&peer.handle_message()) {}
}

fn flow(controller_id: u64) -> Flow {
    Flow {
        controller_id,
        src_node_id: 2,
        dst_node_id: 3,
        size_bytes: Some(1_000),
        duration_ms: None,
        rate_bps: None,
        weight: None,
        route_id: None,
        transport: "tcp".to_owned(),
    }
}
