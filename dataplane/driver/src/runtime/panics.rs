//! The message of a panic on a packet thread, recorded by a hook, because the unwinding that follows does not give
//! the location.

use std::cell::RefCell;
use std::panic;
use std::sync::{Arc, Once};

use super::shared::Mailbox;

thread_local! {
    /// Set on packet threads only.
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

struct Here {
    mailbox: Arc<Mailbox>,
    last: String,
}

/// Records panics of the calling packet thread from now on.
///
/// The previous hook still runs, so that the panic is also on stderr, with its backtrace if the environment requests
/// one. Panics of other threads are not recorded.
pub fn watch(mailbox: Arc<Mailbox>) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let payload = info.payload();
            let text = payload
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("a panic without words");
            let location = info.location().map(|location| format!(" ({location})"));
            HERE.with_borrow_mut(|here| {
                if let Some(here) = here {
                    here.last = format!("{text}{}", location.unwrap_or_default());
                    // Before the unwinding drops a pending reply: the count explains why.
                    here.mailbox.note_panic();
                }
            });
            before(info);
        }));
    });
    let last = String::new();
    HERE.set(Some(Here { mailbox, last }));
}

/// The message and location of the last panic of the calling thread.
pub fn last_message() -> String {
    HERE.with_borrow_mut(|here| {
        here.as_mut()
            .map(|here| std::mem::take(&mut here.last))
            .unwrap_or_default()
    })
}
