//! Leaders and followers: threads that wait together and work alone.
//!
//! All threads wait on one epoll set, in which every connection is registered one-shot. The one that
//! is woken reads the request, runs it, which is a blocking call, writes the answer and registers the
//! connection again: on its way a request changes hands nowhere. Before a thread touches anything
//! that is a client's it sees to it that another one waits (`Crew`). So there are as many threads
//! as commands in progress and one more, and a command that hangs costs its own client and one
//! thread.
//!
//! If no other thread can be started, the last one does nothing that may block: it answers BUSY,
//! and defers what it would have to close (`deferred`). Closing a client's descriptor can take as
//! long as a command, for example the close of a socket that lingers, or the last close of a disk.
//! A connection counts against the limits until all of it is closed (`permits`).
//!
//! A client that has asked something asks again soon. So the thread stays with it for a moment, in the read that
//! the next request ends: one call, where to register it, to wait and to be woken are three. Only so many
//! threads do that; the others look at the next client after a while.
//!
//! An idle connection is a `Session` in a table. A thread that is woken for it registers it again when it has
//! let go of its lock; nobody else can be woken for it meanwhile.

mod acceptor;
mod arrivals;
mod connections;
mod deferred;
mod device_limits;
mod dispatch;
#[cfg(not(all(test, shuttle)))]
mod epoll;
#[cfg(all(test, shuttle))]
#[path = "shuttle_tests/epoll.rs"]
mod epoll;
pub mod listener;

mod permits;
mod rejections;
mod request_timeout;
mod request_timer;
pub mod session;
mod shutdown;
#[cfg(all(test, shuttle))]
mod shuttle_tests;
mod sync;
mod thread_pool;
mod timer;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use linux_util::memory;
use pr_helper_protocol::ReplyBuffer;
use thiserror::Error;

use crate::cli::Limits;
use crate::command::executor::CommandExecutor;
use crate::command::peer::ProcessKey;
use crate::logging::{KeyedRateLimit, RateLimit};
use crate::process::closer::Closer;
use crate::server::listener::Listener;
use acceptor::Door;
use connections::{Seat, Table};
use deferred::{Deferred, DeferredWork};
use device_limits::Devices;
use epoll::{Event, Poll};
use permits::ConnectionPermits;
use rejections::Rejections;
use request_timeout::Overdue;
use sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use sync::{Mutex, lock};
use thread_pool::Crew;
use timer::Timer;

/// How long a thread waits before it tries again to start another one, while work is deferred.
const DEFERRED_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Why the engine cannot start.
#[derive(Debug, Error)]
pub enum ServerError {
    /// What the threads wait for cannot be made.
    #[error("cannot make an epoll set or a timer")]
    Epoll(#[source] io::Error),
    /// The first thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// Load of the engine at one moment. `Display` is what a service manager shows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load<T> {
    /// Connected clients.
    pub clients: T,
    /// Commands in progress.
    pub commands: T,
}

impl<T: fmt::Display> fmt::Display for Load<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clients, commands } = self;
        write!(f, "{clients} clients, {commands} commands in progress")
    }
}

/// Serves clients until it is stopped.
#[derive(Debug)]
pub struct Server<E> {
    poll: Poll,
    door: Door,
    table: Mutex<Table>,
    permits: Arc<ConnectionPermits>,
    rejections: Rejections,
    crew: Crew,
    devices: Devices,
    overdue: Overdue,
    /// Goes off when somebody wants to know whether the threads are alive, and whether one has noticed.
    beat: Timer,
    is_heard: AtomicBool,
    executor: E,
    deferred: DeferredWork,
    /// Sessions that a thread is working on, with a command in progress or about to have one.
    serving: AtomicUsize,
    /// Set once; no client comes in after that, and none can send any more.
    closing: AtomicBool,
    /// Set once, later; no session is served after that.
    stopping: AtomicBool,
    no_thread: RateLimit,
    no_room: KeyedRateLimit<ProcessKey>,
    no_place: KeyedRateLimit<ProcessKey>,
}

