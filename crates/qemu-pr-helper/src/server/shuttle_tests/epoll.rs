//! In place of the epoll set, one that a scheduler of the model's own can look into: the same descriptors and the
//! same registrations, of which one-shot is the important part.
//!
//! Nobody waits in the kernel. Whoever does what somebody may wait for says so ([`Poll::stir`]), and whoever waits
//! looks again.

#![expect(
    clippy::unwrap_used,
    reason = "what a model cannot do without fails it"
)]
#![expect(clippy::indexing_slicing, reason = "as above")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{Shutdown, shutdown};
use rustix::time::{Itimerspec, TimerfdTimerFlags, timerfd_gettime, timerfd_settime};
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::sync::{Condvar, Mutex, MutexGuard};

use super::acceptor::Door;
use super::request_timeout::Overdue;
use super::sync::thread;
use super::timer::Timer;
use crate::server::session::Wait;

const NO_TIME: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

const NEVER: Itimerspec = Itimerspec {
    it_interval: NO_TIME,
    it_value: NO_TIME,
};

const A_SECOND: Duration = Duration::from_secs(1);

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Somebody is at the door.
    Door,
    /// A pause at the door is over.
    DoorTimer,
    /// There may be a request that takes too long to arrive.
    OverdueTimer,
    /// Somebody wants to know whether the threads are alive.
    Beat,
    /// There is what the session at this place in the table waits for.
    Session(usize),
}

/// The set.
#[derive(Debug)]
pub(super) struct Poll {
    set: Mutex<Set>,
    changed: Condvar,
}

#[derive(Debug)]
struct Set {
    listener: OwnedFd,
    door_is_armed: bool,
    timers: [(OwnedFd, Event); 3],
    connections: Vec<Connection>,
    /// Threads that wait.
    waiting: usize,
    /// Nothing happens any more: whoever has some patience has lost it.
    is_quiet: bool,
    is_over: bool,
}

/// As in the kernel, what is registered is the socket. It leaves the set when it is closed.
#[derive(Debug)]
struct Connection {
    socket: Weak<OwnedFd>,
    place: usize,
    awaits: Option<Wait>,
}

impl Poll {
    pub(super) fn new(door: &Door, overdue: &Overdue, beat: &Timer) -> io::Result<Self> {
        let set = Set {
            listener: door.as_fd().try_clone_to_owned()?,
            door_is_armed: true,
            timers: [
                (door.timer().try_clone_to_owned()?, Event::DoorTimer),
                (overdue.as_fd().try_clone_to_owned()?, Event::OverdueTimer),
                (beat.as_fd().try_clone_to_owned()?, Event::Beat),
            ],
            connections: Vec::new(),
            waiting: 0,
            is_quiet: false,
            is_over: false,
        };
        Ok(Self {
            set: Mutex::new(set),
            changed: Condvar::new(),
        })
    }

    pub(super) fn wait(&self, patience: Option<Duration>) -> Option<Event> {
        // Whoever comes here has done something before, which may be an answer.
        self.stir();
        let mut set = self.lock();
        loop {
            if set.is_over {
                drop(set);
                thread::end();
            }
            let ready = set.ready();
            if !ready.is_empty() {
                let event = ready[thread_rng().gen_range(0..ready.len())];
                set.disarm(event);
                drop(set);
                if matches!(event, Event::DoorTimer | Event::OverdueTimer) {
                    // Some time has passed: others had their turn.
                    shuttle::thread::yield_now();
                }
                return Some(event);
            }
            if patience.is_some() && (set.is_quiet || thread_rng().gen_ratio(1, 8)) {
                return None;
            }
            if patience.is_some_and(|patience| patience < A_SECOND) {
                // It times out soon, whatever the other threads do meanwhile.
                drop(set);
                shuttle::thread::yield_now();
                set = self.lock();
                continue;
            }
            set.waiting += 1;
            set = self.changed.wait(set).unwrap();
            set.waiting -= 1;
        }
    }

    pub(super) fn add(&self, place: usize, socket: &Arc<OwnedFd>, wait: Wait) -> io::Result<()> {
        // A read that waits would keep all threads. Answers do not fit in, so that some wait for the client.
        fcntl_setfl(socket, OFlags::NONBLOCK)?;
        set_socket_send_buffer_size(socket, 0)?;
        self.lock().connections.push(Connection {
            socket: Arc::downgrade(socket),
            place,
            awaits: Some(wait),
        });
        self.stir();
        Ok(())
    }

