//! Create and enter network, UTS, user and mount namespaces.
//!
//! Each thread has its own network namespace, so a namespace is created or used on a short-lived thread: the
//! namespace of the caller changes only by [`enter`]. An object that was opened inside (a TUN device, a socket) stays
//! in its namespace wherever it is used later.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sched::CloneFlags;
use rustix::io::Errno;
use rustix::mount::{
    mount_bind, mount_change, unmount as detach_mount, MountPropagationFlags, UnmountFlags,
};
use rustix::process::{getegid, geteuid};
use rustix::thread::{move_into_link_name_space, LinkNameSpaceType};

use crate::error::{KernelError, Result};
use crate::interface;

/// The subject of errors about a namespace that was given as a descriptor.
const SUBJECT: &str = "namespace descriptor";

/// The network namespace of the calling thread.
const OWN_NETWORK: &str = "/proc/thread-self/ns/net";

/// The UTS namespace of the calling thread.
const OWN_NAMES: &str = "/proc/thread-self/ns/uts";

/// The default TTL of the calling thread's network namespace (ip(7)).
const DEFAULT_TTL: &str = "/proc/sys/net/ipv4/ip_default_ttl";

/// Creates an empty network namespace with its loopback interface up and the maximum default TTL.
///
/// The kernel removes it when no descriptor, thread or bind mount ([`mount`]) refers to it.
pub fn create() -> Result<OwnedFd> {
    on_own_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET, "create a network namespace")?;
        interface::bring_up("lo")?;
        raise_default_ttl();
        current()
    })
}

/// The namespaces of a node, as descriptors that keep them open.
#[derive(Debug)]
pub struct Machine {
    /// Its network namespace, as created by [`create`].
    pub network: OwnedFd,
    /// Its UTS namespace, which contains its host name.
    pub names: OwnedFd,
    /// Optional settings that the kernel refused, each with the reason.
    pub refused: Vec<String>,
}

/// One kernel setting (sysctl) of a network namespace, such as `net.ipv4.tcp_rmem`.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Its name, separated by dots.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Whether a refusal of the kernel is an error.
    pub required: bool,
}

/// Creates an empty network namespace as [`create`] does, with kernel settings, and a UTS namespace with a host name.
pub fn create_machine(hostname: &str, settings: &[Setting]) -> Result<Machine> {
    on_own_thread(|| {
        unshare(
            CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS,
            "create a network namespace",
        )?;
        set_hostname(hostname)?;
        interface::bring_up("lo")?;
        raise_default_ttl();
        Ok(Machine {
            refused: set_all(settings)?,
            network: current()?,
            names: open(Path::new(OWN_NAMES))?,
        })
    })
}

fn set_hostname(name: &str) -> Result<()> {
    rustix::system::sethostname(name.as_bytes())
        .map_err(|e| KernelError::from_io("set the host name", name, e))
}

/// Writes settings of the calling thread's network namespace; returns the refusals of optional ones.
fn set_all(settings: &[Setting]) -> Result<Vec<String>> {
    let mut refused = Vec::new();
    for setting in settings {
        let path = format!("/proc/sys/{}", setting.name.replace('.', "/"));
        if let Err(source) = fs::write(path, &setting.value) {
            let subject = format!("{} = {}", setting.name, setting.value);
            let error = KernelError::from_io("set a kernel setting", subject, source);
            if setting.required {
                return Err(error);
            }
            refused.push(error.to_string());
        }
    }
    Ok(refused)
}

/// Raises the default TTL from 64 to the maximum, so that packets can cross 254 relays instead of 63: an emulated
/// network may have longer paths than real ones.
///
/// Errors are ignored: with a read-only `/proc/sys`, only nodes at a distance above 63 relays are unreachable.
fn raise_default_ttl() {
    let _ = fs::write(DEFAULT_TTL, "255");
}

/// A descriptor of the calling thread's network namespace.
pub fn current() -> Result<OwnedFd> {
    open(Path::new(OWN_NETWORK))
}

/// Opens a namespace by path, such as `/run/netns/NAME` or `/proc/PID/ns/net`.
pub fn open(path: &Path) -> Result<OwnedFd> {
    File::open(path)
        .map(OwnedFd::from)
        .map_err(|e| KernelError::from_io("open a namespace", path.display().to_string(), e))
}

/// Moves the calling thread, and threads and processes that it starts later, into a network namespace (setns(2)).
pub fn enter(namespace: BorrowedFd<'_>) -> Result<()> {
    let kind = LinkNameSpaceType::Network;
    enter_kind(namespace, kind, "enter a network namespace")
}

