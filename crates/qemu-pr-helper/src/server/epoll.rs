//! What the threads wait for: one epoll set, in which every connection is registered one-shot.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};

use super::acceptor::Door;
use super::request_timeout::Overdue;
use super::timer::Timer;
use crate::server::session::Wait;

/// What the door and its timer are called in the set. Connections have their place in the table.
const DOOR: u64 = u64::MAX;
const DOOR_TIMER: u64 = u64::MAX - 1;
const OVERDUE_TIMER: u64 = u64::MAX - 2;
const BEAT: u64 = u64::MAX - 3;

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
pub(super) struct Poll(OwnedFd);

impl Poll {
    /// One that waits for what is at the door, and for the timers.
    pub(super) fn new(door: &Door, overdue: &Overdue, beat: &Timer) -> io::Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let listener = epoll::EventData::new_u64(DOOR);
        epoll::add(&poll, door.as_fd(), listener, interest(Wait::Readable))?;
        // Once per expiry, without anybody reading it.
        let once = epoll::EventFlags::IN | epoll::EventFlags::ET;
        let timers = [
            (door.timer(), DOOR_TIMER),
            (overdue.as_fd(), OVERDUE_TIMER),
            (beat.as_fd(), BEAT),
        ];
        for (timer, name) in timers {
            epoll::add(&poll, timer, epoll::EventData::new_u64(name), once)?;
        }
        Ok(Self(poll))
    }

    /// Waits for an event; `None` if there is none for so long.
    pub(super) fn wait(&self, patience: Option<Duration>) -> Option<Event> {
        let patience = patience.and_then(|patience| patience.try_into().ok());
        let mut events = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }];
        loop {
            match epoll::wait(&self.0, &mut events, patience.as_ref()) {
                Ok(0) => return None,
                Ok(_) => {
                    let [event] = events;
                    return Some(match event.data.u64() {
                        DOOR => Event::Door,
                        DOOR_TIMER => Event::DoorTimer,
                        OVERDUE_TIMER => Event::OverdueTimer,
                        BEAT => Event::Beat,
                        place => Event::Session(usize::try_from(place).unwrap_or(usize::MAX)),
                    });
                }
                Err(Errno::INTR) => {}
                // The set and the buffer are good for as long as the engine lives.
                Err(error) => {
                    log::error!("cannot wait for events: {error}");
                    thread::sleep(Duration::from_secs(1));
                }
            }
        }
    }

    /// Begins to wait for the session at `place`, once.
    pub(super) fn add(&self, place: usize, socket: &OwnedFd, wait: Wait) -> io::Result<()> {
        Ok(epoll::add(&self.0, socket, data(place), interest(wait))?)
    }

    /// Waits for the session at `place` again, once.
    pub(super) fn again(&self, place: usize, socket: &OwnedFd, wait: Wait) -> io::Result<()> {
        Ok(epoll::modify(&self.0, socket, data(place), interest(wait))?)
    }

    /// Lets the client at the other end send nothing more: the kernel tells it so. What it has sent can be read.
    pub(super) fn hear_out(&self, socket: &OwnedFd) -> io::Result<()> {
        Ok(shutdown(socket, Shutdown::Read)?)
    }

    /// Waits for the door again, once.
    pub(super) fn door_again(&self, door: &Door) -> io::Result<()> {
        let listener = epoll::EventData::new_u64(DOOR);
        Ok(epoll::modify(
            &self.0,
            door,
            listener,
            interest(Wait::Readable),
        )?)
    }
}

fn data(place: usize) -> epoll::EventData {
    epoll::EventData::new_u64(u64::try_from(place).unwrap_or(DOOR))
}

fn interest(wait: Wait) -> epoll::EventFlags {
    let direction = match wait {
        Wait::Writable | Wait::Memory => epoll::EventFlags::OUT,
        Wait::Readable | Wait::Rest | Wait::Over => epoll::EventFlags::IN,
    };
    direction | epoll::EventFlags::ONESHOT
}
