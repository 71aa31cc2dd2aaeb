//! Tests of refused registrations and unanswered requests.

use super::*;

#[test]
fn a_wrong_token_is_reported_with_its_error_id() {
    let (listener, addr) = listen();
    let node = attach_node(addr, LONG);
    let mut peer = Peer::accept(&listener);
    let frame = peer.handle_message();
    let error = "control.token".to_owned();
    peer.send(
        0,
        Error {
            re: frame.id,
            error,
            message: "no".to_owned(),
            hint: None,
        },
    );
    let error = node
        .registered
        .recv_timeout(LONG)
        .expect("an answer")
        .expect_err("a refusal");
    assert_eq!(error.id(), "control.token");
}

#[test]
fn a_request_without_a_reply_fails_with_a_timeout() {
    let (_listener, node, _peer) = registered_node();
    let answered = node.create_group(Duration::from_millis(50));
    let error = answered
        .recv_timeout(LONG)
        .expect("an answer")
        .expect_err("too late");
    assert!(
        matches!(
            error,
            ControlError::Timeout {
                what: "CreateGroup",
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn requests_above_the_limit_are_refused_until_some_have_ended() {
    let (_listener, node, _peer) = registered_node();
    let (answer, answered) = channel();
    let ask = |limit: Duration| {
        let answer = answer.clone();
        let group = CreateGroup {
            label: "x".to_owned(),
        };
        let reply = Box::new(move |result| drop(answer.send(result)));
        node.handle.request(group, limit, reply);
    };
    for _ in 0..MAX_REQUESTS {
        ask(Duration::from_secs(2));
    }
    ask(LONG);
    let busy = |result| {
        matches!(
            result,
            Err(ControlError::Busy {
                limit: MAX_REQUESTS
            })
        )
    };
    assert!(busy(answered.recv_timeout(LONG).expect("an answer")));
    for _ in 0..MAX_REQUESTS {
        let late = answered.recv_timeout(LONG).expect("an answer");
        assert!(
            matches!(late, Err(ControlError::Timeout { .. })),
            "{late:?}"
        );
    }
    ask(Duration::from_millis(50));
    let late = answered.recv_timeout(LONG).expect("an answer");
    assert!(
        matches!(late, Err(ControlError::Timeout { .. })),
        "{late:?}"
    );
}

#[test]
fn a_node_with_a_wrong_token_does_not_prevent_the_others_from_registering() {
    let (listener, addr) = listen();
    let nodes = connect_with(addr, [(2, false), (3, false)], no_names());
    let mut peer = Peer::accept(&listener);
    let hello = peer.handle_message();
    assert_eq!(hello.node, 2);
    let refusal = |re| Error {
        re,
        error: "control.token".to_owned(),
        message: "no".to_owned(),
        hint: None,
    };
    peer.send(0, refusal(hello.id));
    let refused = nodes[0].registered.recv_timeout(LONG).expect("an answer");
    assert_eq!(refused.expect_err("a refusal").id(), "control.token");
    let mut peer = Peer::welcome(&listener);
    peer.register(3);
    assert_eq!(nodes[1].registered.recv_timeout(LONG), Ok(Ok(())));
}

#[test]
fn invalid_settings_fail_the_registration() {
    let (listener, addr) = listen();
    let nodes = connect_with(addr, [(2, false)], no_names());
    let mut peer = Peer::welcome(&listener);
    let frame = peer.handle_message();
    peer.send(
        2,
        Ack {
            re: frame.id,
            value: None,
        },
    );
    let mut invalid = settings(2);
    invalid.net_mask = "wide".to_owned();
    peer.send(2, invalid);
    let refused = nodes[0].registered.recv_timeout(LONG).expect("an answer");
    assert_eq!(refused.expect_err("a refusal").id(), "order.refused");
}
