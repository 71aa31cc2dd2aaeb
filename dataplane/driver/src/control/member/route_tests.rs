//! Test orders about explicit routes and pins.

use super::tests::{apply, member, route};
use super::*;

fn install(routes: Vec<wire::Route>, pins: Vec<wire::Pin>) -> wire::InstallRoutes {
    wire::InstallRoutes {
        version: 1,
        table: None,
        routes,
        removed: vec![],
        reset: false,
        pins,
        removed_pins: vec![],
    }
}

fn pin(pin_id: u64, route_id: u64) -> wire::Pin {
    wire::Pin {
        pin_id,
        src_node_id: 1,
        dst_node_id: 5,
        route_id,
        protocol: Some(6),
        src_port: None,
        dst_port: Some(80),
    }
}

#[test]
fn pins_are_passed_on_and_a_reset_removes_those_that_it_does_not_list() {
    let mut member = member();
    let pins = vec![pin(1, 10), pin(2, 10), pin(3, 10)];
    let order = wire::ToNode::InstallRoutes(install(vec![route(10, 3)], pins));
    let effects = apply(&mut member, order).expect("pins");
    let Effect::Routes { pins, unpinned, .. } = &effects[0] else {
        panic!("{effects:?}")
    };
    assert_eq!((pins.len(), unpinned.len()), (3, 0));
    assert_eq!((pins[0].protocol, pins[0].dst_port), (Some(6), Some(80)));
    let mut removal = install(vec![], vec![]);
    removal.removed_pins = vec![2];
    apply(&mut member, wire::ToNode::InstallRoutes(removal)).expect("a removal");
    let mut reset = install(vec![route(10, 3)], vec![pin(3, 10)]);
    (reset.reset, reset.table) = (true, Some(vec![0; 8].into()));
    let effects = apply(&mut member, wire::ToNode::InstallRoutes(reset)).expect("a reset");
    let Effect::Routes { pins, unpinned, .. } = &effects[0] else {
        panic!("{effects:?}")
    };
    assert_eq!((pins.len(), unpinned.as_slice()), (1, &[1, 3][..]));
}

#[test]
fn weights_and_numbers_that_are_none_are_refused() {
    for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let wrong = wire::Route {
            weight,
            ..route(1, 3)
        };
        let order = wire::ToNode::InstallRoutes(install(vec![wrong], vec![]));
        assert!(member()
            .handle(order)
            .expect_err("refused")
            .contains("weight"));
    }
    for id in [0, 1 << 32] {
        for order in [
            install(vec![route(id, 3)], vec![]),
            install(vec![], vec![pin(1, id)]),
        ] {
            let refused = member().handle(wire::ToNode::InstallRoutes(order));
            assert!(refused
                .expect_err("refused")
                .contains("no number of a route"));
        }
    }
}
