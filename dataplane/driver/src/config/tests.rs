use super::*;

const GOOD: &str = r#"
node_id = 2
name = "b"
controller_addr = "127.0.0.1:3000"
controller_token = "word"
"#;

fn parse(text: &str) -> Result<NodeSettings, ConfigError> {
    NodeSettings::parse(text, Path::new("node-2.toml"))
}

fn problem(text: &str) -> Problem {
    parse(text)
        .expect_err("the text has a problem")
        .first()
        .clone()
}

#[test]
fn a_short_file_gets_the_defaults() {
    let settings = parse(GOOD).expect("good");
    assert_eq!(settings.local_address, Ipv4Addr::new(10, 0, 0, 2));
    assert_eq!(settings.controller_addr, "ws://127.0.0.1:3000/control");
    assert_eq!(settings.channel_capacity, 1000);
    assert_eq!(settings.lossless.ready_grace, Duration::from_secs(10));
    assert_eq!(settings.lossless.start_timeout, Duration::from_secs(600));
    assert!(
        !format!("{settings:?}").contains("word"),
        "the token stays out of logs"
    );
}

#[test]
fn an_unknown_key_is_reported_with_its_position_and_the_nearest_name() {
    let text = format!("{GOOD}\nchanel_capacity = 5\n");
    let error = parse(&text).expect_err("unknown key");
    let first = error.first();
    assert_eq!(
        (first.id, first.line, first.column),
        ("config.unknown_key", Some(7), Some(1))
    );
    assert_eq!(first.nearest.as_deref(), Some("channel_capacity"));
    assert_eq!(
        error.to_string(),
        "node-2.toml:7:1: unknown key `chanel_capacity`; the nearest known name is `channel_capacity`"
    );
}

#[test]
fn an_unknown_key_of_a_table_is_reported_with_the_table() {
    let found = problem(&format!(
        "{GOOD}\n[lossless_runtime_config]\nwindow_byte = 1\n"
    ));
    assert_eq!(
        found.key.as_deref(),
        Some("lossless_runtime_config.window_byte")
    );
    assert_eq!(
        found.nearest.as_deref(),
        Some("lossless_runtime_config.window_bytes")
    );
}