    pub(super) fn again(&self, place: usize, socket: &Arc<OwnedFd>, wait: Wait) -> io::Result<()> {
        let mut set = self.lock();
        let connection = set
            .connections
            .iter_mut()
            .find(|connection| connection.socket.as_ptr() == Arc::as_ptr(socket))
            .expect("it was added");
        assert_eq!(connection.place, place);
        assert_eq!(connection.awaits, None, "somebody waits for it already");
        connection.awaits = Some(wait);
        drop(set);
        self.stir();
        Ok(())
    }

    pub(super) fn hear_out(&self, socket: &OwnedFd) -> io::Result<()> {
        shutdown(socket, Shutdown::Read)?;
        self.stir();
        Ok(())
    }

    pub(super) fn door_again(&self, _: &Door) -> io::Result<()> {
        self.lock().door_is_armed = true;
        self.stir();
        Ok(())
    }
}

/// What the model does, and the engine does not.
impl Poll {
    /// Something has changed.
    pub(super) fn stir(&self) {
        drop(self.lock());
        self.changed.notify_all();
    }

    /// Looks until there is something.
    pub(super) fn until<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        let mut set = self.lock();
        loop {
            if let Some(found) = look() {
                return found;
            }
            set = self.changed.wait(set).unwrap();
        }
    }

    /// A long time passes.
    pub(super) fn calm(&self) {
        self.lock().is_quiet = true;
        self.stir();
    }

    /// How many threads wait for something to happen.
    pub(super) fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// How many connections are open.
    pub(super) fn open(&self) -> usize {
        let mut set = self.lock();
        set.forget_closed();
        set.connections.len()
    }

    /// Ends all threads that wait, or come to wait.
    pub(super) fn end(&self) {
        self.lock().is_over = true;
        self.stir();
    }

    fn lock(&self) -> MutexGuard<'_, Set> {
        self.set.lock().unwrap()
    }
}

impl Set {
    fn forget_closed(&mut self) {
        self.connections
            .retain(|connection| connection.socket.strong_count() > 0);
    }

    /// What there is to do.
    fn ready(&mut self) -> Vec<Event> {
        self.forget_closed();
        let mut ready = Vec::new();
        if self.door_is_armed && is_ready(&self.listener, Wait::Readable) {
            ready.push(Event::Door);
        }
        // It may be that its time has passed since it was set, and if nothing else happens it does.
        for (timer, event) in &self.timers {
            let left = timerfd_gettime(timer).unwrap().it_value;
            let is_set = left != NO_TIME || is_ready(timer, Wait::Readable);
            // What takes long is seldom: schedules would be full of it.
            if is_set && (left.tv_sec <= 1 || thread_rng().gen_ratio(1, 8)) {
                ready.push(*event);
            }
        }
        for connection in &self.connections {
            if let Some(wait) = connection.awaits
                && let Some(socket) = connection.socket.upgrade()
                && is_ready(&*socket, wait)
            {
                ready.push(Event::Session(connection.place));
            }
        }
        ready
    }

    /// What has happened is told to one thread.
    fn disarm(&mut self, event: Event) {
        match event {
            Event::Door => self.door_is_armed = false,
            Event::DoorTimer | Event::OverdueTimer | Event::Beat => {
                let timers = self.timers.iter();
                let timer = timers
                    .filter(|(_, of)| *of == event)
                    .map(|(timer, _)| timer);
                for timer in timer {
                    timerfd_settime(timer, TimerfdTimerFlags::empty(), &NEVER).unwrap();
                }
            }
            Event::Session(place) => {
                let armed = |connection: &&mut Connection| {
                    connection.place == place && connection.awaits.is_some()
                };
                let connection = self.connections.iter_mut().find(armed);
                connection.expect("it is ready").awaits = None;
            }
        }
    }
}

fn is_ready(descriptor: &impl AsFd, wait: Wait) -> bool {
    let flags = match wait {
        Wait::Writable | Wait::Memory => PollFlags::OUT,
        Wait::Readable | Wait::Rest | Wait::Over => PollFlags::IN,
    };
    let mut descriptors = [PollFd::new(descriptor, flags)];
    poll(&mut descriptors, Some(&NO_TIME)).unwrap() > 0
}
