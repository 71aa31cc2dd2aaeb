//! Test that an ordinary user can open a TUN device: in a user namespace, and a network namespace inside it.
//!
//! Without the standard test harness, which starts threads: only a process with one thread may enter a user
//! namespace.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;

use nm_kernel::interface::{self, InterfaceSetup};
use nm_kernel::namespace;
use nm_kernel::tun::{TunDevice, DEFAULT_DEVICE};
use nm_kernel::KernelError;

fn main() {
    match attempt() {
        Ok(()) => println!("test a_user_namespace_is_enough_for_a_device ... ok"),
        Err(error @ (KernelError::NoPermission { .. } | KernelError::NoTunDevice { .. })) => {
            println!("skipped: {error}");
        }
        Err(error) => panic!("{error}"),
    }
}

fn attempt() -> Result<(), KernelError> {
    namespace::enter_user_namespace()?;
    let hosts = std::env::temp_dir().join(format!("nm-hosts-{}", std::process::id()));
    std::fs::write(&hosts, "10.0.0.1 n1\n").expect("the temporary directory is writable");
    let outcome = inside(&hosts);
    std::fs::remove_file(&hosts).expect("it was written above");
    outcome
}

fn inside(hosts: &Path) -> Result<(), KernelError> {
    let space = namespace::create()?;
    namespace::run_in(Some(space.as_fd()), || {
        let tun = TunDevice::open(Path::new(DEFAULT_DEVICE), "utun", false)?;
        let address = Ipv4Addr::new(10, 0, 0, 1);
        let setup = InterfaceSetup {
            address,
            prefix: 16,
            ipv6: None,
            mtu: 1400,
            queue_packets: None,
            routes: vec![],
        };
        interface::configure(tun.name(), &setup)?;
        // A mount namespace of this thread: the file is only visible here.
        namespace::unshare_mounts()?;
        namespace::bind_mount(hosts, Path::new("/etc/hosts"))?;
        assert_eq!(
            std::fs::read_to_string("/etc/hosts").expect("readable"),
            "10.0.0.1 n1\n"
        );
        Ok(())
    })?;
    assert_ne!(
        std::fs::read_to_string("/etc/hosts").expect("readable"),
        "10.0.0.1 n1\n"
    );
    Ok(())
}
