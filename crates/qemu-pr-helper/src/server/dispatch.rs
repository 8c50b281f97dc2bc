// SPDX-License-Identifier: MIT OR Apache-2.0

//! The dispatcher: reads the requests of a connection, executes them, and sends the replies.

use std::sync::Arc;

use pr_helper_protocol::fd_passing::ReceiveMode;
use pr_helper_protocol::server::{PollResult, Readiness};
use pr_helper_protocol::{ReplyBuffer, Request, RequestFd};
use rustix::net::{Shutdown, shutdown};
use scsi_pr::Status;

use super::connections::ConnectionEntry;
use super::deferred::{DeferredClose, DeferredWork};
use super::limiter::Limiter;
use super::session::Closed;
use super::sync::atomic::{AtomicBool, Ordering};
use super::sync::lock;
use super::thread_pool::LingerPermit;
use crate::command::command_log;
use crate::command::executor::{CommandExecutor, CommandResult};
use crate::command::peer::{Peer, ProcessKey};
use crate::command::request_device::LimitKey;
use crate::logging::KeyedRateLimit;
use crate::monitor::{self, Monitor};

/// Maximum number of requests, after the first one, that a worker without a linger permit serves in
/// one turn. A client that never pauses would keep the worker from other clients.
const MAX_REQUESTS_PER_TURN: u32 = 16;

/// Number of shards of the limit of commands at a device.
const DEVICE_SHARDS: usize = 16;

