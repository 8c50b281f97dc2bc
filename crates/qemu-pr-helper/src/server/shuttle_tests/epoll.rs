// SPDX-License-Identifier: MIT OR Apache-2.0

//! A replacement of the epoll set that shuttle's scheduler can look into: the same descriptors, and
//! the same one-shot registrations.
//!
//! No thread waits in the kernel. A thread that does something another one may wait for calls
//! [`EpollSet::notify`], and the threads that wait check again.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]
#![expect(clippy::indexing_slicing, reason = "a failure fails the test")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::Duration;

use pr_helper_protocol::server::Readiness;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{Shutdown, shutdown};
use rustix::time::{Itimerspec, TimerfdTimerFlags, timerfd_gettime, timerfd_settime};
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::sync::{Condvar, Mutex, MutexGuard};

use super::Event;
use super::acceptor::Acceptor;
use super::request_timeout::{TimeoutScanner, Timer};
use super::shuttle_tests::sync::end_thread;

const ZERO: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// Timeout up to which a wait times out at any moment.
const SHORT_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct EpollSet {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    listener: OwnedFd,
    listener_is_armed: bool,
    timers: [(OwnedFd, Event); 3],
    connections: Vec<Connection>,
    /// Number of threads that wait.
    idle: usize,
    /// No event arrives anymore, so waits with a timeout time out.
    is_quiet: bool,
    is_stopped: bool,
}

/// A registered socket. As in the kernel, it leaves the set when it is closed.
#[derive(Debug)]
struct Connection {
    socket: Weak<OwnedFd>,
    token: usize,
    armed: Option<Readiness>,
}

impl EpollSet {
    pub(super) fn new(
        acceptor: &Acceptor,
        timeouts: &TimeoutScanner,
        heartbeat: &Timer,
    ) -> io::Result<Self> {
        let state = State {
            listener: acceptor.as_fd().try_clone_to_owned()?,
            listener_is_armed: true,
            timers: [
                (acceptor.timer.as_fd(), Event::AcceptTimer),
                (timeouts.as_fd(), Event::TimeoutTimer),
                (heartbeat.as_fd(), Event::Heartbeat),
            ]
            .map(|(timer, event)| (timer.try_clone_to_owned().unwrap(), event)),
            connections: Vec::new(),
            idle: 0,
            is_quiet: false,
            is_stopped: false,
        };
        Ok(Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        })
    }

    pub(super) fn wait(&self, timeout: Option<Duration>) -> Option<Event> {
        // The thread may have done something before, for example sent a reply.
        self.notify();
        let mut state = self.lock();
        loop {
            if state.is_stopped {
                drop(state);
                end_thread();
            }
            let ready = state.ready();
            if !ready.is_empty() {
                let event = ready[thread_rng().gen_range(0..ready.len())];
                state.disarm(event);
                drop(state);
                if matches!(event, Event::AcceptTimer | Event::TimeoutTimer) {
                    // Some time has passed, in which other threads run.
                    shuttle::thread::yield_now();
                }
                return Some(event);
            }
            if timeout.is_some() && (state.is_quiet || thread_rng().gen_ratio(1, 8)) {
                return None;
            }
            if timeout.is_some_and(|timeout| timeout < SHORT_TIMEOUT) {
                // The wait times out soon, whatever the other threads do meanwhile.
                drop(state);
                shuttle::thread::yield_now();
                state = self.lock();
                continue;
            }
            state.idle += 1;
            state = self.changed.wait(state).unwrap();
            state.idle -= 1;
        }
    }

    pub(super) fn add(
        &self,
        token: usize,
        socket: &Arc<OwnedFd>,
        wanted: Readiness,
    ) -> io::Result<()> {
        // A blocking read would block the only thread of the system. With a small buffer some
        // replies do not fit, and the server waits for the client.
        fcntl_setfl(socket, OFlags::NONBLOCK)?;
        set_socket_send_buffer_size(socket, 0)?;
        self.lock().connections.push(Connection {
            socket: Arc::downgrade(socket),
            token,
            armed: Some(wanted),
        });
        self.notify();
        Ok(())
    }

    pub(super) fn rearm(
        &self,
        token: usize,
        socket: &Arc<OwnedFd>,
        wanted: Readiness,
    ) -> io::Result<()> {
        let mut state = self.lock();
        let is_socket =
            |connection: &&mut Connection| connection.socket.as_ptr() == Arc::as_ptr(socket);
        let connection = state.connections.iter_mut().find(is_socket);
        let connection = connection.expect("the socket was added");
        assert_eq!(connection.token, token);
        assert_eq!(connection.armed, None, "the connection is armed already");
        connection.armed = Some(wanted);
        drop(state);
        self.notify();
        Ok(())
    }

    pub(super) fn shutdown_read(&self, socket: &OwnedFd) -> io::Result<()> {
        shutdown(socket, Shutdown::Read)?;
        self.notify();
        Ok(())
    }

    pub(super) fn rearm_listener(&self, _: &Acceptor) -> io::Result<()> {
        self.lock().listener_is_armed = true;
        self.notify();
        Ok(())
    }
}

