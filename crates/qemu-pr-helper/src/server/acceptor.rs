//! Where clients come in: the listener, and when it is left alone for a while.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use super::rejections::MAX_KEPT;
use super::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use super::timer::Timer;
use crate::logging::RateLimit;
use crate::server::listener::Listener;
use crate::trace::argument::ObjectId;
use crate::trace::trace;

/// How many clients one thread takes in before it looks at other events.
pub(super) const MOST_AT_ONCE: usize = 16;

/// Descriptors that the helper needs beside those of its clients: standard streams, listener, epoll
/// set, timers, trace file, inherited ones, and connections that are being rejected (32 in all);
/// rejected ones that are kept open for a while.
const RESERVED_DESCRIPTORS: u64 = 32 + MAX_KEPT as u64;

/// How long clients have to wait before the helper tries again to take them in.
const PAUSE: Duration = Duration::from_secs(1);

/// What is at the door.
#[derive(Debug)]
pub(super) enum Knock {
    /// A client, and which one it is, counted from 1.
    Client(OwnedFd, u64),
    /// Nobody.
    Nobody,
    /// Nobody can be taken in now. The [timer](Door::timer) says when to try again.
    Paused,
}

/// The listener, with a limit.
///
/// A client needs a descriptor, and each of its commands others: that of its device, if nothing else. So
/// that a command never lacks its own, clients are taken in as long as there are enough for all of
/// them; the others wait in the listener's backlog, where they cost nothing, until one leaves.
#[derive(Debug)]
pub(super) struct Door {
    listener: Listener,
    timer: Timer,
    most_clients: usize,
    admitted: AtomicU64,
    paused: AtomicBool,
    warning: RateLimit,
}

impl Door {
    /// The door behind which each command needs so many descriptors, and there are no more clients than
    /// `most_clients`.
    pub(super) fn new(
        listener: Listener,
        for_a_command: u64,
        most_clients: Option<usize>,
    ) -> io::Result<Self> {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let for_a_client = for_a_command.saturating_add(1);
        let possible = descriptors.saturating_sub(RESERVED_DESCRIPTORS) / for_a_client;
        let possible = usize::try_from(possible.max(1)).unwrap_or(usize::MAX);
        if let Some(wanted) = most_clients.filter(|wanted| *wanted > possible) {
            log::warn!(
                "the limit of file descriptors, {descriptors}, lets {possible} clients connect, not {wanted}: \
                 raise it (LimitNOFILE= in a systemd unit)"
            );
        }
        Ok(Self {
            listener,
            timer: Timer::new()?,
            most_clients: most_clients.map_or(possible, |wanted| wanted.min(possible)),
            admitted: AtomicU64::new(0),
            paused: AtomicBool::new(false),
            warning: RateLimit::new(),
        })
    }

    /// How many clients there can be.
    pub(super) const fn most_clients(&self) -> usize {
        self.most_clients
    }

    /// The next client that has connected, if there is room beside the `present` ones.
    pub(super) fn next(&self, present: usize) -> Knock {
        if present >= self.most_clients {
            self.pause(format_args!(
                "{present} are connected, the most there can be"
            ));
            return Knock::Paused;
        }
        match self.listener.accept() {
            Ok(socket) => {
                let before = self.admitted.fetch_add(1, Ordering::Relaxed);
                let number = before.saturating_add(1);
                trace!(qio_channel_socket_accept(self.listener.address()));
                trace!(qio_channel_socket_accept_complete(
                    self.listener.address(),
                    ObjectId(number),
                    socket.as_raw_fd(),
                ));
                Knock::Client(socket, number)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Knock::Nobody,
            Err(error) => {
                trace!(qio_channel_socket_accept(self.listener.address()));
                trace!(qio_channel_socket_accept_fail(self.listener.address()));
                self.pause(format_args!("{error}"));
                Knock::Paused
            }
        }
    }

    /// Lets clients wait for a while. The timer is set whatever the reason is: somebody may have left
    /// just before, and found no pause to end.
    pub(super) fn pause(&self, reason: fmt::Arguments<'_>) {
        trace!(pr_helper_accept_paused(&reason.to_string()));
        if self.warning.should_log() {
            log::warn!("new clients have to wait: {reason}");
        }
        self.paused.store(true, Ordering::SeqCst);
        if let Err(error) = self.timer.set(PAUSE) {
            log::error!("cannot set a timer, new clients wait until one leaves: {error}");
        }
    }

    /// Ends a pause, after which the listener is to be waited for again. False if there was none.
    pub(super) fn reopen(&self) -> bool {
        let was_paused = self.paused.swap(false, Ordering::SeqCst);
        if was_paused {
            trace!(pr_helper_accept_resumed());
        }
        was_paused
    }

    /// Becomes readable when a pause has lasted long enough.
    pub(super) fn timer(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}
