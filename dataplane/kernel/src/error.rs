//! Errors of system calls.
//!
//! Classified by cause: a missing device or permission, a limit of the machine, a name that is in use, or any other
//! error with the text of the operating system.

use std::io;
use std::path::PathBuf;

/// The result of every fallible call in this crate except packet I/O, which returns `io::Result`.
pub type Result<T> = std::result::Result<T, KernelError>;

/// A system call that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The TUN device node does not exist, or has no driver.
    #[error("no TUN device at {}: {source}", path.display())]
    NoTunDevice {
        /// The path of the device node.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The process lacks a capability or a file permission.
    #[error("not permitted to {what} ({subject}): {source}")]
    NoPermission {
        /// What was attempted, as a verb phrase.
        what: &'static str,
        /// The interface, path or namespace concerned.
        subject: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// An interface or a path of that name is already in use.
    #[error("{what}: the name {name} is already in use")]
    NameExists {
        /// What was attempted, as a verb phrase.
        what: &'static str,
        /// The name in use.
        name: String,
    },
    /// An invalid interface name (empty, too long, or with forbidden characters).
    #[error("{name:?} cannot be an interface name: {reason}")]
    BadName {
        /// The name as given.
        name: String,
        /// The rule that it violates.
        reason: &'static str,
    },
    /// The kernel does not support the operation.
    #[error("this kernel cannot {what}: {source}")]
    Unsupported {
        /// What was attempted, as a verb phrase.
        what: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A limit of the machine or of the process was reached (file descriptors, memory, namespaces).
    #[error("out of resources: cannot {what} ({subject}): {source}")]
    Exhausted {
        /// What was attempted, as a verb phrase.
        what: &'static str,
        /// The object concerned.
        subject: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Any other error.
    #[error("cannot {what} ({subject}): {source}")]
    System {
        /// What was attempted, as a verb phrase.
        what: &'static str,
        /// The object concerned.
        subject: String,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl KernelError {
    /// Classifies an error of the operating system by its number (errno(3)).
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

    /// The stable identifier of the error.
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

    /// A remedy for the user of the machine, where one is known.
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
    fn errors_are_classified_by_their_number() {
        let sorted =
            |code| KernelError::from_io("try", "x", io::Error::from_raw_os_error(code)).id();
        assert_eq!(sorted(libc::EPERM), "kernel.permission");
        assert_eq!(sorted(libc::EBUSY), "kernel.name_exists");
        assert_eq!(sorted(libc::EMFILE), "kernel.exhausted");
        assert_eq!(sorted(libc::ENOSYS), "kernel.unsupported");
        assert_eq!(sorted(libc::EINVAL), "kernel.system");
    }
}
