//! Where clients come in: the listener, and when it is left alone for a while.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::lock;
use crate::listener::Listener;
use crate::trace::trace;

/// How many clients one thread takes in before it looks at other events.
pub(super) const MOST_AT_ONCE: usize = 16;

/// Descriptors that the helper needs beside its clients': standard streams, listener, epoll set, files
/// of log and trace, what it inherited.
const RESERVED_DESCRIPTORS: u64 = 32;

/// How long no client is taken in after the machine has run out of something.
const PAUSE: Duration = Duration::from_secs(1);

/// How often the log is told that clients have to wait.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// What is at the door.
#[derive(Debug)]
pub(super) enum Knock {
    /// A client, and which one it is, counted from 1.
    Client(OwnedFd, u64),
    /// Nobody.
    Nobody,
    /// Nobody can be taken in now. [`Door::reopen`] says when to try again.
    Pause,
}

/// The listener, with a limit.
///
/// A client needs a descriptor, and each of its commands another one. So that a command never lacks
/// its own, clients are taken in up to half of the descriptors that the process may have; the others
/// wait in the listener's backlog, where they cost nothing, until one leaves.
#[derive(Debug)]
pub(super) struct Door {
    listener: Listener,
    most_clients: usize,
    admitted: AtomicU64,
    paused: AtomicBool,
    last_warning: Mutex<Option<Instant>>,
}

impl Door {
    pub(super) fn new(listener: Listener) -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most_clients = (descriptors.saturating_sub(RESERVED_DESCRIPTORS) / 2).max(1);
        Self {
            listener,
            most_clients: usize::try_from(most_clients).unwrap_or(usize::MAX),
            admitted: AtomicU64::new(0),
            paused: AtomicBool::new(false),
            last_warning: Mutex::new(None),
        }
    }

    /// The next client that has connected, if there is room beside the `present` ones.
    pub(super) fn next(&self, present: usize) -> Knock {
        if present >= self.most_clients {
            self.pause(format_args!(
                "{present} clients are connected, the most there can be"
            ));
            return Knock::Pause;
        }
        loop {
            match self.listener.accept() {
                Ok(socket) => {
                    let before = self.admitted.fetch_add(1, Ordering::Relaxed);
                    return Knock::Client(socket, before.saturating_add(1));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Knock::Nobody,
                // It was there and is gone: accept(2) reports errors of the connection itself.
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    self.pause(format_args!("{error}"));
                    return Knock::Pause;
                }
            }
        }
    }

    fn pause(&self, reason: std::fmt::Arguments<'_>) {
        trace!(ACCEPT_PAUSED, "{reason}");
        let mut last_warning = lock(&self.last_warning);
        if last_warning.is_none_or(|last| last.elapsed() >= WARN_EVERY) {
            *last_warning = Some(Instant::now());
            log::warn!("new clients have to wait: {reason}");
        }
        self.paused.store(true, Ordering::SeqCst);
    }

    /// Ends a pause, after which the listener is to be waited for again. False if there was none.
    pub(super) fn reopen(&self) -> bool {
        let was_paused = self.paused.swap(false, Ordering::SeqCst);
        if was_paused {
            trace!(ACCEPT_RESUMED, "");
        }
        was_paused
    }

    /// How long to wait before trying again; None if there is no pause.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.paused.load(Ordering::SeqCst).then_some(PAUSE)
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::CONNABORTED | Errno::INTR | Errno::PERM)
    )
}
