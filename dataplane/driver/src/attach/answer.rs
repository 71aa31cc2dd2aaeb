//! The reply to a call of an attached program, with the bytes and the descriptor that follow it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nm_messages::Value;

use super::wire::{Header, Reply};
use crate::node::Waker;

/// A reply with what is sent behind it.
pub(super) struct Answer {
    pub(super) reply: Reply,
    pub(super) bytes: Vec<u8>,
    pub(super) file: Option<OwnedFd>,
    pub(super) waker: Option<Arc<Waker>>,
}

impl Answer {
    /// The descriptor to send, if any.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        let waker = self.waker.as_ref().map(AsFd::as_fd);
        self.file.as_ref().map(AsFd::as_fd).or(waker)
    }

    pub(super) fn messages(headers: Vec<Header>, bytes: Vec<u8>) -> Self {
        Answer {
            bytes,
            ..Reply::Messages(headers).into()
        }
    }

    pub(super) fn data(file: OwnedFd) -> Self {
        Answer {
            file: Some(file),
            ..Reply::Data.into()
        }
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Answer {
            reply,
            bytes: Vec::new(),
            file: None,
            waker: None,
        }
    }
}

impl<T: Into<Value>> From<T> for Answer {
    fn from(value: T) -> Self {
        Reply::Value(value.into()).into()
    }
}
