// SPDX-License-Identifier: MIT OR Apache-2.0

//! Broker: the privileged process that starts workers, which execute commands on multipath maps.
//!
//! Access to the paths of a map requires root's rights: their nodes belong to root, and multipathd
//! accepts commands only from root. The helper reads what clients send, so it gives these rights
//! up. Before that, it forks the broker. If no worker is idle, the helper creates a socket pair,
//! sends the request to one end, and passes the other end to the broker. The broker forks a worker
//! on it, which executes the command and waits for the next one.
//!
//! ```text
//! helper ── control messages, a socket for each worker ──> broker ── fork ──> worker
//!    └──────────── requests, maps ── replies ── that socket pair ──────────────┘
//! ```
//!
//! The broker also starts resolvers of names, closes connections that the helper has rejected,
//! removes the socket and the PID file when the helper exits, and sends messages to the service
//! manager. It reads nothing but control messages of a fixed form. When the helper exits, even by
//! SIGKILL, the broker reads end of file from the control socket and exits; the kernel then kills
//! the workers.

use std::error::Error;
use std::ffi::CStr;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cli_messages::error::system_error;
use linux_util::fork;
use pr_helper_protocol::Direction;
use pr_helper_protocol::fd_passing::{self, ReceiveMode, ReceivedFds};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustix::process::getpid;
use rustix::thread::{CapabilitySet, set_name};
use thiserror::Error;

use super::channel::{self, REPLY_GRACE, WorkerError};
use super::control::{self, ControlMessage};
use super::idle_workers::{IdleWorker, IdleWorkers};
use super::message::{MapRequest, WorkerReply, WorkerRequest};
use super::worker::{REMOVAL_CAPABILITY, WorkerContext};
use super::workers::Workers;
use crate::command::device::DeviceId;
use crate::names::StartResolver;
use crate::process::closer::{self, Closer, CloserQueue};
use crate::process::created_file::{CreatedFile, FileKind, OpenedFile, Removal};
use crate::process::seqpacket;
use crate::process::systemd::ServiceManager;
use crate::sandbox::{self, Mode};
use crate::server::Load;
use crate::{process::daemonize, process::privileges, trace};

/// Capabilities that the broker and its workers use: `CAP_SYS_RAWIO` for SCSI commands, and
/// `CAP_DAC_READ_SEARCH` for the nodes of disks that belong to users other than root.
const CAPABILITIES: CapabilitySet = CapabilitySet::SYS_RAWIO.union(CapabilitySet::DAC_READ_SEARCH);

/// Delay between attempts to send to a broker with a full queue.
const SEND_RETRY_DELAY: Duration = Duration::from_millis(10);

/// Delay after a failed attempt to read from the control socket.
const RECEIVE_RETRY_DELAY: Duration = Duration::from_millis(100);

const REMOVAL_TIMEOUT: Duration = Duration::from_secs(3);
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Name in `ps -e` and `/proc/PID/comm`.
const PROCESS_NAME: &CStr = c"pr-broker";

/// Message from the broker to the helper once it has started.
const READY: [u8; 1] = *b"r";

/// Configuration of the broker and its workers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BrokerConfig {
    /// Time limit for a command.
    pub(crate) command_timeout: Duration,
    /// True if the helper is a daemon; the broker then closes its standard streams.
    pub(crate) is_daemon: bool,
    /// Use of the sandbox.
    pub(crate) sandbox: Mode,
    /// True if a service manager expects messages.
    pub(crate) has_manager: bool,
    /// Files that the helper has created, and that the broker removes on request.
    pub(crate) files: &'static [CreatedFile],
}

/// Failure to start the broker.
#[derive(Debug, Error)]
pub(crate) enum BrokerError {
    #[error(
        "cannot start the broker for multipath maps: {}; check the limits of processes, open files \
         and memory",
        system_error(.0)
    )]
    System(io::Error),
    #[error(
        "cannot start the broker for multipath maps: not ready within {} s; retry when the host \
         is less busy",
        START_TIMEOUT.as_secs()
    )]
    Timeout,
    #[error(
        "cannot start the broker for multipath maps: it exited; see the message before this one, \
         or the kernel's log if there is none"
    )]
    Exited,
}

impl From<io::Error> for BrokerError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// Client of the broker process, in the helper.
#[derive(Debug)]
pub(crate) struct Broker {
    control: OwnedFd,
    idle: IdleWorkers,
    /// Commands that workers execute.
    busy: AtomicU64,
    /// Commands without a reply.
    failed: AtomicU64,
}

