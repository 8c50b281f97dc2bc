// SPDX-License-Identifier: MIT OR Apache-2.0

//! The server: worker threads that accept connections, execute requests and send replies.
//!
//! All idle workers wait on one epoll set, in which every connection is registered one-shot. The
//! worker that an event wakes reads the request, executes it, which is a blocking call, sends the
//! reply and rearms the connection: a request is never passed from thread to thread. Before a
//! worker touches anything that belongs to a client, it makes sure that another worker is idle
//! (`thread_pool`). The number of threads is therefore the number of commands in flight plus one,
//! and a command that hangs costs its own client and one thread.
//!
//! If no other thread can be started, the last worker does nothing that can block: it replies BUSY,
//! and defers what it would have to close (`deferred`). Closing a client's descriptor can take as
//! long as a command, for example the close of a socket that lingers, or the last close of a disk.
//! A connection counts against the limits until all of it is closed (`connections`).
//!
//! A client that has sent a request usually sends another one soon. The worker therefore lingers in
//! the read of the next request: one system call instead of three (rearm, wait, read). Only a
//! limited number of workers linger; the others turn to other connections after some requests.
//!
//! An idle connection is an entry in a table. A worker rearms it after it has unlocked the session,
//! and no other worker can be woken for the connection before that.
//!
//! A shutdown stops clients from sending, and replies to what they have sent. If it closed their
//! connections at once, a command that was sent a moment before would be lost, and QEMU would
//! report a failure to the guest, because it cannot know whether the command was executed. A
//! command that could not be sent is safe: QEMU connects to the next helper and sends it there.
//! This does not apply to the parameter list, which QEMU sends after the CDB. A client is therefore
//! stopped between two requests: by the main thread if the connection is idle, otherwise by the
//! worker that has sent the reply.

mod acceptor;
mod connections;
mod deferred;
mod dispatch;
#[cfg(not(all(test, shuttle)))]
mod epoll;
#[cfg(all(test, shuttle))]
#[path = "shuttle_tests/epoll.rs"]
mod epoll;
pub(crate) mod limiter;
pub mod listener;
mod rejections;
mod request_timeout;
mod session;
#[cfg(all(test, shuttle))]
mod shuttle_tests;
mod sync;
mod thread_pool;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cli_messages::error::system_error;
use linux_util::memory;
use pr_helper_protocol::ReplyBuffer;
use pr_helper_protocol::server::Readiness;
use rustix::net::{Shutdown, shutdown};
use thiserror::Error;

use crate::cli::Limits;
use crate::command::executor::CommandExecutor;
use crate::monitor::Monitor;
use crate::process::closer::Closer;
use acceptor::{Accepted, Acceptor};
use connections::{ConnectionEntry, ConnectionTable};
use deferred::{DeferredClose, DeferredWork};
use dispatch::{Dispatcher, Turn};
use epoll::EpollSet;
use listener::Listener;
use request_timeout::{TimeoutScanner, Timer};
use sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use sync::{Mutex, lock, sleep};
use thread_pool::ThreadPool;

/// Maximum number of connections that one worker accepts before it looks at other events.
const ACCEPT_BATCH: usize = 16;

/// Delay before an idle worker tries again to start another thread, while work is deferred.
const DEFERRED_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Delay after a reply for which the kernel had no memory. The kernel does not report when it has.
const ENOBUFS_RETRY_DELAY: Duration = Duration::from_millis(50);

/// Time in which a client has to send the rest of a request after a shutdown has begun.
const PARTIAL_REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Interval at which a shutdown looks whether the clients are done.
const SHUTDOWN_POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Error that keeps the server from starting.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The epoll set or a timer cannot be created.
    #[error(
        "cannot create an epoll set or a timer: {}; check the limit of file descriptors",
        system_error(.0)
    )]
    Epoll(io::Error),
    /// The first worker thread cannot be started.
    #[error(
        "cannot start a worker thread: {}; check the limits of processes and memory",
        system_error(.0)
    )]
    Thread(io::Error),
}