impl EpollSet {
    /// Wakes all threads that wait.
    pub(super) fn notify(&self) {
        drop(self.lock());
        self.changed.notify_all();
    }

    /// Waits until `poll` returns a value.
    pub(super) fn wait_until<T>(&self, mut poll: impl FnMut() -> Option<T>) -> T {
        let mut state = self.lock();
        loop {
            if let Some(value) = poll() {
                return value;
            }
            state = self.changed.wait(state).unwrap();
        }
    }

    /// Lets all waits with a timeout time out from now on.
    pub(super) fn expire_idle(&self) {
        self.lock().is_quiet = true;
        self.notify();
    }

    /// Returns the number of threads that wait for an event.
    pub(super) fn idle_count(&self) -> usize {
        self.lock().idle
    }

    /// Returns the number of open connections.
    pub(super) fn open_count(&self) -> usize {
        let mut state = self.lock();
        state.remove_closed();
        state.connections.len()
    }

    /// Ends all threads that wait for an event, now or later.
    pub(super) fn stop(&self) {
        self.lock().is_stopped = true;
        self.notify();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn remove_closed(&mut self) {
        self.connections
            .retain(|connection| connection.socket.strong_count() > 0);
    }

    /// Returns the events that can be delivered.
    fn ready(&mut self) -> Vec<Event> {
        self.remove_closed();
        let mut ready = Vec::new();
        if self.listener_is_armed && is_ready(&self.listener, Readiness::Readable) {
            ready.push(Event::Listener);
        }
        // A timer that is set can expire at any moment, and does if nothing else happens.
        for (timer, event) in &self.timers {
            let left = timerfd_gettime(timer).unwrap().it_value;
            let is_set = left != ZERO || is_ready(timer, Readiness::Readable);
            // Long timers expire rarely; otherwise they would dominate the schedules.
            if is_set && (left.tv_sec <= 1 || thread_rng().gen_ratio(1, 8)) {
                ready.push(*event);
            }
        }
        for connection in &self.connections {
            if let Some(wanted) = connection.armed
                && let Some(socket) = connection.socket.upgrade()
                && is_ready(&*socket, wanted)
            {
                ready.push(Event::Connection(connection.token));
            }
        }
        ready
    }

    /// Disarms an event, because it is delivered to one thread.
    fn disarm(&mut self, event: Event) {
        match event {
            Event::Listener => self.listener_is_armed = false,
            Event::AcceptTimer | Event::TimeoutTimer | Event::Heartbeat => {
                let never = Itimerspec {
                    it_interval: ZERO,
                    it_value: ZERO,
                };
                let mut timers = self.timers.iter();
                let (timer, _) = timers.find(|(_, other)| *other == event).unwrap();
                timerfd_settime(timer, TimerfdTimerFlags::empty(), &never).unwrap();
            }
            Event::Connection(token) => {
                let is_armed = |connection: &&mut Connection| {
                    connection.token == token && connection.armed.is_some()
                };
                let connection = self.connections.iter_mut().find(is_armed);
                connection.expect("the connection is ready").armed = None;
            }
        }
    }
}

fn is_ready(fd: &impl AsFd, wanted: Readiness) -> bool {
    let flags = match wanted {
        Readiness::Writable | Readiness::SendBuffer => PollFlags::OUT,
        Readiness::Readable | Readiness::PartialRequest => PollFlags::IN,
    };
    poll(&mut [PollFd::new(fd, flags)], Some(&ZERO)).unwrap() > 0
}