impl Broker {
    /// Starts the broker. This process must have one thread, and the privileges of the broker.
    pub(crate) fn start(config: BrokerConfig) -> Result<Self, BrokerError> {
        let (control, broker_end) = seqpacket::pair()?;
        fork::spawn_isolated(&broker_end, config, run)?;
        // With both ends open, the helper would not see the broker close its end.
        drop(broker_end);
        if !seqpacket::wait_readable(&control, START_TIMEOUT)? {
            return Err(BrokerError::Timeout);
        }
        // A broker that is stopped must not block the helper.
        fcntl_setfl(&control, OFlags::NONBLOCK).map_err(io::Error::from)?;
        match fd_passing::receive(control.as_fd(), &mut [0], ReceiveMode::NoWait)? {
            (0, _) => Err(BrokerError::Exited),
            _ => Ok(Self {
                control,
                idle: IdleWorkers::default(),
                busy: AtomicU64::new(0),
                failed: AtomicU64::new(0),
            }),
        }
    }

    /// Executes a command on a map in a worker, and waits for the reply. After an error, it is
    /// unknown whether the command was executed.
    pub(super) fn execute(
        &self,
        map: DeviceId,
        descriptor: BorrowedFd<'_>,
        request: &WorkerRequest,
    ) -> Result<WorkerReply, WorkerError> {
        // The worker observes the deadline too, and then needs time to report that.
        let timeout = request.deadline.time_left().saturating_add(REPLY_GRACE);
        let changed = (request.command.direction() == Direction::Out).then_some(map);
        self.exchange(&request.encode(), Some(descriptor), changed, timeout)
    }

    /// Forgets the key or checks the paths of a map in a worker. After an error, it is unknown
    /// whether the key was removed; the worker changes nothing after that.
    pub(super) fn execute_on_map(&self, request: &MapRequest) -> Result<WorkerReply, WorkerError> {
        let (major, minor) = request.map;
        let changed = Some(DeviceId::Block(major, minor));
        let timeout = request.deadline.time_left();
        self.exchange(&request.encode(), None, changed, timeout)
    }

