//! The events, all of them.

use super::Event;

macro_rules! events {
    ($($(#[$meta:meta])* $constant:ident = $name:literal;)+) => {
        $($(#[$meta])* pub static $constant: Event = Event::new($name);)+

        /// Every event, in the order in which `-T help` lists them.
        pub static ALL: &[&Event] = &[$(&$constant),+];
    };
}

events! {
    /// A client has connected.
    CLIENT_CONNECTED = "pr_helper_client_connected";
    /// A connection is over, and why.
    CLIENT_DISCONNECTED = "pr_helper_client_disconnected";
    /// A request is complete and goes to its device.
    COMMAND_BEGIN = "pr_helper_command_begin";
    /// A request is answered: status, length of the data, microseconds.
    COMMAND_END = "pr_helper_command_end";
    /// A thread was started, because all others may wait for devices.
    THREAD_STARTED = "pr_helper_thread_started";
    /// A thread has ended, because there was nothing to do.
    THREAD_ENDED = "pr_helper_thread_ended";
    /// No more clients are accepted for now, and why.
    ACCEPT_PAUSED = "pr_helper_accept_paused";
    /// Clients are accepted again.
    ACCEPT_RESUMED = "pr_helper_accept_resumed";
    /// A signal asks the helper to end.
    STOPPING = "pr_helper_stopping";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_in_qemus_style() {
        let names: BTreeSet<_> = ALL.iter().map(|event| event.name()).collect();
        assert_eq!(names.len(), ALL.len());
        for name in names {
            assert!(name.starts_with("pr_helper_"), "{name}");
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{name}"
            );
        }
    }
}
