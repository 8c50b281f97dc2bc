//! Leaders and followers: threads that wait together and work alone.
//!
//! All threads wait on one epoll set, in which every connection is registered one-shot. The one that
//! is woken reads the request, runs it, which is a blocking call, writes the answer and registers the
//! connection again: on its way a request changes hands nowhere. Before a thread touches anything
//! that is a client's it sees to it that another one waits (`Crew`). So there are as many threads
//! as commands in progress and one more, and a command that hangs costs its own client and one
//! thread.
//!
//! Where no other thread can be had, the last one does nothing that may block: it answers BUSY, and
//! what it would have to close it puts aside. Closing a client's descriptor can take as long as a
//! command: think of a socket that lingers, or the last close of a disk.
//!
//! A client that has asked something asks again soon. So the thread stays with it for a moment, in the read that
//! the next request ends: one call, where to register it, to wait and to be woken are three. Only so many
//! threads do that; the others look at the next client after a while.
//!
//! An idle connection is a `Session` in a table. A thread that is woken for it registers it again when it has
//! let go of its lock; nobody else can be woken for it meanwhile.

mod arrivals;
mod begun;
mod crew;
mod devices;
mod door;
mod ending;
#[cfg(all(test, shuttle))]
mod model;
mod overdue;
#[cfg(not(all(test, shuttle)))]
mod poll;
#[cfg(all(test, shuttle))]
#[path = "model/poll.rs"]
mod poll;
mod serving;
mod sync;
mod table;
mod timer;

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use pr_socket::ReplyBuffer;
use thiserror::Error;

use crate::limits::Limits;
use crate::listener::Listener;
use crate::logging::Seldom;
use crate::outcome::Execute;
use crew::Crew;
use devices::Devices;
use door::Door;
use overdue::Overdue;
use poll::{Event, Poll};
use sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use sync::{Mutex, lock};
use table::{Seat, Table};
use timer::Timer;