#[test]
fn the_networks_behind_nodes_are_read_and_may_not_overlap() {
    let with = |list: &str| format!("{GOOD}prefixes = {list}\n");
    let settings = parse(&with(r#"["192.168.50.0/24 via 3", "172.20.0.0/16 via 2"]"#));
    let shown: Vec<_> = settings
        .expect("good")
        .prefixes
        .iter()
        .map(|prefix| format!("{prefix} {}", prefix.node))
        .collect();
    assert_eq!(shown, ["192.168.50.0/24 3", "172.20.0.0/16 2"]);
    for (list, id) in [
        (
            r#"["10.9.0.0/16 via 2", "10.9.1.0/24 via 3"]"#,
            "config.value",
        ),
        (r#"["10.9.0.1/16 via 2"]"#, "config.value"),
        (r#"["10.9.0.0/33 via 2"]"#, "config.value"),
        (r#"["10.9.0.0/16 via 0"]"#, "config.value"),
        (r#"["10.9.0.0/16"]"#, "config.value"),
        (r#""10.9.0.0/16 via 2""#, "config.type"),
        ("[3]", "config.type"),
    ] {
        let found = problem(&with(list));
        assert_eq!((found.id, found.line), (id, Some(6)), "{list}");
    }
}

#[test]
fn a_missing_key_is_reported() {
    let error = parse("node_id = 1\n").expect_err("no controller");
    assert_eq!(error.first().id, "config.missing_key");
    assert_eq!(
        error.to_string(),
        "node-2.toml: key `controller_addr` is missing"
    );
}

#[test]
fn wrong_types_and_ranges_are_reported_with_their_position() {
    let found = problem(&format!("{GOOD}mtu = \"big\"\n"));
    assert_eq!(
        (found.id, found.line, found.column),
        ("config.type", Some(6), Some(7))
    );
    assert_eq!(found.message, "`mtu` is a string, expected a whole number");
    let found = problem(&format!("{GOOD}mtu = 100\n"));
    assert_eq!(found.message, "`mtu` is 100, not in 576..=65535");
    let found = problem(&format!("{GOOD}num_tun_queues = -1\n"));
    assert_eq!(found.id, "config.value");
    let found = problem(&format!("{GOOD}lossless_runtime_config = 3\n"));
    assert_eq!(
        found.message,
        "`lossless_runtime_config` is a whole number, expected a table"
    );
}

#[test]
fn all_problems_are_reported_in_the_order_of_the_file() {
    let error = parse(&format!(
        "{GOOD}mtu = true\nnode = 3\noffload = \"maybe\"\n"
    ))
    .expect_err("three problems");
    let keys: Vec<_> = error
        .problems
        .iter()
        .filter_map(|p| p.key.as_deref())
        .collect();
    assert_eq!(keys, ["mtu", "node", "offload"]);
}

#[test]
fn a_syntax_error_is_reported_with_its_position() {
    let found = problem("node_id = \n");
    assert_eq!((found.id, found.line), ("config.syntax", Some(1)));
}

#[test]
fn an_address_that_does_not_follow_from_the_number_is_refused() {
    let found = problem(&format!("{GOOD}local_address = \"10.0.0.7\"\n"));
    assert_eq!(
        found.message,
        "`local_address` is 10.0.0.7, but node 2 of 10.0.0.0 has 10.0.0.2"
    );
    let found = problem("node_id = 70000\ncontroller_addr = \"h:1\"\n");
    assert_eq!(found.key.as_deref(), Some("node_id"));
}

#[test]
fn controller_addresses_are_completed_or_refused() {
    for (given, expected) in [
        ("h:1", "ws://h:1/control"),
        ("ws://h:1", "ws://h:1/control"),
        ("ws://h:1/x", "ws://h:1/x"),
        ("wss://h:1", "wss://h:1/control"),
    ] {
        assert_eq!(forms::parse_controller(given).as_deref(), Ok(expected));
    }
    for bad in ["", "h", "h:0", "http://h:1", ":3000", "h:99999"] {
        assert!(forms::parse_controller(bad).is_err(), "{bad} was accepted");
    }
}

#[test]
fn an_address_with_tls_needs_a_certificate_authority() {
    let authority = include_str!("../control/tests/certificates/valid_authority.pem");
    let given = |ca: &str| {
        format!("node_id = 2\ncontroller_addr = \"wss://h:1\"\ncontroller_ca = {ca:?}\n")
    };
    let settings = NodeSettings::parse(&given(authority), Path::new("n.toml")).expect("good");
    assert_eq!(settings.controller_ca, authority);
    for (bad, reason) in [
        ("", "it has no certificate in PEM form"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "BadEncoding",
        ),
    ] {
        let found = problem(&given(bad));
        assert_eq!(found.key.as_deref(), Some("controller_ca"));
        assert!(found.message.contains(reason), "{}", found.message);
    }
}

#[test]
fn the_public_port_may_be_in_either_key_but_not_differ() {
    for (address, port, expected) in [
        ("", 0, ""),
        ("", 5, ""),
        ("h:5", 0, "h:5"),
        ("h:5", 5, "h:5"),
        ("h", 5, "h:5"),
    ] {
        assert_eq!(
            forms::public_address(address, port).as_deref(),
            Ok(expected)
        );
    }
    for (address, port) in [("h", 0), ("h:5", 6), (":5", 5), ("h:x", 0)] {
        assert!(
            forms::public_address(address, port).is_err(),
            "{address} {port} was accepted"
        );
    }
    let found = problem(&format!(
        "{GOOD}public_network_addr = \"h:5\"\npublic_network_port = 6\n"
    ));
    assert_eq!((found.id, found.line), ("config.value", Some(6)));
}

#[test]
fn a_node_has_an_ipv6_address_where_the_file_gives_a_network() {
    assert_eq!(parse(GOOD).expect("good").interface6(), None);
    let settings = parse(&format!("{GOOD}ipv6 = \"fd12:3456:789a::/48\"\n")).expect("good");
    let expected: Ipv6Addr = "fd12:3456:789a::2".parse().expect("an address");
    assert_eq!(settings.interface6(), Some((expected, 48)));
    let small = parse(&format!(
        "{GOOD}ipv6 = \"fd12:3456:789a::/48\"\nmtu = 1279\n"
    ))
    .expect("good");
    assert_eq!(small.interface6(), None);
    for bad in [
        "fd12::1/48",
        "fd12::/97",
        "fd12::/7",
        "fd12::",
        "10.0.0.0/16",
        "x/48",
        "fd12::/300",
    ] {
        let found = problem(&format!("{GOOD}ipv6 = \"{bad}\"\n"));
        assert_eq!(
            (found.id, found.key.as_deref()),
            ("config.value", Some("ipv6")),
            "{bad}"
        );
    }
}
