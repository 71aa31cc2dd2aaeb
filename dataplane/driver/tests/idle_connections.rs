//! Test that many idle connections cost no processor time and do not prevent a neighbour from connecting.

mod common;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::{dial, node, runtime_for, LIMIT};
use nix::sys::resource::{getrlimit, setrlimit, Resource};
use nm_driver::runtime::{Carrier, LinkKind, Runtime};

/// These tests change the process's descriptor limit, so they run one after the other.
fn alone(descriptors: u64) -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    limit(descriptors);
    turn
}

fn limit(descriptors: u64) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("readable");
    setrlimit(Resource::RLIMIT_NOFILE, descriptors.min(hard), hard).expect("below the hard limit");
}

fn connect(home: &Runtime) -> TcpStream {
    TcpStream::connect(home.listen_address().expect("it listens")).expect("the kernel accepts it")
}

/// Turns of the listening thread in that time. A busy loop makes tens of thousands in a second.
fn turns_in(home: &Runtime, time: Duration) -> u64 {
    let turns = || home.stats().shards[0].turns;
    let before = turns();
    std::thread::sleep(time);
    turns() - before
}

/// Links two nodes beside the idle connections; returns how long that took.
fn link_up(home: &std::sync::Arc<Runtime>, carrier: Carrier) -> Duration {
    let away = runtime_for(carrier, 1);
    let (one, two) = (node(home, 1), node(&away, 2));
    let start = Instant::now();
    one.link(2, LinkKind::Accept);
    dial(&two, home, 1);
    one.record.wait_link(2, true);
    two.record.wait_link(1, true);
    start.elapsed()
}

/// Whether the peer has closed the connection.
fn is_closed(stream: &mut impl Read) -> bool {
    let mut bytes = [0; 256];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn more_idle_connections_than_allowed_cost_no_processor_time_and_a_neighbour_connects() {
    let _turn = alone(20_000);
    for carrier in [Carrier::Tcp, Carrier::Unix] {
        let home = runtime_for(carrier, 1);
        let mut tcp: Vec<TcpStream> = Vec::new();
        let mut unix: Vec<UnixStream> = Vec::new();
        let deadline = Instant::now() + LIMIT;
        while tcp.len() + unix.len() < 1_100 {
            match carrier {
                Carrier::Tcp => tcp.push(connect(&home)),
                _ => {
                    let path = home.socket().expect("usable").expect("it has one");
                    unix.push(UnixStream::connect(path).expect("the kernel accepts it"));
                }
            }
            assert!(Instant::now() < deadline);
        }
        // The first have used their quarter of a second by then.
        std::thread::sleep(Duration::from_millis(400));
        let turns = turns_in(&home, Duration::from_millis(500));
        assert!(turns < 50, "{turns} turns in half a second with {carrier}");
        let took = link_up(&home, carrier);
        assert!(took < Duration::from_secs(2), "{took:?} with {carrier}");
        // Each gets a refusal and is closed; the last ones have waited longest.
        for stream in &mut tcp {
            stream.set_read_timeout(Some(LIMIT)).expect("timeout");
            assert!(is_closed(stream));
        }
        for stream in &mut unix {
            stream.set_read_timeout(Some(LIMIT)).expect("timeout");
            assert!(is_closed(stream));
        }
        assert_eq!(home.stats().shards[0].handshakes_refused, 1_100);
    }
}

#[test]
fn continuous_new_connections_do_not_prevent_a_neighbour_from_connecting() {
    let _turn = alone(20_000);
    let home = runtime_for(Carrier::Tcp, 1);
    let address = home.listen_address().expect("it listens");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // It dials as fast as it can and keeps the last two thousand connections.
        let flood = scope.spawn(|| {
            let mut held = std::collections::VecDeque::new();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let limit = Duration::from_millis(50);
                held.extend(TcpStream::connect_timeout(&address, limit));
                if held.len() > 2_000 {
                    held.pop_front();
                }
            }
        });
        std::thread::sleep(Duration::from_millis(500));
        let took = link_up(&home, Carrier::Tcp);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        flood.join().expect("it ends");
        assert!(took < Duration::from_secs(8), "{took:?}");
    });
}

#[test]
fn a_process_without_free_descriptors_pauses_its_listeners_until_some_are_free() {
    let _turn = alone(300);
    let home = runtime_for(Carrier::Tcp, 1);
    // One for the connection that will wait in the kernel's backlog.
    let spare = File::open("/dev/null").expect("/dev/null exists");
    let mut fill = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        fill.push(file);
    }
    drop(spare);
    let mut connection = connect(&home);
    let deadline = Instant::now() + LIMIT;
    while home.stats().shards[0].accepts_failed == 0 {
        assert!(Instant::now() < deadline, "it finds out");
        std::thread::sleep(Duration::from_millis(5));
    }
    let turns = turns_in(&home, Duration::from_millis(500));
    assert!(turns < 50, "{turns} turns in half a second");
    fill.clear();
    assert!(link_up(&home, Carrier::Tcp) < Duration::from_secs(2));
    connection.set_read_timeout(Some(LIMIT)).expect("timeout");
    assert!(
        is_closed(&mut connection),
        "it sent nothing in its five seconds"
    );
}

#[test]
fn a_start_that_fails_leaves_no_thread_no_descriptor_and_no_path() {
    let open = || {
        std::fs::read_dir("/proc/self/fd")
            .expect("readable")
            .count()
    };
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").expect("readable");
        let names = tasks
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names
            .filter(|name| name.starts_with("nm-shard") || name.starts_with("nm-watchdog"))
            .count()
    };
    let _turn = alone(20_000);
    let (before, running) = (open(), threads());
    let path = common::fresh_path();
    let mut failures = 0;
    // With each additional descriptor it makes one more step before it fails.
    for spare in 0..60 {
        let config = nm_driver::runtime::RuntimeConfig {
            shards: Some(8),
            socket: Some(path.clone()),
            ..nm_driver::runtime::RuntimeConfig::default()
        };
        limit(before as u64 + spare);
        let outcome = Runtime::start(config);
        limit(20_000);
        let started = match outcome {
            // Without the path links can use TCP.
            Ok(home) => home.socket().is_ok(),
            Err(error) => {
                assert!(error.id().starts_with("kernel."), "{error}");
                failures += 1;
                false
            }
        };
        assert_eq!(
            (open(), threads()),
            (before, running),
            "with {spare} to spare"
        );
        assert!(!path.exists());
        if started {
            break;
        }
    }
    assert!(failures > 8, "each shard has failed once");
}

#[test]
fn incoming_connections_get_a_quarter_of_the_descriptors_and_no_more() {
    let _turn = alone(400);
    let home = runtime_for(Carrier::Tcp, 1);
    let open = || {
        std::fs::read_dir("/proc/self/fd")
            .expect("readable")
            .count()
    };
    let before = open();
    let connections: Vec<TcpStream> = (0..150).map(|_| connect(&home)).collect();
    let deadline = Instant::now() + LIMIT;
    // Two descriptors of this process for each accepted pair.
    while open() < before + connections.len() + 100 {
        assert!(Instant::now() < deadline, "{} taken in", open());
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(100));
    assert!(open() <= before + connections.len() + 101, "{}", open());
}
