//! Child processes of the broker: workers, and processes that close connections by ending.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use linux_util::{fork, signals};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustix::process::{Pid, WaitOptions, wait};

use super::broker::Start;
use super::message::REFUSED;
use super::worker;
use crate::logging::RateLimit;
use crate::process::closer::CloserQueue;

/// Limit of worker processes. A worker executes one command on a map, and ends with it.
const MAX_WORKERS: usize = 512;

/// Limit of processes that close connections. Each ends at once, unless closing a descriptor blocks
/// a process that ends too.
const MAX_CLOSING: usize = 64;

/// Worker processes that have not ended yet.
#[derive(Debug)]
pub(super) struct Workers {
    /// Readable when a worker has ended.
    ended: SignalFd,
    running: usize,
    /// Processes that close connections, which do not count as workers.
    closing: Vec<Pid>,
    not_started: RateLimit,
    not_closed: RateLimit,
}

impl Workers {
    /// Prepares to start workers. This process must have no children of its own.
    ///
    /// # Errors
    ///
    /// SIGCHLD cannot be blocked or reset, or there is no descriptor for it.
    pub(super) fn new() -> io::Result<Self> {
        // A parent can leave SIGCHLD ignored, and then the kernel tells nothing of ended children.
        signals::reset_sigchld()?;
        let signal = SigSet::from(Signal::SIGCHLD);
        signal.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self {
            ended: SignalFd::with_flags(&signal, flags)?,
            running: 0,
            closing: Vec::new(),
            not_started: RateLimit::new(),
            not_closed: RateLimit::new(),
        })
    }

    /// Starts a worker on `socket`, or sends [`REFUSED`] to the helper.
    pub(super) fn start(&mut self, socket: &OwnedFd, start: Start) {
        let started = match self.running {
            running if running >= MAX_WORKERS => Err(io::Error::other(format!(
                "there are {running} already, the limit"
            ))),
            _ => fork::spawn_isolated(socket, start, worker::run),
        };
        match started {
            Ok(_) => self.running = self.running.saturating_add(1),
            Err(error) => {
                if self.not_started.should_log() {
                    log::error!(
                        "worker for a multipath map not started: {error}; commands on maps are \
                         answered with BUSY until a worker ends"
                    );
                }
                // The helper sees the socket closed if this fails.
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                let _ = send(socket, &REFUSED, flags);
            }
        }
    }

    /// Closes connections that the helper has rejected, or leaves them in the queue if no process can
    /// be started for that.
    pub(super) fn close(&mut self, queue: &mut CloserQueue) {
        let closed = match self.closing.len() {
            closing if closing >= MAX_CLOSING => Err(io::Error::other(format!(
                "closing blocks {closing} processes already, the limit"
            ))),
            _ => queue.close_batch(),
        };
        match closed {
            Ok(process) => self.closing.push(process),
            Err(error) => {
                if self.not_closed.should_log() {
                    log::error!("rejected connections not closed: {error}; retrying");
                }
                queue.retry_later();
            }
        }
    }

    /// Reaps the processes that have ended.
    pub(super) fn reap(&mut self) {
        // One signal can stand for several children.
        while let Ok(Some(_)) = self.ended.read_signal() {}
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((process, _))) => {
                    match self.closing.iter().position(|closing| *closing == process) {
                        Some(index) => drop(self.closing.swap_remove(index)),
                        None => self.running = self.running.saturating_sub(1),
                    }
                }
                Ok(None) => return,
                Err(Errno::INTR) => {}
                // ECHILD: there are none.
                Err(_) => {
                    self.running = 0;
                    self.closing.clear();
                    return;
                }
            }
        }
    }
}

impl AsFd for Workers {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};
    use rustix::process::getpid;
    use std::time::Duration;

    #[test]
    fn worker_above_the_limit_is_refused() {
        let mut workers = Workers::new().unwrap();
        workers.running = MAX_WORKERS;
        let flags = SocketFlags::CLOEXEC;
        let (helper, worker) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let start = Start {
            broker: getpid(),
            patience: Duration::from_secs(1),
        };
        workers.start(&worker, start);
        assert_eq!(workers.running, MAX_WORKERS);
        let mut reply = [0; 8];
        let (length, _) = recv(&helper, &mut reply, RecvFlags::DONTWAIT).unwrap();
        assert_eq!(reply.get(..length), Some(REFUSED.as_slice()));
    }
}
