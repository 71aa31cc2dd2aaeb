//! Compare the performance of sessions under a grid of conditions with stored tables, so that a change of behaviour
//! appears in review as changed numbers. `UPDATE_SNAPSHOTS=1 cargo test -p nm-sim --test table` writes new tables.

use std::fmt::Write;
use std::path::Path;

use nm_engine::LinkSpec;
use nm_sim::{pattern, Lab, Wire};

/// One transfer of `len` bytes from node 1 to all others, as a row of the table.
fn row(name: &str, mut lab: Lab, nodes: u32, len: usize, ideal: Option<f64>) -> String {
    let receivers: Vec<u32> = (2..=nodes).collect();
    let group = lab.group(1, 1, &receivers);
    let data = pattern(len, 1);
    let incoming = lab.receive_all(group, 1, &receivers, len);
    let outgoing = lab.send(group, 1, &receivers, data.clone());
    assert!(lab.run_until_finished(1, outgoing), "{name} hangs");
    for (&node, &session) in receivers.iter().zip(&incoming) {
        assert!(*lab.data(node, session) == data, "{name}: node {node}");
    }
    let report = lab.report(1, outgoing);
    assert!(report.complete(), "{name}: {report:?}");
    let repair = 100.0 * report.repair_bytes as f64 / len as f64;
    let of_ideal = ideal.map_or(String::from("     –"), |ideal| format!("{:6.2}", report.seconds / ideal));
    format!("{name:<28} {:>6} {repair:>9.1} {:>11.4} {of_ideal}\n", report.repair_rounds, report.seconds)
}

fn compare(name: &str, table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, table).expect("the snapshot can be written");
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(known == table, "behaviour changed; new table:\n{table}");
}

const HEAD: &str = "conditions                   rounds  repair %   virtual s  × ideal\n";

#[test]
fn loss_by_topology() {
    let mut table = String::from(HEAD);
    type Make = fn(u32, u64, &Wire) -> Lab;
    let shapes: [(&str, u32, Make); 4] = [
        ("ring of 4", 4, Lab::ring),
        ("line of 6", 6, Lab::line),
        ("star of 9", 9, Lab::star),
        ("tree of 15", 15, Lab::tree),
    ];
    for (name, nodes, make) in shapes {
        for loss in [0.0, 0.001, 0.01, 0.05, 0.1] {
            let lab = make(nodes, 7, &Wire { loss, delay_ns: 1_000_000, ..Wire::default() });
            table += &row(&format!("{name}, loss {} %", loss * 100.0), lab, nodes, 2_000_000, None);
        }
    }
    let faulty = Wire {
        loss: 0.02,
        duplicate: 0.1,
        reorder: 0.2,
        delay_ns: 1_000_000,
        reorder_ns: 2_000_000,
        ..Wire::default()
    };
    table += &row("tree of 7, all faults", Lab::tree(7, 7, &faulty), 7, 2_000_000, None);
    compare("loss.txt", &table);
}

#[test]
fn shaped_links() {
    let mut table = String::from(HEAD);
    for mbit in [1u64, 10, 100, 1000] {
        for delay_ms in [0u64, 20] {
            for loss in [0.0, 0.05] {
                for limit_packets in [None, Some(20)] {
                    let (rate, len) = (mbit * 1_000_000, (mbit * 250_000).min(25_000_000) as usize);
                    let spec = LinkSpec {
                        rate_bps: Some(rate),
                        delay_us: delay_ms * 1000,
                        loss,
                        limit_packets,
                        ..LinkSpec::default()
                    };
                    let mut lab = Lab::line(3, 7, &Wire::default());
                    lab.shape_all(&spec);
                    let wire_bits = len as f64 * 8.0 * 1500.0 / 1460.0;
                    let ideal = wire_bits / (rate as f64 * (1.0 - loss).powi(2)) + 2e-3 * delay_ms as f64;
                    let mut name = String::new();
                    let queue = limit_packets.map_or("", |_| " q20");
                    write!(name, "{mbit}M {delay_ms}ms {}%{queue}", loss * 100.0)
                        .expect("writing to a string succeeds");
                    table += &row(&name, lab, 3, len, Some(ideal));
                }
            }
        }
    }
    compare("shaped.txt", &table);
}
