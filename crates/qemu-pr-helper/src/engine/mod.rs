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
mod crew;
mod devices;
mod door;
#[cfg(all(test, shuttle))]
mod model;
mod overdue;
#[cfg(not(all(test, shuttle)))]
mod poll;
#[cfg(all(test, shuttle))]
#[path = "model/poll.rs"]
mod poll;
mod sync;
mod table;
mod timer;

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pr_socket::server::Patience;
use pr_socket::{ReplyBuffer, Request};
use scsi_pr::Status;
use thiserror::Error;

use crate::client::Client;
use crate::device::{self, Number};
use crate::limits::Limits;
use crate::listener::Listener;
use crate::logging::Seldom;
use crate::outcome::{Execute, Outcome};
use crate::report;
use crate::session::{Served, Wait};
use crew::Crew;
use devices::Devices;
use door::Door;
use overdue::Overdue;
use poll::{Event, Poll};
use sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use sync::{Mutex, lock, thread};
use table::{Seat, Table};
use timer::Timer;

/// How many requests of one client a thread serves that may not stay with it. A client that never pauses would
/// keep the thread from others. The model is to come to the end of it.
const MOST_IN_A_ROW: u32 = if cfg!(shuttle) { 1 } else { 16 };

/// How long a thread rests before the kernel is asked again for memory that it did not have.
const WITHOUT_MEMORY: Duration = Duration::from_millis(50);

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
    /// Set once; no session is served after that.
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

    /// Lets no command begin any more and no client in, and waits until the commands in progress
    /// are answered, but no longer than `patience`. Gives how many are not.
    pub fn stop(&self, patience: Duration) -> usize {
        let deadline = Instant::now() + patience;
        self.stopping.store(true, Ordering::SeqCst);
        loop {
            let serving = self.serving.load(Ordering::SeqCst);
            if serving == 0 || Instant::now() >= deadline {
                return serving;
            }
            thread::sleep(Duration::from_millis(1));
        }
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
                let discarded = std::mem::take(&mut *lock(&self.discarded));
                drop(discarded);
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
            self.has_follower();
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

    /// Serves the session at `place` in the table until it has to wait.
    fn serve(&self, place: usize, reply: &mut ReplyBuffer, may_block: bool) {
        let Some(seat) = lock(&self.table).get(place) else {
            return;
        };
        self.serving.fetch_add(1, Ordering::SeqCst);
        let wait = self.serve_until_wait(&seat, reply, may_block);
        if wait == Wait::Rest {
            self.overdue.note(&seat.begun);
        }
        if wait == Wait::Memory {
            thread::sleep(WITHOUT_MEMORY);
        }
        let is_over = match wait {
            Wait::Over => true,
            // Not before the session is let go of: whoever is woken wants it.
            wait => match self.poll.again(place, &seat.socket, wait) {
                Ok(()) => false,
                Err(error) => {
                    log::error!("cannot wait for a client, connection closed: {error}");
                    true
                }
            },
        };
        if is_over {
            lock(&self.table).remove(place);
        }
        // Whoever was woken may be through with it already, and this the last one who has it.
        self.let_go(seat, may_block);
        if is_over {
            // Its descriptor is free now, and somebody at the door may be waiting for it.
            self.reopen_door();
        }
        self.serving.fetch_sub(1, Ordering::SeqCst);
    }

    /// Serves request after request. Says what there is to wait for then.
    fn serve_until_wait(&self, seat: &Seat, reply: &mut ReplyBuffer, may_block: bool) -> Wait {
        let mut session = lock(&seat.session);
        if seat.begun.is_given_up() {
            session.give_up();
            return Wait::Over;
        }
        let stay = may_block.then(|| self.crew.stay()).flatten();
        let mut patience = Patience::None;
        let mut in_a_row = 0;
        loop {
            // A request that is not read now, or read and not begun, finds its connection closed.
            if self.stopping.load(Ordering::SeqCst) {
                return Wait::Over;
            }
            let served = session.serve(patience, reply, |client, request, data| {
                if seat.begun.finish() {
                    self.run(client, request, data, may_block)
                } else {
                    self.discard(request, may_block);
                    None
                }
            });
            match served {
                Served::Handshake if seat.begun.finish() => {}
                Served::Handshake => {
                    session.give_up();
                    return Wait::Over;
                }
                // Who has asked once asks again.
                Served::Request if stay.is_some() => patience = Patience::OfSocket,
                Served::Request if may_block && in_a_row < MOST_IN_A_ROW => in_a_row += 1,
                // Others first. Where this thread may not block, whoever is woken for the next request may find
                // a thread again.
                Served::Request => return Wait::Readable,
                Served::Nothing(wait) => return wait,
            }
        }
    }

    /// Executes one request, or answers BUSY where that might leave nobody for everybody else. `None` if no
    /// command may begin any more.
    fn run(
        &self,
        client: &Client,
        request: Request,
        data: &mut [u8],
        may_block: bool,
    ) -> Option<Outcome> {
        if self.stopping.load(Ordering::SeqCst) {
            self.discard(request, may_block);
            return None;
        }
        if !may_block {
            // Not even the device may be looked at: that can take long as well.
            report::refused_unseen(client, "no thread can be started");
            self.discard(request, may_block);
            return Some(Outcome::status(Status::BUSY));
        }
        let number = device::number_in(&request);
        let Some(_place) = self.devices.enter(number) else {
            return Some(self.refuse_crowd(client, &request, number));
        };
        let pending = report::begin(client, &request, number);
        let outcome = self.executor.execute(client, &request, number, data);
        pending.end(client, &request, &outcome);
        // It can take as long as a command, and as long as it takes the command has its place.
        drop(request);
        Some(outcome)
    }

    /// So many commands wait for this device that one more would only take a thread from the others.
    fn refuse_crowd(&self, client: &Client, request: &Request, number: Number) -> Outcome {
        if self.no_place.is_due() {
            log::warn!(
                "{client}: device {number} has as many commands in progress as it may \
                 (--max-commands-per-device), command answered with BUSY"
            );
        }
        report::refused(
            client,
            request,
            "the device has too many commands in progress",
        );
        Outcome::status(Status::BUSY)
    }
}
