//! The result of a request, numbered as the replies of SOCKS5 (RFC 1928, section 6).

/// The result of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reply {
    /// The flow is connected.
    Succeeded = 0,
    /// A failure of none of the other kinds.
    Failure = 1,
    /// The rules of this server forbid it.
    NotAllowed = 2,
    /// No route leads to the destination.
    NetworkUnreachable = 3,
    /// The destination does not exist or does not answer.
    HostUnreachable = 4,
    /// The destination refused the connection.
    Refused = 5,
    /// The route has too many hops.
    TooManyHops = 6,
    /// A command other than CONNECT.
    UnknownCommand = 7,
    /// An unknown type of address.
    UnknownAddressType = 8,
}

impl Reply {
    const ALL: [Self; 9] = [
        Self::Succeeded,
        Self::Failure,
        Self::NotAllowed,
        Self::NetworkUnreachable,
        Self::HostUnreachable,
        Self::Refused,
        Self::TooManyHops,
        Self::UnknownCommand,
        Self::UnknownAddressType,
    ];

    /// The reply of that number, if there is one.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Its number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What happened, for a person.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Succeeded => "connected",
            Self::Failure => "failed",
            Self::NotAllowed => "not allowed",
            Self::NetworkUnreachable => "no route",
            Self::HostUnreachable => "unreachable",
            Self::Refused => "refused",
            Self::TooManyHops => "too many hops",
            Self::UnknownCommand => "unknown command",
            Self::UnknownAddressType => "unknown address type",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reply_has_its_own_number() {
        for (code, reply) in Reply::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(reply.code()), code);
            assert_eq!(Reply::from_code(reply.code()), Some(reply));
        }
        assert_eq!(Reply::from_code(9), None);
    }
}