/// Load of the server at one moment. `Display` is the status text for a service manager.
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

/// Event that wakes a worker thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// A client has connected.
    Listener,
    /// A pause of accepting is over.
    AcceptTimer,
    /// A request may have timed out.
    TimeoutTimer,
    /// The main thread checks whether the workers respond.
    Heartbeat,
    /// The connection with this token in the table is ready.
    Connection(usize),
}

/// Server of one listening socket.
#[derive(Debug)]
pub struct Server<E> {
    epoll: EpollSet,
    acceptor: Acceptor,
    connections: Mutex<ConnectionTable>,
    dispatcher: Dispatcher<E>,
    deferred: DeferredWork,
    timeouts: TimeoutScanner,
    threads: ThreadPool,
    heartbeat: Timer,
    heartbeat_acked: AtomicBool,
    /// Workers that accept connections.
    accepting: AtomicUsize,
    /// Connections that a worker is serving, with a command in flight or about to have one.
    serving: AtomicUsize,
}

impl<E: CommandExecutor> Server<E> {
    /// Creates a server that passes the requests of the clients of `listener` to `executor`, within
    /// `limits`. It accepts no connection before [`Self::start`].
    ///
    /// `monitor` records what happens. `closer` closes connections over a limit. Without it the
    /// worker threads close them, and clients can block that.
    ///
    /// # Errors
    ///
    /// Returns [`ServerError::Epoll`] if an epoll set or a timer cannot be created.
    pub fn new(
        listener: Listener,
        executor: E,
        closer: Option<Closer>,
        monitor: &Arc<Monitor>,
        limits: &Limits,
    ) -> Result<Self, ServerError> {
        let create = || {
            let fds = executor.fds_per_command();
            let acceptor = Acceptor::new(listener, fds, closer, Arc::clone(monitor), limits)?;
            let timeouts = TimeoutScanner::new(limits.request_timeout())?;
            let heartbeat = Timer::new()?;
            Ok(Self {
                epoll: EpollSet::new(&acceptor, &timeouts, &heartbeat)?,
                acceptor,
                connections: Mutex::new(ConnectionTable::new()),
                dispatcher: Dispatcher::new(
                    executor,
                    Arc::clone(monitor),
                    limits.max_commands_per_device(),
                ),
                deferred: DeferredWork::new(),
                timeouts,
                threads: ThreadPool::new(),
                heartbeat,
                heartbeat_acked: AtomicBool::new(true),
                accepting: AtomicUsize::new(0),
                serving: AtomicUsize::new(0),
            })
        };
        create().map_err(ServerError::Epoll)
    }

    /// Starts the first worker thread.
    ///
    /// # Errors
    ///
    /// Returns [`ServerError::Thread`] if the thread cannot be started.
    pub fn start(self: &Arc<Self>) -> Result<(), ServerError> {
        let started = self.threads.ensure_idle(|| self.worker());
        started.map_err(ServerError::Thread)
    }

    /// Returns the executor of the commands.
    #[must_use]
    pub const fn executor(&self) -> &E {
        &self.dispatcher.executor
    }

    /// Sends the workers a heartbeat. Returns whether a worker has acknowledged the previous one;
    /// true if there was none.
    #[must_use]
    pub fn heartbeat(&self) -> bool {
        let was_acked = self.heartbeat_acked.swap(false, Ordering::SeqCst);
        if let Err(error) = self.heartbeat.set(Duration::ZERO) {
            log::error!(
                "cannot set the heartbeat timer: {error}; the watchdog may restart the service"
            );
        }
        was_acked
    }

    /// Returns the number of clients, and of commands that count against the limit of a device.
    #[must_use]
    pub fn load(&self) -> Load<usize> {
        Load {
            clients: lock(&self.connections).len(),
            commands: self.dispatcher.device_limits.total(),
        }
    }

