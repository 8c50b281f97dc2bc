//! The process that is allowed more, and does nothing by itself.
//!
//! To reach the paths of a map takes the rights of root: their nodes, and multipathd, who obeys nobody
//! else. The process that reads what clients send does not keep them. So before it gives them up it starts
//! another one, the broker, and for each command hands it one end of a fresh pair of sockets. The broker
//! starts a worker on it, which is the same program in a process of its own, and forgets about it.
//!
//! ```text
//! helper ── control: a socket for each command ──> broker ── fork ──> worker
//!    └────────────── order, map ── report ── that pair of sockets ──────┘
//! ```
//!
//! The broker reads nothing but the descriptor. Whatever becomes of a worker ends that command, and no
//! other. When the helper ends, by SIGKILL too, the broker reads the end of the control socket and ends; a
//! worker is killed by the kernel when the broker has gone.

use std::error::Error;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use linux_sys::{fork, signals};
use pr_socket::descriptors::{self, Descriptors, ReceiveMode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use rustix::process::{Pid, getpid};
use rustix::thread::{CapabilitySet, set_name};
use thiserror::Error;

use super::message::{LONGEST_REPORT, Order, Report};
use super::worker;
use crate::sandbox::{self, Mode};
use crate::{daemonize, privileges, trace};

/// What the broker and its workers keep: SCSI commands, and reading the nodes of disks that are somebody
/// else's than root's.
const KEPT: CapabilitySet = CapabilitySet::SYS_RAWIO.union(CapabilitySet::DAC_READ_SEARCH);

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
pub struct Settings {
    /// How long a command may take.
    pub patience: Duration,
    /// Whether the helper goes into the background, where nobody reads what it says.
    pub is_daemon: bool,
    /// How the sandbox is used.
    pub sandbox: Mode,
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
    #[error("the broker has ended: restart the helper")]
    NoBroker,
    /// The worker has ended before it could report; or there was none.
    #[error("the worker ended without a report: it crashed, was killed, or could not be started")]
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
    pub fn start(settings: Settings) -> Result<Self, BrokerError> {
        let start = || -> io::Result<OwnedFd> {
            let (here, there) = pair()?;
            fork::apart(there, settings, serve)?;
            if !wait(&here, START)? {
                return Err(io::Error::other("it does not get ready"));
            }
            // A broker that is stopped must not stop the helper.
            fcntl_setfl(&here, OFlags::NONBLOCK)?;
            match descriptors::receive(here.as_fd(), &mut [0], ReceiveMode::NoWait)? {
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
    pub fn execute(&self, map: impl AsFd, order: &Order) -> Result<Report, WorkerError> {
        let (here, there) = pair().map_err(WorkerError::Ask)?;
        let message = order.encode();
        descriptors::send(here.as_fd(), &message, map.as_fd()).map_err(WorkerError::Ask)?;
        descriptors::send(self.control.as_fd(), &[0], there.as_fd()).map_err(|error| {
            match Errno::from_io_error(&error) {
                Some(Errno::PIPE | Errno::CONNRESET) => WorkerError::NoBroker,
                _ => WorkerError::Ask(error),
            }
        })?;
        // Else this process would hold both ends, and would not see the other one closed.
        drop(there);
        // The worker counts from a little later, and has to have time to say that it has no answer.
        report(&here, order.patience.saturating_add(worker::GRACE))
    }
}

/// Waits for a worker's report.
fn report(socket: &OwnedFd, patience: Duration) -> Result<Report, WorkerError> {
    if !wait(socket, patience).map_err(WorkerError::Ask)? {
        return Err(WorkerError::Silent(patience));
    }
    let mut buffer = vec![0; LONGEST_REPORT];
    match descriptors::receive(socket.as_fd(), &mut buffer, ReceiveMode::NoWait) {
        Ok((0, _)) => Err(WorkerError::Ended),
        Ok((length, _)) => buffer
            .get(..length)
            .and_then(Report::decode)
            .ok_or(WorkerError::Nonsense),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(WorkerError::Ended),
        Err(error) => Err(WorkerError::Ask(error)),
    }
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
fn serve(control: &OwnedFd, settings: Settings) -> u8 {
    match try_serve(control, settings) {
        Ok(()) => 0,
        Err(error) => {
            log::error!(
                "the broker for multipath maps ends: {}",
                crate::chain(&*error)
            );
            1
        }
    }
}

fn try_serve(control: &OwnedFd, settings: Settings) -> Result<(), Box<dyn Error>> {
    // The helper itself says what becomes of commands on maps.
    trace::fall_silent();
    set_name(NAME)?;
    signals::forget_children()?;
    privileges::keep_only(KEPT)?;
    sandbox::enter_as_broker(settings.sandbox)?;
    send(control, &READY, SendFlags::NOSIGNAL)?;
    if settings.is_daemon {
        daemonize::close_streams()?;
    }
    let start = Start {
        broker: getpid(),
        patience: settings.patience,
    };
    while let Some(socket) = next(control)? {
        // Without a worker the socket is closed, which says everything.
        if let Err(error) = fork::apart(socket, start, worker::run) {
            log::error!("cannot start a worker for a multipath map: {error}");
        }
    }
    Ok(())
}

/// The socket for the next worker; `None` when the helper has ended.
fn next(control: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    loop {
        wait(control, Duration::MAX)?;
        match descriptors::receive(control.as_fd(), &mut [0], ReceiveMode::NoWait) {
            Ok((0, _)) => return Ok(None),
            Ok((_, Descriptors::One(socket))) => return Ok(Some(socket)),
            // The kernel had none to give: the helper sees the other end closed.
            Ok(_) => {}
            // Nothing that will not pass: the kernel lacks memory.
            Err(_) => sleep(PAUSE),
        }
    }
}
