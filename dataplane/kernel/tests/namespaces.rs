//! Test namespaces and TUN devices of the kernel. Skipped, with the reason printed, where they are not permitted.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nm_kernel::interface::{self, InterfaceSetup};
use nm_kernel::offload::{self, OffloadState};
use nm_kernel::tun::{Offload, TunDevice, DEFAULT_DEVICE, VNET_HEADER_LEN};
use nm_kernel::{namespace, KernelError};

fn permitted() -> bool {
    let outcome = namespace::create().and_then(|ns| {
        namespace::run_in(Some(ns.as_fd()), || {
            TunDevice::open(Path::new(DEFAULT_DEVICE), "nmt", false)
        })
    });
    match outcome {
        Ok(_) => true,
        Err(error) => {
            eprintln!("skipped: {error}");
            false
        }
    }
}

fn setup(last: u8) -> InterfaceSetup {
    InterfaceSetup {
        address: Ipv4Addr::new(10, 0, 0, last),
        prefix: 16,
        ipv6: None,
        mtu: 1500,
        queue_packets: Some(128),
        routes: vec![(Ipv4Addr::new(224, 0, 0, 0), 4)],
    }
}

/// A namespace with a configured device in it.
fn node(last: u8) -> (std::os::fd::OwnedFd, TunDevice) {
    let ns = namespace::create().expect("namespace");
    let tun = namespace::run_in(Some(ns.as_fd()), || {
        let tun = TunDevice::open(Path::new(DEFAULT_DEVICE), "utun", false)?;
        interface::configure(tun.name(), &setup(last))?;
        Ok(tun)
    })
    .expect("device");
    (ns, tun)
}

#[test]
fn the_default_ttl_is_raised_only_in_the_new_namespace() {
    if !permitted() {
        return;
    }
    let ttl =
        || Ok(std::fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").expect("a sysctl"));
    let before = ttl().expect("read");
    let ns = namespace::create().expect("namespace");
    assert_eq!(
        namespace::run_in(Some(ns.as_fd()), ttl).expect("read"),
        "255\n"
    );
    assert_eq!(ttl().expect("read"), before);
}

#[test]
fn packets_of_a_socket_in_the_namespace_pass_through_the_device_in_both_directions() {
    if !permitted() {
        return;
    }
    let (ns, tun) = node(1);
    let socket = namespace::run_in(Some(ns.as_fd()), || {
        Ok(UdpSocket::bind(("10.0.0.1", 5000)).expect("bind"))
    })
    .expect("socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .expect("timeout");
    let mut buffer = [0u8; 2000];
    for target in ["10.0.7.7", "239.1.1.1"] {
        socket
            .send_to(b"hello", (target, 5000))
            .expect("the address and the multicast route exist");
        let packet = read_ipv4(&tun, &mut buffer);
        assert!(packet.ends_with(b"hello"));
        let address: Ipv4Addr = target.parse().expect("address");
        assert_eq!(packet[16..20], address.octets());
    }
    // Send a reply from 10.0.7.7 to 10.0.0.1, by exchanging the two addresses of the packet that was read.
    socket.send_to(b"again", ("10.0.7.7", 5000)).expect("sent");
    let packet = read_ipv4(&tun, &mut buffer);
    let length = VNET_HEADER_LEN + packet.len();
    let (before, after) = packet.split_at_mut(16);
    before[12..16].swap_with_slice(&mut after[..4]);
    tun.write(&buffer[..length]).expect("written");
    let mut got = [0u8; 16];
    let (count, from) = socket.recv_from(&mut got).expect("the reply arrives");
    assert_eq!(
        (&got[..count], from.to_string().as_str()),
        (&b"again"[..], "10.0.7.7:5000")
    );
}

fn read_ipv4<'a>(tun: &TunDevice, buffer: &'a mut [u8]) -> &'a mut [u8] {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let ip = VNET_HEADER_LEN;
        match tun.read(buffer) {
            Ok(length) if buffer[ip] >> 4 == 4 && buffer[ip + 9] == 17 => {
                return &mut buffer[ip..length]
            }
            Ok(_) => {}
            Err(error) => {
                assert!(Instant::now() < deadline, "{error}");
                std::thread::yield_now();
            }
        }
    }
}