impl<E: CommandExecutor> Server<E> {
    /// Creates an engine that passes the requests of the clients of `listener` to `executor`, within
    /// `limits`. It serves no client before [`Self::start`].
    ///
    /// Connections over a limit are closed by `closer`. Without it they are closed by the engine's own
    /// threads, which clients can block.
    ///
    /// # Errors
    ///
    /// Returns [`EngineError::Epoll`] if an epoll set or a timer cannot be created.
    pub fn new(
        listener: Listener,
        executor: E,
        closer: Option<Closer>,
        limits: &Limits,
    ) -> Result<Self, ServerError> {
        let door = Door::new(listener, executor.fds_per_command(), limits.max_clients());
        let door = door.map_err(ServerError::Epoll)?;
        let overdue = Overdue::new(limits.request_timeout()).map_err(ServerError::Epoll)?;
        let beat = Timer::new().map_err(ServerError::Epoll)?;
        let poll = Poll::new(&door, &overdue, &beat).map_err(ServerError::Epoll)?;
        let share = limits.max_clients_per_process(door.most_clients());
        Ok(Self {
            poll,
            table: Mutex::new(Table::default()),
            permits: ConnectionPermits::new(share),
            rejections: Rejections::new(closer),
            door,
            crew: Crew::new(),
            devices: Devices::new(limits.max_commands_per_device()),
            overdue,
            beat,
            is_heard: AtomicBool::new(true),
            executor,
            deferred: DeferredWork::new(),
            serving: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            no_thread: RateLimit::new(),
            no_room: KeyedRateLimit::new(),
            no_place: KeyedRateLimit::new(),
        })
    }

    /// Begins to serve.
    ///
    /// # Errors
    ///
    /// [`EngineError::Thread`].
    pub fn start(self: &Arc<Self>) -> Result<(), ServerError> {
        self.ensure_follower().map_err(ServerError::Thread)
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

    /// Returns the number of clients and of commands in progress.
    #[must_use]
    pub fn load(&self) -> Load<usize> {
        Load {
            clients: lock(&self.table).len(),
            commands: self.devices.commands(),
        }
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
                    if self.crew.is_at_rest() {
                        // Many threads, which have ended since, may have left memory behind.
                        memory::release_unused();
                    }
                    return;
                }
                continue;
            };
            self.crew.called();
            let may_block = self.has_follower();
            match event {
                Event::Door => self.admit(may_block),
                Event::DoorTimer => self.reopen_door(),
                Event::OverdueTimer => self.give_up_overdue(),
                Event::Beat => self.is_heard.store(true, Ordering::SeqCst),
                Event::Session(place) => self.serve(place, &mut reply, may_block),
            }
            if may_block {
                // Afterwards, because it can take long and concerns other clients.
                self.do_deferred();
            }
            self.crew.back_to_waiting();
        }
    }

    /// Returns how long the calling thread waits for an event.
    fn patience(&self) -> Option<Duration> {
        match self.has_deferred() {
            false => self.crew.patience(),
            true => Some(DEFERRED_RETRY_DELAY),
        }
    }

    /// Does what is deferred, if another thread can be started by now. Without an event no other
    /// thread would: a guest's disk would stay open for as long as nothing is asked.
    fn tidy(self: &Arc<Self>) {
        if self.has_deferred() {
            self.crew.called();
            if self.has_follower() {
                self.rejections.close_kept();
                self.do_deferred();
            }
            self.crew.back_to_waiting();
        }
    }

    /// Returns whether there is something to close that no event asks for.
    fn has_deferred(&self) -> bool {
        !self.deferred.is_empty() || !self.rejections.is_empty()
    }

    /// Returns whether another thread waits, so that this one may do what can block.
    fn has_follower(self: &Arc<Self>) -> bool {
        match self.ensure_follower() {
            Ok(()) => true,
            Err(error) => {
                if self.no_thread.should_log() {
                    log::error!(
                        "cannot start a thread, commands are answered with BUSY: {error}; \
                         see the limits of processes and of memory"
                    );
                }
                false
            }
        }
    }

    /// Waits again for stalled connections, and does the deferred closes. Another thread has to be
    /// waiting.
    fn do_deferred(self: &Arc<Self>) {
        for stalled in self.deferred.take_stalled() {
            let result = self
                .poll
                .again(stalled.place, &stalled.seat.socket, stalled.wait);
            if let Err(error) = result {
                log::error!("cannot wait for a client, connection closed: {error}");
                lock(&self.table).remove(stalled.place);
            }
            // Closing this one must not keep the others from being waited for.
            self.release(stalled.seat, false);
        }
        // The thread that waited may have been woken, and blocked, while this one closed something.
        while self.deferred.has_closes() && self.has_follower() && self.deferred.close_one() {
            self.reopen_door();
        }
    }

    /// Closes the connections of clients that take too long for what they have begun.
    fn give_up_overdue(&self) {
        for seat in self.overdue.give_up(&self.table) {
            self.release(seat, false);
        }
    }

    /// Drops a seat. If the calling thread is the last one that has it, this closes the connection,
    /// which can block, or defers that.
    fn release(&self, seat: Arc<Seat>, may_block: bool) {
        match Arc::into_inner(seat) {
            None => {}
            Some(seat) if may_block => {
                drop(seat);
                // Its permit is free now, and a connection may be waiting for it.
                self.reopen_door();
            }
            Some(seat) => self.deferred.push(Deferred::Seat(Box::new(seat))),
        }
    }
}
