//! Replay every stored input: those with wide code coverage, and those that found a fault.

use std::fs;
use std::path::Path;

fn replay(target: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let (_, run) = nm_fuzz::TARGETS
        .iter()
        .find(|(name, _)| *name == target)
        .expect("a target");
    run(&[]);
    let mut count = 0;
    for entry in fs::read_dir(&folder).expect("a folder of inputs") {
        let path = entry.expect("readable").path();
        let input = fs::read(&path).expect("readable");
        let outcome = std::panic::catch_unwind(|| run(&input));
        assert!(
            outcome.is_ok(),
            "{} fails; run it alone: scripts/fuzz.sh {target} FILE",
            path.display()
        );
        count += 1;
    }
    assert!(count > 0, "no inputs in {}", folder.display());
}

#[test]
fn control_messages() {
    replay("control");
}

#[test]
fn link_frames() {
    replay("stream");
}

#[test]
fn packets_with_virtio_headers() {
    replay("packets");
}

#[test]
fn session_messages() {
    replay("sessions");
}

#[test]
fn shared_memory() {
    replay("ring");
}

#[test]
fn clients_and_headers_of_max_mode() {
    replay("max");
}