#[test]
fn a_persistent_device_can_be_closed_and_opened_again() {
    if !permitted() {
        return;
    }
    let (ns, tun) = node(2);
    tun.set_persistent(true).expect("persist");
    drop(tun);
    namespace::run_in(Some(ns.as_fd()), || {
        assert!(interface::exists("utun")?);
        let tun = TunDevice::open(Path::new(DEFAULT_DEVICE), "utun", false)?;
        let second = TunDevice::open(Path::new(DEFAULT_DEVICE), "utun", false)
            .err()
            .expect("it is in use");
        assert_eq!(second.id(), "kernel.name_exists");
        interface::configure("utun", &setup(2))?;
        tun.set_persistent(false)?;
        drop(tun);
        assert!(!interface::exists("utun")?);
        Ok(())
    })
    .expect("reopened");
}

#[test]
fn the_offload_self_test_succeeds_or_gives_a_reason() {
    // Needs no namespace of its own: in a container without privileges the same test runs in the container's.
    let start = Instant::now();
    match offload::self_test(Path::new(DEFAULT_DEVICE)) {
        OffloadState::On(Offload { tcp, .. }) => assert!(tcp),
        OffloadState::Off(reason) => eprintln!("offload is off: {reason}"),
    }
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_namespace_is_reachable_by_path_between_hold_and_release() {
    if !permitted() {
        return;
    }
    let path = std::env::temp_dir().join(format!("nm-kernel-hold-{}", std::process::id()));
    let ns = namespace::create().expect("namespace");
    namespace::mount(ns.as_fd(), &path).expect("held");
    let again = namespace::mount(ns.as_fd(), &path).expect_err("taken");
    assert!(matches!(again, KernelError::NameExists { .. }), "{again}");
    assert!(namespace::same(&ns, namespace::open(&path).expect("opens")).expect("comparable"));
    assert!(
        !namespace::same(&ns, namespace::current().expect("the current namespace"))
            .expect("comparable")
    );
    namespace::unmount(&path).expect("released");
    assert!(!path.exists());
    namespace::unmount(&path).expect("releasing a missing path is no error");
}

#[test]
fn a_hundred_nodes_take_a_fraction_of_a_second() {
    if !permitted() {
        return;
    }
    let start = Instant::now();
    let nodes: Vec<_> = (1..=100).map(node).collect();
    let up = start.elapsed();
    for (_, tun) in &nodes {
        tun.set_persistent(true).expect("persist");
    }
    drop(nodes);
    eprintln!("100 nodes up in {up:?}, closed after {:?}", start.elapsed());
    // One node takes 0.65 ms on the development machine; ten times that allows for a busy machine.
    assert!(up < Duration::from_secs(4), "{up:?}");
}

#[test]
fn an_ipv6_address_is_usable_at_once_and_nothing_else_is_sent() {
    if !permitted() || !Path::new("/proc/sys/net/ipv6").exists() {
        return;
    }
    let ns = namespace::create().expect("namespace");
    let address: Ipv6Addr = "fd12:3456:789a::1".parse().expect("an address");
    let wanted = InterfaceSetup {
        ipv6: Some((address, 48)),
        ..setup(1)
    };
    let (tun, addresses) = namespace::run_in(Some(ns.as_fd()), || {
        let tun = TunDevice::open(Path::new(DEFAULT_DEVICE), "utun", false)?;
        interface::configure(tun.name(), &wanted)?;
        // A second time, as for a device of an earlier run.
        interface::configure(tun.name(), &wanted)?;
        let socket = UdpSocket::bind((address, 5000)).expect("the address exists");
        socket
            .send_to(b"hello", ("fd12:3456:789a::7", 5000))
            .expect("the route exists");
        let known = std::fs::read_to_string("/proc/thread-self/net/if_inet6");
        Ok((tun, known.expect("a kernel with IPv6")))
    })
    .expect("device");
    let own: Vec<_> = addresses
        .lines()
        .filter(|line| line.ends_with("utun"))
        .collect();
    assert_eq!(
        own.len(),
        1,
        "one address, and none of the link: {addresses}"
    );
    let flags = own[0]
        .split_whitespace()
        .nth(4)
        .map(|text| u8::from_str_radix(text, 16));
    // Permanent (0x80) and deprecated (0x20), not tentative (0x40).
    assert_eq!(
        flags.map(|flags| flags.expect("a number") & 0xe0),
        Some(0xa0),
        "{addresses}"
    );
    let mut buffer = [0u8; 2000];
    let length = tun.read(&mut buffer).expect("the packet was sent");
    let packet = &buffer[VNET_HEADER_LEN..length];
    assert_eq!(
        (packet[0] >> 4, packet[7]),
        (6, 255),
        "version and hop limit"
    );
    assert!(packet.ends_with(b"hello"));
    assert!(
        tun.read(&mut buffer).is_err(),
        "the kernel sends nothing of its own"
    );
}