    /// Returns the number of workers.
    pub(super) fn workers(&self) -> helper_state::Workers {
        helper_state::Workers {
            idle: self.idle.count(),
            busy: self.busy.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }

    fn exchange(
        &self,
        request: &[u8],
        map: Option<BorrowedFd<'_>>,
        changed: Option<DeviceId>,
        timeout: Duration,
    ) -> Result<WorkerReply, WorkerError> {
        self.busy.fetch_add(1, Ordering::Relaxed);
        let reply = self.try_exchange(request, map, changed, timeout);
        self.busy.fetch_sub(1, Ordering::Relaxed);
        if reply.is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        reply
    }

    fn try_exchange(
        &self,
        request: &[u8],
        map: Option<BorrowedFd<'_>>,
        changed: Option<DeviceId>,
        timeout: Duration,
    ) -> Result<WorkerReply, WorkerError> {
        let socket = match self.send_to_idle(request, map, changed) {
            Some(socket) => socket,
            None => self.start_worker(request, map)?,
        };
        let reply = channel::receive_reply(&socket, timeout)?;
        self.idle.add(IdleWorker { socket, changed });
        Ok(reply)
    }

    /// Sends a request to an idle worker. Returns its socket, or `None` if there is none.
    fn send_to_idle(
        &self,
        request: &[u8],
        map: Option<BorrowedFd<'_>>,
        changed: Option<DeviceId>,
    ) -> Option<OwnedFd> {
        loop {
            let socket = self.idle.take(changed)?;
            // A worker that exits cannot receive anything, and the request is sent to another one.
            if channel::send_request(&socket, request, map).is_ok() {
                return Some(socket);
            }
        }
    }

    /// Starts a worker with a first request. Returns the worker's socket.
    fn start_worker(
        &self,
        request: &[u8],
        map: Option<BorrowedFd<'_>>,
    ) -> Result<OwnedFd, WorkerError> {
        let (socket, worker_end) = seqpacket::pair().map_err(WorkerError::Io)?;
        channel::send_request(&socket, request, map).map_err(WorkerError::Io)?;
        let control = ControlMessage::StartWorker.encode();
        fd_passing::send(self.control.as_fd(), &control, worker_end.as_fd()).map_err(|error| {
            match Errno::from_io_error(&error) {
                Some(Errno::PIPE | Errno::CONNRESET) => WorkerError::BrokerGone,
                _ => WorkerError::Io(error),
            }
        })?;
        // Returning closes the worker's end here. With both ends open, the helper would not see the
        // worker close its own.
        Ok(socket)
    }

    /// Creates a [`Closer`] that hands connections over to the broker.
    pub(crate) fn closer(&self) -> Result<Closer, BrokerError> {
        let (closer, queue) = closer::pair()?;
        let message = ControlMessage::CloseConnections.encode();
        fd_passing::send(self.control.as_fd(), &message, queue.as_fd())?;
        Ok(closer)
    }

    /// Has the broker send a watchdog message to the service manager. This does not wait for a
    /// broker that is stopped, so that the service manager restarts both processes.
    pub(crate) fn send_alive(&self, clients: usize, commands: usize) {
        let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let message = ControlMessage::Alive {
            clients: number(clients),
            commands: number(commands),
        };
        if let Err(error) = self.send(message) {
            log::warn!("watchdog message not sent: broker: {error}");
        }
    }

    /// Has the broker notify the service manager that the helper is stopping.
    pub(crate) fn send_stopping(&self) {
        if let Err(error) = self.send(ControlMessage::Stopping) {
            log::info!("service manager not notified of the stop: broker: {error}");
        }
    }

    /// Has the broker remove a file of its configuration, and waits for the result.
    pub(crate) fn remove(&self, kind: FileKind) -> Removal {
        self.try_remove(kind).unwrap_or_else(|error| {
            log::warn!("{kind} not removed: broker: {error}; the next start replaces it");
            Removal::Failed
        })
    }

    fn try_remove(&self, kind: FileKind) -> io::Result<Removal> {
        let end = Instant::now() + REMOVAL_TIMEOUT;
        while let Err(error) = self.send(ControlMessage::Remove(kind)) {
            // The queue is short, and can be full of requests to start workers.
            if error.kind() != io::ErrorKind::WouldBlock || Instant::now() >= end {
                return Err(error);
            }
            sleep(SEND_RETRY_DELAY);
        }
        loop {
            let time_left = end.saturating_duration_since(Instant::now());
            if !seqpacket::wait_readable(&self.control, time_left)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let mut reply = [0; control::REMOVAL_LEN];
            let (length, _) =
                fd_passing::receive(self.control.as_fd(), &mut reply, ReceiveMode::NoWait)?;
            match reply.get(..length).and_then(control::decode_removal) {
                Some((other, removal)) if other == kind => return Ok(removal),
                // The reply to an earlier request that timed out.
                Some(_) => {}
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    fn send(&self, message: ControlMessage) -> io::Result<()> {
        seqpacket::try_send(&self.control, &message.encode())
    }
}

impl StartResolver for Broker {
    fn start_resolver(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let message = ControlMessage::StartResolver.encode();
        fd_passing::send(self.control.as_fd(), &message, socket)
    }
}

/// The kernel reports a hang-up of this descriptor when the broker has exited.
impl AsFd for Broker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }
}

/// Runs the broker process. Signals such as SIGTERM are blocked since before the fork: a service
/// manager sends them to all processes, and the helper can still have commands in progress.
fn run(control: &OwnedFd, config: BrokerConfig) -> u8 {
    match try_run(control, config) {
        Ok(()) => 0,
        Err(error) => {
            log::error!("broker exits: {}", crate::error_chain(&*error));
            1
        }
    }
}

fn try_run(control: &OwnedFd, config: BrokerConfig) -> Result<(), Box<dyn Error>> {
    // The helper itself traces the results of commands on maps.
    trace::disable_in_child();
    set_name(PROCESS_NAME)?;
    let manager = match config.has_manager {
        true => ServiceManager::from_env(),
        false => ServiceManager::default(),
    };
    let files: Vec<_> = config.files.iter().filter_map(open_dir).collect();
    let workers = Workers::new()?;
    privileges::limit_to(CAPABILITIES, REMOVAL_CAPABILITY)?;
    sandbox::enter_as_broker(config.sandbox, &files)?;
    send(control, &READY, SendFlags::NOSIGNAL)?;
    if config.is_daemon {
        daemonize::detach_stdio()?;
    }
    let mut process = BrokerProcess {
        control,
        manager,
        files,
        workers,
        rejected: None,
        context: WorkerContext {
            broker: getpid(),
            timeout: config.command_timeout,
        },
    };
    let result = loop {
        match process.handle_events() {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(error) => break Err(error.into()),
        }
    };
    // The process exits now. Dropping this value would close rejected connections, which can block.
    mem::forget(process);
    result
}

fn open_dir(file: &CreatedFile) -> Option<OpenedFile> {
    let opened = file.open_dir();
    opened
        .inspect_err(|error| {
            let path = file.path.display();
            log::warn!("{} '{path}' will not be removed: {error}", file.kind);
        })
        .ok()
}

struct BrokerProcess<'a> {
    control: &'a OwnedFd,
    manager: ServiceManager,
    files: Vec<OpenedFile>,
    workers: Workers,
    /// Connections that the helper has rejected.
    rejected: Option<CloserQueue>,
    context: WorkerContext,
}

impl BrokerProcess<'_> {
    /// Waits for events, and handles them. Returns false when the helper has exited.
    fn handle_events(&mut self) -> io::Result<bool> {
        let rejected = self.rejected.as_ref();
        // One process closes the connections that arrive within a short time, because starting a
        // process for each takes long.
        let timeout = rejected.and_then(CloserQueue::time_left);
        let has_room = rejected.filter(|queue| !queue.is_full());
        let closing = has_room.map_or_else(|| self.control.as_fd(), AsFd::as_fd);
        let mut ready = [
            PollFd::new(&self.workers.sigchld, PollFlags::IN),
            PollFd::new(self.control, PollFlags::IN),
            PollFd::from_borrowed_fd(closing, PollFlags::IN),
        ];
        match poll(&mut ready, timeout.as_ref()) {
            Err(Errno::INTR) => return Ok(true),
            result => result?,
        };
        let [has_exited, has_message, has_rejected] =
            ready.map(|ready| !ready.revents().is_empty());
        if has_exited {
            self.workers.reap();
        }
        if let Some(queue) = &mut self.rejected {
            if has_rejected {
                queue.receive();
            }
            if queue.is_due() {
                self.workers.close(queue);
            }
        }
        if !has_message {
            return Ok(true);
        }
        let mut buffer = [0; control::LEN + 1];
        match fd_passing::receive(self.control.as_fd(), &mut buffer, ReceiveMode::NoWait) {
            Ok((0, _)) => return Ok(false),
            Ok((length, descriptors)) => {
                if let Some(message) = buffer.get(..length).and_then(ControlMessage::decode) {
                    self.execute(message, descriptors);
                }
            }
            // Lack of memory or a spurious wake-up, which are temporary.
            Err(_) => sleep(RECEIVE_RETRY_DELAY),
        }
        Ok(true)
    }

