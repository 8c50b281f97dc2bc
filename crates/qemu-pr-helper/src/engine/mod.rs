//! Leaders and followers: threads that wait together and work alone.
//!
//! All threads wait on one epoll set, in which every connection is registered one-shot. The one that
//! is woken reads the request, runs it, which is a blocking call, writes the answer and registers the
//! connection again: on its way a request changes hands nowhere. Before a thread goes into a call that
//! may block it sees to it that another one waits ([`Crew`]). So there are as many threads as
//! commands in progress and one more, and a command that hangs costs its own client and one thread.
//!
//! An idle connection is a [`Session`] in a table. A thread that is woken for it holds its lock until
//! it has registered it again; nobody else can be woken for it meanwhile.

mod crew;
mod door;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pr_socket::{ReplyBuffer, Request};
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use scsi_pr::Status;
use slab::Slab;
use thiserror::Error;

use crate::chain;
use crate::client::Client;
use crate::listener::Listener;
use crate::outcome::{Execute, Outcome};
use crate::report;
use crate::session::{Served, Session, Wait};
use crew::Crew;
use door::{Door, Knock};

/// What the listener is called in the epoll set. Connections have their place in the table.
const LISTENER: u64 = u64::MAX;

/// Why the engine cannot start.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The epoll set cannot be made.
    #[error("cannot make an epoll set")]
    Epoll(#[source] io::Error),
    /// The first thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// Serves clients until it is stopped.
#[derive(Debug)]
pub struct Engine<E> {
    poll: OwnedFd,
    door: Door,
    sessions: Mutex<Slab<Arc<Mutex<Session>>>>,
    crew: Crew,
    executor: E,
    /// Sessions that a thread is working on, with a command in progress or about to have one.
    serving: AtomicUsize,
    /// Set once; no command begins after that.
    stopping: AtomicBool,
}

impl<E: Execute> Engine<E> {
    /// Begins to serve the clients that connect to `listener`, with what `executor` can do.
    ///
    /// # Errors
    ///
    /// [`EngineError`].
    pub fn start(listener: Listener, executor: E) -> Result<Arc<Self>, EngineError> {
        let failed = |error: Errno| EngineError::Epoll(error.into());
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
        let door = Door::new(listener);
        epoll::add(
            &poll,
            &door,
            epoll::EventData::new_u64(LISTENER),
            interest(Wait::Readable),
        )
        .map_err(failed)?;
        let engine = Arc::new(Self {
            poll,
            door,
            sessions: Mutex::new(Slab::new()),
            crew: Crew::new(),
            executor,
            serving: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
        });
        engine.ensure_follower().map_err(EngineError::Thread)?;
        Ok(engine)
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
            match self.wait() {
                Some(LISTENER) => self.admit(),
                Some(place) => self.serve(place, &mut reply),
                None => {
                    self.reopen_door();
                    if self.crew.leave_if_surplus() {
                        return;
                    }
                    continue;
                }
            }
            self.crew.back_to_waiting();
        }
    }

    /// Waits for an event. None: nothing happened for so long that a surplus thread may go.
    fn wait(&self) -> Option<u64> {
        let mut events = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }];
        loop {
            let patience = [self.crew.patience(), self.door.patience()];
            let patience = patience.into_iter().flatten().min();
            let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
            match epoll::wait(&self.poll, &mut events, patience.as_ref()) {
                Ok(0) => return None,
                Ok(_) => {
                    self.crew.called();
                    let [event] = events;
                    return Some(event.data.u64());
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

    /// Takes in clients that have connected, but not for longer than others can wait.
    fn admit(self: &Arc<Self>) {
        for _ in 0..door::MOST_AT_ONCE {
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            let present = lock(&self.sessions).len();
            match self.door.next(present) {
                Knock::Client(socket, number) => match Session::open(socket, number) {
                    Ok(session) => self.enter(session),
                    Err(ended) => {
                        log::info!(
                            "client {number}: gone before it was greeted: {}",
                            chain(&ended)
                        );
                    }
                },
                Knock::Nobody => break,
                Knock::Pause => return,
            }
        }
        self.listen_again();
    }

    /// Puts a new session into the table and the epoll set.
    fn enter(&self, session: Session) {
        let session = Arc::new(Mutex::new(session));
        let key = lock(&self.sessions).insert(Arc::clone(&session));
        let place = epoll::EventData::new_u64(u64::try_from(key).unwrap_or(LISTENER));
        let added = epoll::add(
            &self.poll,
            &*lock(&session),
            place,
            interest(Wait::Readable),
        );
        if let Err(error) = added {
            log::error!("cannot wait for a new client, connection ended: {error}");
            lock(&self.sessions).remove(key);
        }
    }

    fn listen_again(&self) {
        let data = epoll::EventData::new_u64(LISTENER);
        if let Err(error) = epoll::modify(&self.poll, &self.door, data, interest(Wait::Readable)) {
            log::error!("cannot accept clients any more: {error}");
        }
    }

    fn reopen_door(&self) {
        if self.door.reopen() {
            self.listen_again();
        }
    }

    /// Serves the session at `place` in the table until it has to wait.
    fn serve(self: &Arc<Self>, place: u64, reply: &mut ReplyBuffer) {
        let key = usize::try_from(place).unwrap_or(usize::MAX);
        let Some(session) = lock(&self.sessions).get(key).map(Arc::clone) else {
            return;
        };
        self.serving.fetch_add(1, Ordering::SeqCst);
        let wait = self.serve_until_wait(place, &mut lock(&session), reply);
        if wait == Wait::Over {
            lock(&self.sessions).remove(key);
            // Its descriptor is free now, and somebody at the door may be waiting for it.
            drop(session);
            self.reopen_door();
        }
        self.serving.fetch_sub(1, Ordering::SeqCst);
    }

    /// Serves request after request, then registers the session again for what it waits for.
    fn serve_until_wait(
        self: &Arc<Self>,
        place: u64,
        session: &mut Session,
        reply: &mut ReplyBuffer,
    ) -> Wait {
        loop {
            // A request that is not read now finds its connection closed, and was not executed.
            if self.stopping.load(Ordering::SeqCst) {
                return Wait::Over;
            }
            match session.serve(reply, |client, request, data| {
                self.run(client, &request, data)
            }) {
                Served::Request => {}
                Served::Nothing(Wait::Over) => return Wait::Over,
                Served::Nothing(wait) => {
                    let data = epoll::EventData::new_u64(place);
                    return match epoll::modify(&self.poll, &*session, data, interest(wait)) {
                        Ok(()) => wait,
                        Err(error) => {
                            log::error!("cannot wait for a client, connection ended: {error}");
                            Wait::Over
                        }
                    };
                }
            }
        }
    }

    /// Executes one request, with another thread at hand for everybody else.
    fn run(self: &Arc<Self>, client: &Client, request: &Request, data: &mut [u8]) -> Outcome {
        if let Err(error) = self.ensure_follower() {
            log::error!("{client}: cannot start a thread, command answered with BUSY: {error}");
            return Outcome::status(Status::BUSY);
        }
        report::begin(client, request);
        let start = Instant::now();
        let outcome = self.executor.execute(client, request, data);
        report::end(client, request, &outcome, start.elapsed());
        outcome
    }
}

fn interest(wait: Wait) -> epoll::EventFlags {
    let direction = match wait {
        Wait::Writable => epoll::EventFlags::OUT,
        Wait::Readable | Wait::Over => epoll::EventFlags::IN,
    };
    direction | epoll::EventFlags::ONESHOT
}

/// Locks, also if a thread has panicked with the lock: release builds end then, and in a test the
/// panic itself is the news.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
