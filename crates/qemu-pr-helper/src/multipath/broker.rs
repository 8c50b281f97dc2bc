//! Privileged broker: starts a worker for each command on a multipath map, and does for the helper
//! what the helper has given up the rights for.
//!
//! To reach the paths of a map takes the rights of root: their nodes, and multipathd, which obeys
//! root alone. The process that reads what clients send does not keep them. So before it gives them
//! up it starts another one, the broker, and for each command sends it one end of a new pair of
//! sockets. The broker forks a worker on it, which executes the command and ends.
//!
//! ```text
//! helper ── control messages, a socket for each command ──> broker ── fork ──> worker
//!    └────────────── order, map ── report ── that pair of sockets ──────────────┘
//! ```
//!
//! The broker also removes socket and PID file at the end, and tells the service manager that the
//! helper is alive. It reads nothing but control messages of a fixed form. When the helper ends, by
//! SIGKILL too, the broker reads the end of the control socket and ends; the kernel then kills its
//! workers.

use std::error::Error;
use std::ffi::CStr;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use linux_util::fork;
use pr_helper_protocol::fd_passing::{self, ReceiveMode, ReceivedFds};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use rustix::process::{Pid, getpid};
use rustix::thread::{CapabilitySet, set_name};
use thiserror::Error;

use super::control::{self, Control};
use super::message::{LONGEST_REPORT, Order, REFUSED, Reply};
use super::worker;
use super::workers::Workers;
use crate::process::closer::{self, Closer, CloserQueue};
use crate::process::created_file::{CreatedFile, FileKind, OpenedFile, Removal};
use crate::process::systemd::ServiceManager;
use crate::sandbox::{self, Mode};
use crate::server::Load;
use crate::{process::daemonize, process::privileges, trace};

/// Capabilities that the broker and its workers use: `CAP_SYS_RAWIO` for SCSI commands, and
/// `CAP_DAC_READ_SEARCH` for the nodes of disks that belong to other users than root.
const KEPT: CapabilitySet = CapabilitySet::SYS_RAWIO.union(CapabilitySet::DAC_READ_SEARCH);

/// Capability that the broker holds, but uses only to remove socket and PID file: their directory
/// can belong to another user. Workers give it up.
pub(super) const FOR_REMOVAL: CapabilitySet = CapabilitySet::DAC_OVERRIDE;

/// Delay between attempts to send to a broker whose queue is full.
const RETRY_DELAY: Duration = Duration::from_millis(10);

/// Time limit for the removal of a file.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(3);

/// How long it may take to start.
const START: Duration = Duration::from_secs(10);

/// How the broker's processes are named (`ps -e`, `/proc/PID/comm`).
const NAME: &CStr = c"pr-broker";

/// Between two looks at a control socket that cannot be read for a moment.
const PAUSE: Duration = Duration::from_millis(100);

/// What the broker says once it has started.
const READY: [u8; 1] = *b"r";

/// What the broker and its workers have to know.
#[derive(Clone, Copy, Debug)]
pub struct BrokerConfig {
    /// How long a command may take.
    pub patience: Duration,
    /// Whether the helper goes into the background, where nobody reads what it says.
    pub is_daemon: bool,
    /// How the sandbox is used.
    pub sandbox: Mode,
    /// Whether there is a service manager to be told that the helper is alive.
    pub has_manager: bool,
    /// Files that the helper has created, and that the broker removes when it is asked to.
    pub files: &'static [CreatedFile],
}

/// What the worker begins with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    /// The broker, without which the worker is not to be.
    pub(super) broker: Pid,
    /// How long the command may take.
    pub(super) patience: Duration,
}