    /// Stops accepting connections and stops clients from sending, each after the request that it
    /// is sending, then waits at most `timeout` until the requests have replies. No command starts
    /// after that. Returns the number of commands that are still in flight.
    pub fn shutdown(&self, timeout: Duration) -> usize {
        let start = Instant::now();
        let deadline = start + timeout;
        let request_deadline = start + timeout.min(PARTIAL_REQUEST_TIMEOUT);
        self.dispatcher.draining.store(true, Ordering::SeqCst);
        while !self.is_drained() && Instant::now() < request_deadline {
            self.shutdown_read(ConnectionEntry::is_between_requests);
            sleep(SHUTDOWN_POLL_INTERVAL);
        }
        self.shutdown_read(|_| true);
        while !self.is_drained() && Instant::now() < deadline {
            sleep(SHUTDOWN_POLL_INTERVAL);
        }
        // No command starts after this.
        self.dispatcher.stopped.store(true, Ordering::SeqCst);
        loop {
            let serving = self.serving.load(Ordering::SeqCst);
            if serving == 0 || Instant::now() >= deadline {
                return serving;
            }
            sleep(SHUTDOWN_POLL_INTERVAL);
        }
    }

    /// Shuts down the receiving side of the connections that `is_selected` returns true for.
    /// Received bytes stay readable, followed by the end of the stream, which disconnects the
    /// client.
    fn shutdown_read(&self, is_selected: impl Fn(&ConnectionEntry) -> bool) {
        for (_, connection) in lock(&self.connections).iter() {
            if is_selected(connection)
                && let Err(error) = self.epoll.shutdown_read(&connection.socket)
            {
                log::info!("client disconnected before drain: {error}");
            }
        }
    }

    /// Returns whether the only clients left are those that do not read their replies. A shutdown
    /// does not wait for these.
    fn is_drained(&self) -> bool {
        // Loaded first: a worker has added what it accepted before it decrements this.
        if self.accepting.load(Ordering::SeqCst) > 0 {
            return false;
        }
        let connections = lock(&self.connections);
        connections
            .iter()
            .all(|(_, connection)| connection.awaits_peer_read.load(Ordering::SeqCst))
    }