/// Why the engine cannot start.
#[derive(Debug, Error)]
pub enum EngineError {
    /// What the threads wait for cannot be made.
    #[error("cannot make an epoll set or a timer")]
    Epoll(#[source] io::Error),
    /// The first thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// Serves clients until it is stopped.
#[derive(Debug)]
pub struct Engine<E> {
    poll: Poll,
    door: Door,
    table: Mutex<Table>,
    crew: Crew,
    devices: Devices,
    overdue: Overdue,
    /// Goes off when somebody wants to know whether the threads are alive, and whether one has noticed.
    beat: Timer,
    is_heard: AtomicBool,
    executor: E,
    /// What was put aside for want of a thread that may block.
    discarded: Mutex<Vec<Box<dyn Any + Send>>>,
    /// Sessions that a thread is working on, with a command in progress or about to have one.
    serving: AtomicUsize,
    /// Set once; no client comes in after that, and none can send any more.
    closing: AtomicBool,
    /// Set once, later; no session is served after that.
    stopping: AtomicBool,
    no_thread: Seldom,
    no_room: Seldom,
    no_place: Seldom,
}

impl<E: Execute> Engine<E> {
    /// Makes what it takes to serve the clients that connect to `listener`, with what `executor` can do, within
    /// `limits`. Nobody is served before [`Self::start`].
    ///
    /// # Errors
    ///
    /// [`EngineError::Epoll`].
    pub fn new(listener: Listener, executor: E, limits: &Limits) -> Result<Self, EngineError> {
        let door = Door::new(listener, executor.descriptors(), limits.clients());
        let door = door.map_err(EngineError::Epoll)?;
        let overdue = Overdue::new(limits.request_timeout()).map_err(EngineError::Epoll)?;
        let beat = Timer::new().map_err(EngineError::Epoll)?;
        let poll = Poll::new(&door, &overdue, &beat).map_err(EngineError::Epoll)?;
        let share = limits.clients_of_a_process(door.most_clients());
        Ok(Self {
            poll,
            table: Mutex::new(Table::new(share)),
            door,
            crew: Crew::new(),
            devices: Devices::new(limits.commands_at_a_device()),
            overdue,
            beat,
            is_heard: AtomicBool::new(true),
            executor,
            discarded: Mutex::new(Vec::new()),
            serving: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            no_thread: Seldom::new(),
            no_room: Seldom::new(),
            no_place: Seldom::new(),
        })
    }

    /// Begins to serve.
    ///
    /// # Errors
    ///
    /// [`EngineError::Thread`].
    pub fn start(self: &Arc<Self>) -> Result<(), EngineError> {
        self.ensure_follower().map_err(EngineError::Thread)
    }

    /// What executes the commands.
    #[must_use]
    pub const fn executor(&self) -> &E {
        &self.executor
    }

    /// Asks the threads for a sign of life. Says whether they gave the one that was asked for before; there may be
    /// none yet.
    #[must_use]
    pub fn beat(&self) -> bool {
        let was_heard = self.is_heard.swap(false, Ordering::SeqCst);
        // At once.
        if let Err(error) = self.beat.set(Duration::ZERO) {
            log::error!("cannot set a timer: {error}");
        }
        was_heard
    }

    /// What there is to say of the engine at the moment, in a few words.
    #[must_use]
    pub fn status(&self) -> String {
        let clients = lock(&self.table).len();
        let commands = self.devices.commands();
        format!("{clients} clients, {commands} commands in progress")
    }

    /// Makes sure that a thread waits for the next event, whatever becomes of this one.
    fn ensure_follower(self: &Arc<Self>) -> io::Result<()> {
        self.crew.ensure_waiting(|| {
            let engine = Arc::clone(self);
            move || engine.follow()
        })
    }

    /// What each thread does: wait, then serve what has happened.
    fn follow(self: &Arc<Self>) {
        let mut reply = ReplyBuffer::new();
        loop {
            let Some(event) = self.poll.wait(self.patience()) else {
                // Nothing has happened for a long time.
                self.tidy();
                if self.crew.leave_if_surplus() {
                    return;
                }
                continue;
            };
            self.crew.called();
            let may_block = self.has_follower();
            match event {
                Event::Door => self.admit(may_block),
                Event::DoorTimer => self.reopen_door(),
                Event::OverdueTimer => self.give_up_overdue(may_block),
                Event::Beat => self.is_heard.store(true, Ordering::SeqCst),
                Event::Session(place) => self.serve(place, &mut reply, may_block),
            }
            if may_block {
                // Not before: it can take long, and whoever this thread was woken for has nothing to do with it.
                self.drop_discarded();
            }
            self.crew.back_to_waiting();
        }
    }

    /// How long the calling thread should wait for an event.
    fn patience(&self) -> Option<Duration> {
        let is_tidy = lock(&self.discarded).is_empty();
        if is_tidy {
            self.crew.patience()
        } else {
            Some(crew::QUIET)
        }
    }

    /// Drops what was put aside, if there can be another thread by now. If nobody asks for anything any more,
    /// it would stay for ever: a guest's disk, say, that its host wants to take away.
    fn tidy(self: &Arc<Self>) {
        if !lock(&self.discarded).is_empty() {
            self.crew.called();
            if self.has_follower() {
                self.drop_discarded();
            }
            self.crew.back_to_waiting();
        }
    }

    /// Whether another thread waits, so that this one may do what can take long.
    fn has_follower(self: &Arc<Self>) -> bool {
        match self.ensure_follower() {
            Ok(()) => true,
            Err(error) => {
                if self.no_thread.is_due() {
                    log::error!(
                        "cannot start a thread, commands are answered with BUSY: {error}; \
                         see the limits of processes and of memory"
                    );
                }
                false
            }
        }
    }

    /// Drops what may take long to drop, or leaves that to a thread that `may_block`.
    fn discard(&self, what: impl Any + Send, may_block: bool) {
        if may_block {
            drop(what);
        } else {
            lock(&self.discarded).push(Box::new(what));
        }
    }

    fn drop_discarded(&self) {
        // Not under the lock, which others want.
        let discarded = std::mem::take(&mut *lock(&self.discarded));
        drop(discarded);
    }

    /// Gives up the clients that take too long for what they have begun.
    fn give_up_overdue(&self, may_block: bool) {
        for seat in self.overdue.give_up(&self.table) {
            self.let_go(seat, may_block);
        }
    }

    /// Drops a seat, or leaves it to whoever else has it: the last one closes what is the client's.
    fn let_go(&self, seat: Arc<Seat>, may_block: bool) {
        if let Some(seat) = Arc::into_inner(seat) {
            self.discard(seat, may_block);
        }
    }
}