/// Moves the calling thread, and threads and processes that it starts later, into a UTS namespace (setns(2)).
pub fn enter_names(namespace: BorrowedFd<'_>) -> Result<()> {
    let kind = LinkNameSpaceType::HostNameAndNISDomainName;
    enter_kind(namespace, kind, "enter a UTS namespace")
}

fn enter_kind(
    namespace: BorrowedFd<'_>,
    kind: LinkNameSpaceType,
    what: &'static str,
) -> Result<()> {
    move_into_link_name_space(namespace, Some(kind))
        .map_err(|e| KernelError::from_io(what, SUBJECT, e))
}

/// Runs `work` inside `namespace` (the caller's own when `None`) and returns its result.
pub fn run_in<T: Send>(
    namespace: Option<BorrowedFd<'_>>,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    match namespace {
        None => work(),
        Some(fd) => on_own_thread(|| {
            enter(fd)?;
            work()
        }),
    }
}

/// Whether two descriptors refer to the same namespace.
pub fn same(a: impl AsFd, b: impl AsFd) -> Result<bool> {
    Ok(identity(a.as_fd())? == identity(b.as_fd())?)
}

fn identity(fd: BorrowedFd<'_>) -> Result<(u64, u64)> {
    let found = rustix::fs::fstat(fd)
        .map_err(|e| KernelError::from_io("read the identity of a namespace", SUBJECT, e))?;
    Ok((found.st_dev, found.st_ino))
}

/// Binds a namespace to a path by a bind mount, so that it exists without processes and other programs can open it.
///
/// `ip netns exec` opens paths under `/run/netns`. [`unmount`] removes the path.
pub fn mount(namespace: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let place = path.display().to_string();
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|e| KernelError::from_io("mount a namespace", place, e))?;
    let source = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    bind_mount(Path::new(&source), path).inspect_err(|_| {
        // Remove the empty file: otherwise the next attempt would fail because the name exists.
        let _ = fs::remove_file(path);
    })
}

/// Undoes [`mount`]: detaches the mount and removes the file. A missing path is no error.
pub fn unmount(path: &Path) -> Result<()> {
    let place = path.display().to_string();
    // A detached unmount does not wait for users of the mount.
    match detach_mount(path, UnmountFlags::DETACH) {
        // EINVAL: not a mount point, for instance after a crash between the file and the mount.
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
        Err(error) => return Err(KernelError::from_io("unmount a namespace", place, error)),
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(KernelError::from_io("unmount a namespace", place, e))
        }
        _ => Ok(()),
    }
}

/// Bind-mounts `source` at `target`, visible in the whole mount namespace.
pub fn bind_mount(source: &Path, target: &Path) -> Result<()> {
    mount_bind(source, target).map_err(|e| not_mounted(target, e))
}

/// Gives the calling thread its own mount namespace; its later mounts are invisible to other threads.
pub fn unshare_mounts() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS, "create a mount namespace")?;
    // Without this, mounts would propagate to the parent namespace, as shared propagation is the default under
    // systemd.
    let (root, slave) = (Path::new("/"), MountPropagationFlags::DOWNSTREAM);
    mount_change(root, slave | MountPropagationFlags::REC).map_err(|e| not_mounted(root, e))
}

fn not_mounted(target: &Path, error: Errno) -> KernelError {
    KernelError::from_io("mount", target.display().to_string(), error)
}

/// Moves the process into a new user namespace in which it is root, so that an ordinary user may create the other
/// namespaces.
///
/// Must be called before the process has a second thread: otherwise the kernel refuses.
pub fn enter_user_namespace() -> Result<()> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    unshare(CloneFlags::CLONE_NEWUSER, "create a user namespace")?;
    let write = |path: &str, text: String| {
        fs::write(path, text)
            .map_err(|e| KernelError::from_io("map the identities of a user namespace", path, e))
    };
    // An unprivileged process may map its group only after it disabled setgroups (user_namespaces(7)).
    write("/proc/self/setgroups", "deny".into())?;
    write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", format!("0 {gid} 1"))
}

fn unshare(flags: CloneFlags, what: &'static str) -> Result<()> {
    nix::sched::unshare(flags).map_err(|e| KernelError::from_io(what, "unshare", e))
}

/// Runs `work` on a new thread that ends with it, so that changes of the calling thread's namespaces do not persist.
fn on_own_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            // 128 KB suffices for a few system calls; larger stacks would touch megabytes in a thousand start-ups.
            .stack_size(128 << 10)
            .name("nm-namespace".into())
            .spawn_scoped(scope, work)
            .map_err(|e| KernelError::from_io("start a thread", "nm-namespace", e))?;
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