    /// Returns the function of a worker thread.
    fn worker(self: &Arc<Self>) -> impl FnOnce() + Send + 'static {
        let server = Arc::clone(self);
        move || server.worker_loop()
    }

    /// Waits for events and handles them, until the thread is surplus.
    fn worker_loop(self: &Arc<Self>) {
        let mut reply = ReplyBuffer::new();
        loop {
            let Some(event) = self.epoll.wait(self.idle_timeout()) else {
                self.drop_deferred_when_idle();
                if self.threads.retire_if_surplus() {
                    if self.threads.is_quiescent() {
                        // Many threads may have ended, and left memory behind.
                        memory::release_unused();
                    }
                    return;
                }
                continue;
            };
            self.threads.mark_busy();
            let may_block = self.has_idle_worker();
            match event {
                Event::Listener => self.accept_ready(may_block),
                Event::AcceptTimer => self.resume_accept(),
                Event::TimeoutTimer => self.expire_overdue(),
                Event::Heartbeat => self.heartbeat_acked.store(true, Ordering::SeqCst),
                Event::Connection(token) => self.handle_connection(token, &mut reply, may_block),
            }
            if may_block {
                // Last, because it can take long and concerns other clients.
                self.run_deferred();
            }
            self.threads.mark_idle();
        }
    }

    /// Returns how long the calling worker waits for an event.
    fn idle_timeout(&self) -> Option<Duration> {
        match self.has_deferred() {
            false => self.threads.idle_timeout(),
            true => Some(DEFERRED_RETRY_DELAY),
        }
    }

    /// Runs the deferred work if another worker is idle or can be started. Without this call, a
    /// guest's disk would stay open while no events arrive.
    fn drop_deferred_when_idle(self: &Arc<Self>) {
        if self.has_deferred() {
            self.threads.mark_busy();
            if self.has_idle_worker() {
                self.acceptor.rejections.close_kept();
                self.run_deferred();
            }
            self.threads.mark_idle();
        }
    }

    /// Returns whether closes are pending that no event triggers.
    fn has_deferred(&self) -> bool {
        !self.deferred.is_empty() || !self.acceptor.rejections.is_empty()
    }

    /// Returns whether another worker is idle, so that the calling one can block. Starts one if
    /// necessary.
    fn has_idle_worker(self: &Arc<Self>) -> bool {
        self.threads.has_idle(|| self.worker())
    }

    /// Accepts connections, if the calling worker can block.
    fn accept_ready(&self, may_block: bool) {
        if !may_block {
            return self
                .acceptor
                .pause(format_args!("no thread can be started"));
        }
        self.accepting.fetch_add(1, Ordering::SeqCst);
        let accepted = self.accept_batch();
        self.accepting.fetch_sub(1, Ordering::SeqCst);
        // The listener is rearmed by now, so other workers accept. Another worker may have removed
        // a connection, so this can be the last owner: closing it must not delay the others.
        for connection in accepted {
            self.release(connection, false);
        }
        self.acceptor.rejections.close_kept();
    }

    /// Accepts up to [`ACCEPT_BATCH`] connections; the next event is for the rest. Returns all that
    /// have a permit; the caller releases them.
    ///
    /// No other worker is woken for the listener until it is rearmed. By then all accepted
    /// connections have their permits, so the total is right.
    fn accept_batch(&self) -> Vec<Arc<ConnectionEntry>> {
        let mut accepted = Vec::new();
        for _ in 0..ACCEPT_BATCH {
            if self.dispatcher.is_draining() {
                return accepted;
            }
            match self.acceptor.accept_next() {
                Accepted::Connection(connection, readiness) => {
                    let executor = &self.dispatcher.executor;
                    executor.connected(lock(&connection.session).peer());
                    self.register_connection(&connection, readiness);
                    accepted.push(connection);
                }
                Accepted::Disconnected(connection) => accepted.push(connection),
                Accepted::Rejected => {}
                Accepted::WouldBlock => break,
                Accepted::Paused => return accepted,
            }
        }
        self.rearm_listener();
        accepted
    }

    /// Adds a connection to the table and the epoll set.
    fn register_connection(&self, connection: &Arc<ConnectionEntry>, readiness: Readiness) {
        let token = lock(&self.connections).insert(Arc::clone(connection));
        // The client owes its answer to the greeting. The timer starts when a scan can find it, and
        // before the answer can wake another worker.
        self.timeouts.start(&connection.request_timer);
        if let Err(error) = self.epoll.add(token, &connection.socket, readiness) {
            self.remove_unregistered(token, connection, &error);
        }
    }

    /// Accepts connections again, if accepting is paused.
    fn resume_accept(&self) {
        if self.acceptor.resume() {
            self.rearm_listener();
        }
    }

    /// Rearms the listener. If the kernel refuses that, the timer of the pause leads to a retry.
    fn rearm_listener(&self) {
        if let Err(error) = self.epoll.rearm_listener(&self.acceptor) {
            self.acceptor.pause(format_args!("{error}"));
        }
    }

    /// Serves the connection with this token until it has to wait.
    fn handle_connection(&self, token: usize, reply: &mut ReplyBuffer, may_block: bool) {
        let Some(connection) = lock(&self.connections).get(token).cloned() else {
            return;
        };
        if !may_block && self.is_stalled(&connection) {
            return self.deferred.stall(token, connection);
        }
        self.serving.fetch_add(1, Ordering::SeqCst);
        connection.is_idle.store(false, Ordering::SeqCst);
        connection.awaits_peer_read.store(false, Ordering::SeqCst);
        let turn = match may_block {
            true => Turn::MayBlock(self.threads.try_linger()),
            false => Turn::NonBlocking(&self.deferred),
        };
        let next = self.dispatcher.process_requests(&connection, reply, &turn);
        drop(turn);
        let ended = match next {
            Ok(readiness) => {
                self.await_readiness(token, &connection, readiness);
                None
            }
            Err(_) => {
                self.remove(token);
                Some(lock(&connection.session).peer().clone())
            }
        };
        // Another worker may have removed the connection, so this can be the last owner, which
        // closes it.
        self.release(connection, may_block);
        if let Some(peer) = ended {
            // A shutdown disconnects clients that are still running.
            let may_block = may_block && !self.dispatcher.is_draining();
            self.dispatcher.executor.disconnected(&peer, may_block);
        }
        self.serving.fetch_sub(1, Ordering::SeqCst);
    }

    /// Rearms a connection, and starts its timeout if one applies. The session must be unlocked,
    /// because the worker that is woken locks it.
    fn await_readiness(&self, token: usize, connection: &ConnectionEntry, readiness: Readiness) {
        match readiness {
            Readiness::Readable => connection.is_idle.store(true, Ordering::SeqCst),
            Readiness::PartialRequest => self.timeouts.start(&connection.request_timer),
            Readiness::Writable => {
                self.timeouts.start(&connection.request_timer);
                connection.awaits_peer_read.store(true, Ordering::SeqCst);
            }
            Readiness::SendBuffer => sleep(ENOBUFS_RETRY_DELAY),
        }
        self.rearm(token, connection, readiness);
    }

    /// Returns whether the connection is not read while no thread can be started, because its
    /// descriptors could not be closed.
    fn is_stalled(&self, connection: &ConnectionEntry) -> bool {
        connection.has_deferred_fd.load(Ordering::SeqCst) || self.deferred.is_full()
    }

    /// Closes the connections that have timed out.
    fn expire_overdue(&self) {
        let overdue = self.timeouts.expire_overdue(
            lock(&self.connections)
                .iter()
                .map(|(_, connection)| (&connection.request_timer, connection)),
        );
        for connection in overdue {
            // The worker that waits for the client is woken by this as by a disconnect.
            if let Err(error) = shutdown(&*connection.socket, Shutdown::Both) {
                log::info!("client disconnected before its timeout: {error}");
            }
            self.release(connection, false);
        }
    }

    /// Rearms stalled connections, and does the deferred closes. Another worker must be idle.
    fn run_deferred(self: &Arc<Self>) {
        for (token, connection) in self.deferred.take_stalled() {
            let readiness = lock(&connection.session).readiness();
            self.rearm(token, &connection, readiness);
            // Closing this one must not keep the others from being rearmed.
            self.release(connection, false);
        }
        // The idle worker may have been woken, and blocked, while this one closed something.
        while self.deferred.has_closes() && self.has_idle_worker() && self.deferred.close_one() {
            self.resume_accept();
        }
    }

    /// Waits for events of a connection again.
    fn rearm(&self, token: usize, connection: &ConnectionEntry, readiness: Readiness) {
        if let Err(error) = self.epoll.rearm(token, &connection.socket, readiness) {
            self.remove_unregistered(token, connection, &error);
        }
    }

    /// Removes a connection that epoll has refused.
    fn remove_unregistered(&self, token: usize, connection: &ConnectionEntry, error: &io::Error) {
        let peer = lock(&connection.session).peer().clone();
        log::error!("{peer}: connection closed: cannot wait for its events: {error}");
        self.remove(token);
        self.dispatcher.executor.disconnected(&peer, false);
    }

    /// Removes a connection from the table. The caller owns the entry too, so this closes nothing.
    fn remove(&self, token: usize) {
        let _ = lock(&self.connections).try_remove(token);
    }

    /// Drops a connection. The last owner closes it, which can block, or defers the close unless
    /// `may_block`.
    fn release(&self, connection: Arc<ConnectionEntry>, may_block: bool) {
        match Arc::into_inner(connection) {
            None => {}
            Some(connection) if may_block => {
                drop(connection);
                // Its permit is free now, and a connection may be waiting for it.
                self.resume_accept();
            }
            Some(connection) => self
                .deferred
                .push(DeferredClose::Connection(Box::new(connection))),
        }
    }
}