/// Mode of a worker's turn on a connection.
#[derive(Debug)]
pub(super) enum Turn<'a> {
    /// Another worker is idle, so this one can block, and with a permit linger.
    MayBlock(Option<LingerPermit<'a>>),
    /// No other worker is idle: closes are deferred, and no command is executed.
    NonBlocking(&'a DeferredWork),
}

/// The executor of commands, with the limits on them.
#[derive(Debug)]
pub(super) struct Dispatcher<E> {
    pub(super) executor: E,
    monitor: Arc<Monitor>,
    pub(super) device_limits: Limiter<LimitKey, DEVICE_SHARDS>,
    device_limit_warning: KeyedRateLimit<ProcessKey>,
    pub(super) max_requests_per_turn: u32,
    /// Set by a shutdown: a client cannot send after the reply to its last request.
    pub(super) draining: AtomicBool,
    /// Set by a shutdown: no command starts after that.
    pub(super) stopped: AtomicBool,
}

impl<E: CommandExecutor> Dispatcher<E> {
    pub(super) fn new(executor: E, monitor: Arc<Monitor>, max_commands_per_device: usize) -> Self {
        Self {
            executor,
            monitor,
            device_limits: Limiter::new(max_commands_per_device),
            device_limit_warning: KeyedRateLimit::new(),
            max_requests_per_turn: MAX_REQUESTS_PER_TURN,
            draining: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Serves the requests of a connection until it has to wait, or its turn is over. Returns the
    /// readiness to wait for.
    pub(super) fn process_requests(
        &self,
        connection: &Arc<ConnectionEntry>,
        reply: &mut ReplyBuffer,
        turn: &Turn<'_>,
    ) -> Result<Readiness, Closed> {
        let mut session = lock(&connection.session);
        if connection.request_timer.is_expired() {
            self.monitor.counters.request_timeouts.increment();
            return Err(session.time_out());
        }
        let (mut mode, mut requests_left) = match turn {
            Turn::MayBlock(_) => (ReceiveMode::NoWait, self.max_requests_per_turn),
            Turn::NonBlocking(_) => (ReceiveMode::NeverBlock, 0),
        };
        loop {
            // During a shutdown, the connection is closed instead of starting a request.
            if self.is_stopped() {
                return Err(Closed);
            }
            let owed_reply = session.readiness() == Readiness::Writable;
            // Loaded before the socket is read: a request sent before the shutdown is received.
            let is_draining = self.is_draining();
            let next = session.next_request(mode)?;
            let is_complete = match next {
                PollResult::Request(_) | PollResult::Negotiated(_) => true,
                // The client has read its last reply. What it has started to send since then has a
                // timeout of its own.
                PollResult::Pending(Readiness::Readable | Readiness::PartialRequest) => owed_reply,
                PollResult::Pending(Readiness::Writable | Readiness::SendBuffer) => false,
            };
            if is_complete && !connection.request_timer.complete() {
                if let PollResult::Request(request) = next {
                    turn.close(connection, request.fd);
                }
                self.monitor.counters.request_timeouts.increment();
                return Err(session.time_out());
            }
            let request = match next {
                PollResult::Request(request) => request,
                PollResult::Negotiated(_) => continue,
                PollResult::Pending(Readiness::Readable) if is_draining => {
                    // What the client sends before this takes effect is received next.
                    shutdown(&*connection.socket, Shutdown::Read).map_err(|_| Closed)?;
                    continue;
                }
                PollResult::Pending(readiness) => return Ok(readiness),
            };
            let command = request.command;
            let data = reply.data_area(&command);
            let result = self.execute(connection, session.peer(), request, data, turn)?;
            session.reply(&command, &result, reply)?;
            match turn {
                // A client that has sent a request usually sends another one soon.
                Turn::MayBlock(Some(_)) if !self.is_draining() => mode = ReceiveMode::Wait,
                // The worker yields to other connections. One that must not block yields after each
                // request, so that an idle worker can take the next one.
                _ if requests_left == 0 => return Ok(session.readiness()),
                _ => requests_left = requests_left.saturating_sub(1),
            }
        }
    }

    /// Executes a request, or replies BUSY if the command could leave no worker for other clients.
    fn execute(
        &self,
        connection: &Arc<ConnectionEntry>,
        peer: &Peer,
        request: Request,
        data: &mut [u8],
        turn: &Turn<'_>,
    ) -> Result<CommandResult, Closed> {
        if self.is_stopped() {
            turn.close(connection, request.fd);
            return Err(Closed);
        }
        if matches!(turn, Turn::NonBlocking(_)) {
            // The device is not examined, because that can block as well.
            self.monitor.counters.busy_threads.increment();
            command_log::rejected_unopened(peer, "no thread can be started");
            turn.close(connection, request.fd);
            return Ok(CommandResult::from_status(Status::BUSY));
        }
        let device = self.executor.inspect(&request);
        let _permit = match device.limit_key {
            None => None,
            Some(key) => match Limiter::try_acquire(&self.device_limits, key) {
                None => return Ok(self.reject_device_busy(peer, &request, key)),
                permit => permit,
            },
        };
        let span = command_log::start(peer, &request, device.id);
        let observed = self.monitor.begin(&connection.client, &request, &device);
        let result = match self
            .monitor
            .may_register(&connection.client, &request, &device)
        {
            true => self.executor.execute(peer, &request, &device, data),
            false => monitor::refused_registration(),
        };
        self.monitor
            .end(&connection.client, observed, &request, &device, &result);
        span.end(peer, &request, &result);
        // Closing the device can take as long as a command, so the permit is held until then.
        drop(request);
        Ok(result)
    }

    /// Replies BUSY, because the device has too many commands in flight.
    fn reject_device_busy(&self, peer: &Peer, request: &Request, key: LimitKey) -> CommandResult {
        if let Some(suppressed) = self.device_limit_warning.should_log(peer.process_key()) {
            log::warn!(
                "{peer}: command answered with BUSY: {key} reached the limit of commands in \
                 flight (--max-commands-per-device){suppressed}"
            );
        }
        self.monitor.counters.busy_devices.increment();
        let reason = "the device has too many commands in progress";
        command_log::rejected(peer, request, reason);
        CommandResult::from_status(Status::BUSY)
    }
}

impl Turn<'_> {
    /// Closes the descriptor of a request, or defers that.
    fn close(&self, connection: &Arc<ConnectionEntry>, fd: RequestFd) {
        match (self, fd) {
            (Turn::NonBlocking(deferred), RequestFd::Open(fd)) => {
                connection.has_deferred_fd.store(true, Ordering::SeqCst);
                deferred.push(DeferredClose::Fd(fd, Arc::clone(connection)));
            }
            (_, fd) => drop(fd),
        }
    }
}