/// The broker could not be started.
#[derive(Debug, Error)]
#[error("cannot start the broker for multipath maps")]
pub struct BrokerError(#[source] io::Error);

/// Why there is no report of a worker.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// This process lacks something: descriptors, memory.
    #[error("cannot ask for a worker")]
    Ask(#[source] io::Error),
    /// The broker has ended.
    #[error("the broker has ended; the helper ends too")]
    NoBroker,
    /// The broker starts no worker at the moment.
    #[error("the broker has started no worker")]
    Refused,
    /// The worker has ended before it could report.
    #[error("the worker ended without a report: it crashed or was killed")]
    Ended,
    /// The worker does not report.
    #[error("the worker gave no report within {} s", .0.as_secs())]
    Silent(Duration),
    /// What it sent is no report.
    #[error("the worker's report cannot be read")]
    Nonsense,
}

/// The way to the broker.
#[derive(Debug)]
pub struct Broker {
    control: OwnedFd,
}

impl Broker {
    /// Starts the broker. There must be one thread, with the privileges that the broker is to have.
    ///
    /// # Errors
    ///
    /// [`BrokerError`].
    pub fn start(settings: BrokerConfig) -> Result<Self, BrokerError> {
        let start = || -> io::Result<OwnedFd> {
            let (here, there) = pair()?;
            fork::spawn_isolated(&there, settings, serve)?;
            // With both ends open this process would not see the broker's end closed.
            drop(there);
            if !wait(&here, START)? {
                return Err(io::Error::other("it does not get ready"));
            }
            // A broker that is stopped must not stop the helper.
            fcntl_setfl(&here, OFlags::NONBLOCK)?;
            match fd_passing::receive(here.as_fd(), &mut [0], ReceiveMode::NoWait)? {
                (0, _) => Err(io::Error::other("it ended at its start")),
                _ => Ok(here),
            }
        };
        let control = start().map_err(BrokerError)?;
        Ok(Self { control })
    }

    /// Has a worker execute a command on a map, and waits for its report.
    ///
    /// # Errors
    ///
    /// [`WorkerError`]. What has become of the command is not known then.
    pub fn execute(&self, map: impl AsFd, order: &Order) -> Result<Reply, WorkerError> {
        let (here, there) = pair().map_err(WorkerError::Ask)?;
        let message = order.encode();
        fd_passing::send(here.as_fd(), &message, map.as_fd()).map_err(WorkerError::Ask)?;
        let control = Control::StartWorker.encode();
        fd_passing::send(self.control.as_fd(), &control, there.as_fd()).map_err(|error| {
            match Errno::from_io_error(&error) {
                Some(Errno::PIPE | Errno::CONNRESET) => WorkerError::NoBroker,
                _ => WorkerError::Ask(error),
            }
        })?;
        // With both ends open this process would not see the worker's end closed.
        drop(there);
        // The worker has the deadline too, and needs time to report that it got no answer.
        report(
            &here,
            order.deadline.time_left().saturating_add(worker::GRACE),
        )
    }

    /// Has the broker close the connections that are handed to the returned value.
    ///
    /// # Errors
    ///
    /// Returns [`BrokerError`] if no pair of sockets can be created, or the broker has ended.
    pub fn closer(&self) -> Result<Closer, BrokerError> {
        let start = || -> io::Result<Closer> {
            let (closer, queue) = closer::pair()?;
            let message = Control::CloseConnections.encode();
            fd_passing::send(self.control.as_fd(), &message, queue.as_fd())?;
            Ok(closer)
        };
        start().map_err(BrokerError)
    }

    /// Has the broker tell the service manager that the helper is alive. A broker that is stopped
    /// is not waited for: the service manager then restarts both.
    pub fn send_alive(&self, clients: usize, commands: usize) {
        let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let message = Control::Alive {
            clients: number(clients),
            commands: number(commands),
        };
        if let Err(error) = self.send(message) {
            log::warn!("service manager not told that the helper is alive: broker: {error}");
        }
    }

    /// Has the broker tell the service manager that the helper ends.
    pub fn send_stopping(&self) {
        if let Err(error) = self.send(Control::Stopping) {
            log::info!("service manager not told that the helper ends: broker: {error}");
        }
    }

    /// Has the broker remove a file that was named at its start, and waits for that.
    pub fn remove(&self, kind: FileKind) -> Removal {
        self.try_remove(kind).unwrap_or_else(|error| {
            log::warn!("{kind} not removed: broker: {error}; the next start replaces it");
            Removal::Failed
        })
    }

    fn try_remove(&self, kind: FileKind) -> io::Result<Removal> {
        let end = Instant::now() + REMOVAL_TIMEOUT;
        while let Err(error) = self.send(Control::Remove(kind)) {
            // The queue is short, and its messages may be those of commands.
            if error.kind() != io::ErrorKind::WouldBlock || Instant::now() >= end {
                return Err(error);
            }
            sleep(RETRY_DELAY);
        }
        loop {
            if !wait(&self.control, end.saturating_duration_since(Instant::now()))? {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let mut reply = [0; control::REMOVAL_LEN];
            let (length, _) =
                fd_passing::receive(self.control.as_fd(), &mut reply, ReceiveMode::NoWait)?;
            match reply.get(..length).and_then(control::decode_removal) {
                Some((other, removal)) if other == kind => return Ok(removal),
                // The answer to an earlier request, which was not waited for any longer.
                Some(_) => {}
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    fn send(&self, message: Control) -> io::Result<()> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        send(&self.control, &message.encode(), flags)?;
        Ok(())
    }
}

/// The kernel reports a hang-up of this descriptor when the broker has ended.
impl AsFd for Broker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }
}

/// Waits for a worker's report.
fn report(socket: &OwnedFd, patience: Duration) -> Result<Reply, WorkerError> {
    if !wait(socket, patience).map_err(WorkerError::Ask)? {
        return Err(WorkerError::Silent(patience));
    }
    let mut buffer = vec![0; LONGEST_REPORT];
    let mut received = fd_passing::receive(socket.as_fd(), &mut buffer, ReceiveMode::NoWait);
    if is_reset(&received) {
        // The other end was closed with the order unread. What it has sent before comes after that.
        received = fd_passing::receive(socket.as_fd(), &mut buffer, ReceiveMode::NoWait);
    }
    match received {
        Ok((0, _)) => Err(WorkerError::Ended),
        Ok((length, _)) => match buffer.get(..length) {
            Some(bytes) if bytes == REFUSED => Err(WorkerError::Refused),
            Some(bytes) => Reply::decode(bytes).ok_or(WorkerError::Nonsense),
            None => Err(WorkerError::Nonsense),
        },
        Err(error) => Err(WorkerError::Ask(error)),
    }
}

fn is_reset<T>(result: &io::Result<T>) -> bool {
    let error = result.as_ref().err();
    error.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

/// Two ends of a connection that keeps messages apart.
fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Waits until there is something to read, or the other end is closed. False after `patience`.
pub(super) fn wait(socket: &OwnedFd, patience: Duration) -> io::Result<bool> {
    let end = Instant::now().checked_add(patience);
    loop {
        let left = end.map_or(Duration::MAX, |end| {
            end.saturating_duration_since(Instant::now())
        });
        let left = Timespec::try_from(left).ok();
        match poll(&mut [PollFd::new(socket, PollFlags::IN)], left.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The broker's whole life. SIGTERM and its like are blocked since before: a service manager sends them to
/// all processes, and the helper may still have commands in progress.
fn serve(control: &OwnedFd, settings: BrokerConfig) -> u8 {
    match try_serve(control, settings) {
        Ok(()) => 0,
        Err(error) => {
            log::error!(
                "the broker for multipath maps ends: {}",
                crate::error_chain(&*error)
            );
            1
        }
    }
}

fn try_serve(control: &OwnedFd, settings: BrokerConfig) -> Result<(), Box<dyn Error>> {
    // The helper itself says what becomes of commands on maps.
    trace::disable_in_child();
    set_name(NAME)?;
    let manager = match settings.has_manager {
        true => ServiceManager::from_env(),
        false => ServiceManager::default(),
    };
    let files: Vec<_> = settings.files.iter().filter_map(open_dir).collect();
    let workers = Workers::new()?;
    privileges::limit_to(KEPT, FOR_REMOVAL)?;
    sandbox::enter_as_broker(settings.sandbox, &files)?;
    send(control, &READY, SendFlags::NOSIGNAL)?;
    if settings.is_daemon {
        daemonize::detach_stdio()?;
    }
    let start = Start {
        broker: getpid(),
        patience: settings.patience,
    };
    let mut serving = Serving {
        control,
        manager,
        files,
        workers,
        rejected: None,
        start,
    };
    let result = loop {
        match serving.serve_next() {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(error) => break Err(error.into()),
        }
    };
    // The process ends now. Closing rejected connections before that could block.
    mem::forget(serving);
    result
}

/// Opens the directory of a file that is to be removed.
fn open_dir(file: &CreatedFile) -> Option<OpenedFile> {
    let opened = file.open_dir();
    opened
        .inspect_err(|error| {
            let path = file.path.display();
            log::warn!("{} '{path}' will not be removed: {error}", file.kind);
        })
        .ok()
}

/// Broker that serves.
struct Serving<'a> {
    control: &'a OwnedFd,
    manager: ServiceManager,
    files: Vec<OpenedFile>,
    workers: Workers,
    /// Connections that the helper has rejected.
    rejected: Option<CloserQueue>,
    start: Start,
}

impl Serving<'_> {
    /// Waits for the helper or for workers. Returns false when the helper has ended.
    fn serve_next(&mut self) -> io::Result<bool> {
        let rejected = self.rejected.as_ref();
        // A process closes what has come within a moment: starting one for each connection takes long.
        let timeout = rejected.and_then(CloserQueue::time_left);
        let has_room = rejected.filter(|queue| !queue.is_full());
        let closing = has_room.map_or_else(|| self.control.as_fd(), AsFd::as_fd);
        let mut ready = [
            PollFd::new(&self.workers, PollFlags::IN),
            PollFd::new(self.control, PollFlags::IN),
            PollFd::from_borrowed_fd(closing, PollFlags::IN),
        ];
        match poll(&mut ready, timeout.as_ref()) {
            Err(Errno::INTR) => return Ok(true),
            result => result?,
        };
        let [has_ended, has_message, has_rejected] = ready.map(|ready| !ready.revents().is_empty());
        if has_ended {
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
                if let Some(message) = buffer.get(..length).and_then(Control::decode) {
                    self.execute(message, descriptors);
                }
            }
            // Lack of memory, or a spurious wake-up; neither lasts.
            Err(_) => sleep(PAUSE),
        }
        Ok(true)
    }

    fn execute(&mut self, message: Control, descriptors: ReceivedFds) {
        match (message, descriptors) {
            (Control::StartWorker, ReceivedFds::One(socket)) => {
                self.workers.start(&socket, self.start);
            }
            (Control::CloseConnections, ReceivedFds::One(socket)) => {
                // Only once: dropping a queue closes what is in it.
                self.rejected
                    .get_or_insert_with(|| CloserQueue::new(socket));
            }
            // The kernel could not pass the descriptor: the helper sees the other end closed.
            (Control::StartWorker | Control::CloseConnections, _) => {}
            (Control::Alive { clients, commands }, _) => {
                let load = Load { clients, commands };
                self.manager.watchdog_ping(load);
            }
            (Control::Stopping, _) => self.manager.stopping("waiting for commands in progress"),
            (Control::Remove(kind), _) => {
                let file = self.files.iter().find(|opened| opened.file.kind == kind);
                let removal = file.map_or(Removal::Failed, |file| {
                    privileges::with_raised(FOR_REMOVAL, || file.remove())
                });
                let reply = control::encode_removal(kind, removal);
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                // The helper waits for a while only.
                let _ = send(self.control, &reply, flags);
            }
        }
    }
}
