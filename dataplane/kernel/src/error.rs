//! What can go wrong when asking the kernel for something.
//!
//! Sorted by who can fix it: a missing device or permission is the machine owner's business, a taken name the
//! lab's, anything else carries the operating system's own words.

use std::io;
use std::path::PathBuf;

/// The result of every fallible call in this crate, packet I/O excepted (which speaks plain `io::Result`).
pub type Result<T> = std::result::Result<T, KernelError>;

/// A request to the kernel that was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The TUN device node does not exist, or no driver stands behind it.
    #[error("no TUN device at {}: {source}", path.display())]
    NoTunDevice {
        /// Where it was looked for.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
    /// The process lacks a capability or a file permission.
    #[error("not permitted to {what} ({subject}): {source}")]
    NoPermission {
        /// What was attempted, as a verb phrase.
        what: &'static str,
        /// The interface, path or namespace it was attempted on.
        subject: String,
        /// The refusal.
        source: io::Error,
    },
    /// An interface or a path of that name is already in use.
    #[error("{what}: the name {name} is already in use")]
    NameExists {
        /// What was attempted, as a verb phrase.
        what: &'static str,
        /// The name that is taken.
        name: String,
    },
    /// A name that the kernel cannot carry (empty, too long, or with forbidden characters).
    #[error("{name:?} cannot be an interface name: {reason}")]
    BadName {
        /// The name as given.
        name: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The kernel does not know how to do this at all.
    #[error("this kernel cannot {what}: {source}")]
    Unsupported {
        /// What was attempted, as a verb phrase.
        what: &'static str,
        /// The refusal.
        source: io::Error,
    },
    /// A limit of the machine or of the process was reached (file descriptors, memory, namespaces).
    #[error("out of resources: cannot {what} ({subject}): {source}")]
    Exhausted {
        /// What was attempted, as a verb phrase.
        what: &'static str,
        /// What it was attempted on.
        subject: String,
        /// The refusal.
        source: io::Error,
    },
    /// Any other refusal.
    #[error("cannot {what} ({subject}): {source}")]
    System {
        /// What was attempted, as a verb phrase.
        what: &'static str,
        /// What it was attempted on.
        subject: String,
        /// The refusal.
        source: io::Error,
    },
}

impl KernelError {
    /// Sorts an operating-system error by its number.
    pub(crate) fn from_io(
        what: &'static str,
        subject: impl Into<String>,
        source: impl Into<io::Error>,
    ) -> Self {
        let (subject, source) = (subject.into(), source.into());
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NoPermission {
                what,
                subject,
                source,
            },
            Some(libc::EEXIST | libc::EBUSY | libc::EADDRINUSE) => Self::NameExists {
                what,
                name: subject,
            },
            Some(libc::ENOSYS | libc::EOPNOTSUPP) => Self::Unsupported { what, source },
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOSPC | libc::ENOBUFS) => {
                Self::Exhausted {
                    what,
                    subject,
                    source,
                }
            }
            _ => Self::System {
                what,
                subject,
                source,
            },
        }
    }

    /// The identifier that stays the same when the wording improves.
    pub fn id(&self) -> &'static str {
        match self {
            Self::NoTunDevice { .. } => "kernel.tun_missing",
            Self::NoPermission { .. } => "kernel.permission",
            Self::NameExists { .. } => "kernel.name_exists",
            Self::BadName { .. } => "kernel.bad_name",
            Self::Unsupported { .. } => "kernel.unsupported",
            Self::Exhausted { .. } => "kernel.exhausted",
            Self::System { .. } => "kernel.system",
        }
    }

    /// What the person at the machine can do about it, when we know.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoTunDevice { .. } => {
                Some("load the module (modprobe tun) or pass the device into the container")
            }
            Self::NoPermission { .. } => {
                Some("run as root, or give the process CAP_NET_ADMIN and CAP_SYS_ADMIN")
            }
            Self::NameExists { .. } => {
                Some("another node or lab uses that name; bring it down or choose another")
            }
            Self::Exhausted { .. } => {
                Some("raise the limit (ulimit -n, memory, user.max_net_namespaces)")
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_sorted_by_who_can_fix_them() {
        let sorted =
            |code| KernelError::from_io("try", "x", io::Error::from_raw_os_error(code)).id();
        assert_eq!(sorted(libc::EPERM), "kernel.permission");
        assert_eq!(sorted(libc::EBUSY), "kernel.name_exists");
        assert_eq!(sorted(libc::EMFILE), "kernel.exhausted");
        assert_eq!(sorted(libc::ENOSYS), "kernel.unsupported");
        assert_eq!(sorted(libc::EINVAL), "kernel.system");
    }
}