    fn execute(&mut self, message: ControlMessage, descriptors: ReceivedFds) {
        match (message, descriptors) {
            (ControlMessage::StartWorker, ReceivedFds::One(socket)) => {
                self.workers.start(&socket, self.context);
            }
            (ControlMessage::StartResolver, ReceivedFds::One(socket)) => {
                self.workers.start_resolver(&socket, self.context.broker);
            }
            (ControlMessage::CloseConnections, ReceivedFds::One(socket)) => {
                // Only the first one counts: dropping a queue closes its connections.
                self.rejected
                    .get_or_insert_with(|| CloserQueue::new(socket));
            }
            // The kernel could not pass the descriptor: the helper sees the other end closed.
            (
                ControlMessage::StartWorker
                | ControlMessage::StartResolver
                | ControlMessage::CloseConnections,
                _,
            ) => {}
            (ControlMessage::Alive { clients, commands }, _) => {
                let load = Load { clients, commands };
                self.manager.watchdog_ping(load);
            }
            (ControlMessage::Stopping, _) => {
                self.manager.stopping("waiting for commands in progress");
            }
            (ControlMessage::Remove(kind), _) => {
                let mut files = self.files.iter();
                let file = files.find(|opened| opened.file.kind == kind);
                let removal = file.map_or(Removal::Failed, |file| {
                    privileges::with_raised(REMOVAL_CAPABILITY, || file.remove())
                });
                // The helper waits only for a limited time, so a reply can be lost.
                let _ = seqpacket::try_send(self.control, &control::encode_removal(kind, removal));
            }
        }
    }
}
