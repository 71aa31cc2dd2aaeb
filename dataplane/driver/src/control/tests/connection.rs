//! Tests of connecting, losing the connection and reconnecting.

use super::*;

#[test]
fn a_node_is_registered_when_its_settings_are_in_force() {
    let (listener, addr) = listen();
    let node = attach_node(addr, LONG);
    let mut peer = Peer::welcome(&listener);
    let start_up = peer.register(2);
    assert_eq!(start_up.private_network_addr, "127.0.0.1:4000");
    assert_eq!(node.registered.recv_timeout(LONG), Ok(Ok(())));
    assert!(matches!(
        node.effects.recv_timeout(LONG),
        Ok(Effect::Configure(_))
    ));
    node.handle.detach("done");
    assert!(
        matches!(peer.handle_message().message, ToController::Goodbye(goodbye) if goodbye.reason == "done")
    );
}

#[test]
fn an_unreachable_controller_is_reported_within_the_time_limit() {
    let (listener, addr) = listen();
    drop(listener);
    let node = attach_node(addr.clone(), Duration::from_millis(200));
    let error = node
        .registered
        .recv_timeout(LONG)
        .expect("an answer")
        .expect_err("unreachable");
    assert!(
        matches!(&error, ControlError::Unreachable { addr: found, .. } if *found == addr),
        "{error:?}"
    );
}

#[test]
fn a_node_connects_to_a_controller_that_starts_later() {
    let (listener, addr) = listen();
    let port = listener.local_addr().expect("an address");
    drop(listener);
    let node = attach_node(addr, LONG);
    let listener = TcpListener::bind(port).expect("the same port");
    let mut peer = Peer::welcome(&listener);
    peer.register(2);
    assert_eq!(node.registered.recv_timeout(LONG), Ok(Ok(())));
}

#[test]
fn after_a_loss_the_node_sends_its_versions_and_repeats_its_requests() {
    let (listener, node, mut peer) = registered_node();
    assert_eq!(node.registered.recv_timeout(LONG), Ok(Ok(())));
    let routes = InstallRoutes {
        version: 77,
        table: None,
        routes: vec![],
        removed: vec![],
        reset: false,
        pins: vec![],
        removed_pins: vec![],
    };
    peer.send(2, routes);
    peer.expect_ready();
    let answered = node.create_group(LONG);
    assert!(matches!(
        peer.handle_message().message,
        ToController::CreateGroup(_)
    ));
    drop(peer);

    let mut peer = Peer::welcome(&listener);
    assert_eq!(peer.register(2).have.routes, Some(77));
    let again = peer.handle_message();
    assert!(
        matches!(&again.message, ToController::CreateGroup(request) if request.label == "x"),
        "{again:?}"
    );
    peer.send(
        2,
        Ack {
            re: again.id,
            value: Some(Value::from(5)),
        },
    );
    assert_eq!(answered.recv_timeout(LONG), Ok(Ok(Some(Value::from(5)))));
    // Sent again.
    peer.expect_ready();
}

#[test]
fn a_node_with_a_restarted_engine_registers_without_versions_on_the_same_connection() {
    let (_listener, node, mut peer) = registered_node();
    assert_eq!(node.registered.recv_timeout(LONG), Ok(Ok(())));
    let routes = |version| InstallRoutes {
        version,
        table: None,
        routes: vec![],
        removed: vec![],
        reset: true,
        pins: vec![],
        removed_pins: vec![],
    };
    peer.send(2, routes(77));
    peer.expect_ready();
    let report = LinkReport(node.handle.clone());
    report.report_event("node.engine_restarted", Value::Nil);
    report.restarted();
    assert!(
        matches!(peer.handle_message().message, ToController::NodeEvent(event) if event.name == "node.engine_restarted")
    );
    assert_eq!(peer.register(2).have, nm_messages::Have::default());
    peer.send(2, routes(77));
    // Sent again, once all state is in force again.
    peer.expect_ready();
}

#[test]
fn a_node_that_must_not_reconnect_fails_its_requests_after_a_loss() {
    let (listener, addr) = listen();
    let node = attach_with(addr, LONG, false);
    let mut peer = Peer::welcome(&listener);
    peer.register(2);
    assert_eq!(node.registered.recv_timeout(LONG), Ok(Ok(())));
    drop(peer);
    let ask = || {
        let answered = node.create_group(LONG);
        answered
            .recv_timeout(LONG)
            .expect("an answer")
            .expect_err("no controller")
    };
    assert_eq!(ask(), ControlError::Lost);
    drop(listener);
}

#[test]
fn a_panic_ends_the_websocket_and_all_state_is_sent_again() {
    let (listener, addr) = listen();
    let nodes = connect_with(addr, [(2, false)], no_names());
    let mut peer = Peer::welcome(&listener);
    peer.register(2);
    assert_eq!(nodes[0].registered.recv_timeout(LONG), Ok(Ok(())));
    peer.order(4, 2, routes_of(9));
    assert!(matches!(peer.handle_message().message, ToController::Ack(ack) if ack.re == 4));
    nodes[0].panics.store(true, Ordering::SeqCst);
    peer.order(5, 2, link_to(4, "", 7));
    let mut peer = Peer::welcome(&listener);
    assert_eq!(peer.register(2).have, nm_messages::Have::default());
    peer.order(6, 2, link_to(4, "", 7));
    assert!(matches!(peer.handle_message().message, ToController::Ack(ack) if ack.re == 6));
}

#[test]
fn a_link_that_is_up_at_once_is_reported() {
    let (listener, addr) = listen();
    let _node = attach_node(addr, LONG);
    let mut peer = Peer::welcome(&listener);
    peer.register(2);
    peer.send(2, routes_of(1));
    peer.expect_ready();
    peer.send(2, link_to(UP_AT_ONCE, "", 1));
    let report = peer.handle_message();
    let ToController::LinkState(state) = &report.message else {
        panic!("{report:?}")
    };
    assert_eq!((state.remote_node_id, state.up), (UP_AT_ONCE, true));
}
