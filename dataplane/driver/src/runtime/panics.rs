//! What a panic on a packet thread said: kept by a hook, because the unwinding that follows does not tell the place.

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

/// Notes from now on what panics of the calling thread, a packet thread, say.
///
/// The hook that was there before still runs, so that the panic is also on stderr, with its backtrace if the
/// environment asks for one. Other threads' panics are none of our business.
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
            let place = info.location().map(|place| format!(" ({place})"));
            HERE.with_borrow_mut(|here| {
                if let Some(here) = here {
                    here.last = format!("{text}{}", place.unwrap_or_default());
                    // Before the unwinding drops the reply that somebody waits for: it tells why.
                    here.mailbox.note_panic();
                }
            });
            before(info);
        }));
    });
    let last = String::new();
    HERE.set(Some(Here { mailbox, last }));
}

/// What the last panic of the calling thread said, and where it was.
pub fn last_words() -> String {
    HERE.with_borrow_mut(|here| {
        here.as_mut()
            .map(|here| std::mem::take(&mut here.last))
            .unwrap_or_default()
    })
}
