// SPDX-License-Identifier: MIT OR Apache-2.0

//! The epoll set that idle workers wait on. Every connection is registered one-shot.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::thread;
use std::time::Duration;

use pr_helper_protocol::server::Readiness;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};

use super::Event;
use super::acceptor::Acceptor;
use super::request_timeout::{TimeoutScanner, Timer};

// Tokens in the set; all others are tokens of the connection table.
const LISTENER: u64 = u64::MAX;
const ACCEPT_TIMER: u64 = u64::MAX - 1;
const TIMEOUT_TIMER: u64 = u64::MAX - 2;
const HEARTBEAT: u64 = u64::MAX - 3;

/// Delay after an error of `epoll_wait` other than EINTR.
const WAIT_RETRY_DELAY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct EpollSet(OwnedFd);

impl EpollSet {
    /// Creates a set with the listener and the timers.
    pub(super) fn new(
        acceptor: &Acceptor,
        timeouts: &TimeoutScanner,
        heartbeat: &Timer,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let listener = epoll::EventData::new_u64(LISTENER);
        epoll::add(&epoll, acceptor, listener, flags(Readiness::Readable))?;
        // Edge-triggered: one event for each expiry, without a read of the timer.
        let once = epoll::EventFlags::IN | epoll::EventFlags::ET;
        for (timer, token) in [
            (acceptor.timer.as_fd(), ACCEPT_TIMER),
            (timeouts.as_fd(), TIMEOUT_TIMER),
            (heartbeat.as_fd(), HEARTBEAT),
        ] {
            epoll::add(&epoll, timer, epoll::EventData::new_u64(token), once)?;
        }
        Ok(Self(epoll))
    }

    /// Waits for an event; `None` if there is none within `timeout`.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> Option<Event> {
        let timeout = timeout.and_then(|timeout| timeout.try_into().ok());
        let mut events = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }];
        loop {
            match epoll::wait(&self.0, &mut events, timeout.as_ref()) {
                Ok(0) => return None,
                Ok(_) => {
                    let [event] = events;
                    return Some(match event.data.u64() {
                        LISTENER => Event::Listener,
                        ACCEPT_TIMER => Event::AcceptTimer,
                        TIMEOUT_TIMER => Event::TimeoutTimer,
                        HEARTBEAT => Event::Heartbeat,
                        token => Event::Connection(usize::try_from(token).unwrap_or(usize::MAX)),
                    });
                }
                Err(Errno::INTR) => {}
                // Not expected: the set and the buffer are valid. Retry instead of ending the
                // thread.
                Err(error) => {
                    log::error!("cannot wait for events: {error}");
                    thread::sleep(WAIT_RETRY_DELAY);
                }
            }
        }
    }

    pub(super) fn add(&self, token: usize, socket: &OwnedFd, wanted: Readiness) -> io::Result<()> {
        Ok(epoll::add(&self.0, socket, data(token), flags(wanted))?)
    }

    pub(super) fn rearm(
        &self,
        token: usize,
        socket: &OwnedFd,
        wanted: Readiness,
    ) -> io::Result<()> {
        Ok(epoll::modify(&self.0, socket, data(token), flags(wanted))?)
    }

    pub(super) fn rearm_listener(&self, acceptor: &Acceptor) -> io::Result<()> {
        let listener = epoll::EventData::new_u64(LISTENER);
        let flags = flags(Readiness::Readable);
        Ok(epoll::modify(&self.0, acceptor, listener, flags)?)
    }

    /// Stops the client at the other end of a socket from sending. What it has sent can still be
    /// read.
    pub(super) fn shutdown_read(&self, socket: &OwnedFd) -> io::Result<()> {
        Ok(shutdown(socket, Shutdown::Read)?)
    }
}

fn data(token: usize) -> epoll::EventData {
    epoll::EventData::new_u64(u64::try_from(token).unwrap_or(LISTENER))
}

fn flags(wanted: Readiness) -> epoll::EventFlags {
    let direction = match wanted {
        Readiness::Writable | Readiness::SendBuffer => epoll::EventFlags::OUT,
        Readiness::Readable | Readiness::PartialRequest => epoll::EventFlags::IN,
    };
    direction | epoll::EventFlags::ONESHOT
}
