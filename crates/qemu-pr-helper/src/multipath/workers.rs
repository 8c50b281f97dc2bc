// SPDX-License-Identifier: MIT OR Apache-2.0

//! Child processes of the broker: workers, resolvers of names, and processes that close connections
//! by exiting.

use std::io;
use std::os::fd::OwnedFd;

use linux_util::{fork, signals};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, wait};

use super::message::NOT_STARTED;
use super::worker::{self, WorkerContext};
use crate::logging::RateLimit;
use crate::names::{MAX_RESOLVERS, resolver};
use crate::process::closer::CloserQueue;
use crate::process::seqpacket;

/// Limit of worker processes. A worker executes one command at a time.
const MAX_WORKERS: usize = 512;

/// Limit of processes that close connections. Each exits at once, unless closing a descriptor
/// blocks, which also blocks a process that exits.
const MAX_CLOSING: usize = 64;

/// Child processes that have not exited yet.
#[derive(Debug)]
pub(super) struct Workers {
    /// Readable when a child has exited.
    pub(super) sigchld: SignalFd,
    running: usize,
    /// Processes that close connections, which do not count as workers.
    closing: Vec<Pid>,
    /// Resolvers of names, which do not count as workers either.
    resolvers: Vec<Pid>,
    start_warning: RateLimit,
    resolver_warning: RateLimit,
    close_warning: RateLimit,
}

impl Workers {
    /// Prepares to start workers. This process must not have other children.
    pub(super) fn new() -> io::Result<Self> {
        // If the parent left SIGCHLD ignored, the kernel does not report children that exit.
        signals::reset_sigchld()?;
        let signal = SigSet::from(Signal::SIGCHLD);
        signal.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self {
            sigchld: SignalFd::with_flags(&signal, flags)?,
            running: 0,
            closing: Vec::new(),
            resolvers: Vec::new(),
            start_warning: RateLimit::new(),
            resolver_warning: RateLimit::new(),
            close_warning: RateLimit::new(),
        })
    }

    /// Starts a worker on `socket`, or sends [`NOT_STARTED`] to the helper.
    pub(super) fn start(&mut self, socket: &OwnedFd, context: WorkerContext) {
        let started = match self.running {
            running if running >= MAX_WORKERS => Err(limit_reached(running)),
            _ => fork::spawn_isolated(socket, context, worker::run),
        };
        match started {
            Ok(_) => self.running = self.running.saturating_add(1),
            Err(error) => {
                if self.start_warning.should_log() {
                    log::error!(
                        "worker for a multipath map not started: {error}; commands on maps fail \
                         with BUSY until a worker exits"
                    );
                }
                // If this fails, the helper sees the socket closed.
                let _ = seqpacket::try_send(socket, &NOT_STARTED);
            }
        }
    }

    /// Starts a resolver of names on `socket`. Without one, the helper sees the socket closed.
    pub(super) fn start_resolver(&mut self, socket: &OwnedFd, broker: Pid) {
        let started = match self.resolvers.len() {
            running if running >= MAX_RESOLVERS => Err(limit_reached(running)),
            _ => fork::spawn_isolated(socket, broker, resolver::run),
        };
        match started {
            Ok(process) => self.resolvers.push(process),
            Err(error) => {
                if self.resolver_warning.should_log() {
                    log::warn!(
                        "process for names not started: {error}; names of clients and disks are \
                         missing until one exits"
                    );
                }
            }
        }
    }

    /// Closes connections that the helper has rejected. They stay in the queue if no process can be
    /// started for that.
    pub(super) fn close(&mut self, queue: &mut CloserQueue) {
        let closed = match self.closing.len() {
            closing if closing >= MAX_CLOSING => Err(limit_reached(closing)),
            _ => queue.close_batch(),
        };
        match closed {
            Ok(process) => self.closing.push(process),
            Err(error) => {
                if self.close_warning.should_log() {
                    log::error!("rejected connections not closed: {error}; retrying");
                }
                queue.retry_later();
            }
        }
    }

    pub(super) fn reap(&mut self) {
        // One signal can stand for several children.
        while let Ok(Some(_)) = self.sigchld.read_signal() {}
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((process, _))) => {
                    let others = [&mut self.closing, &mut self.resolvers];
                    if !others.into_iter().any(|others| remove(others, process)) {
                        self.running = self.running.saturating_sub(1);
                    }
                }
                Ok(None) => return,
                Err(Errno::INTR) => {}
                // ECHILD: there are no children.
                Err(_) => {
                    self.running = 0;
                    self.closing.clear();
                    self.resolvers.clear();
                    return;
                }
            }
        }
    }
}

/// Removes a process from a list. Returns false if it is not there.
fn remove(processes: &mut Vec<Pid>, process: Pid) -> bool {
    let index = processes.iter().position(|other| *other == process);
    index.map(|index| processes.swap_remove(index)).is_some()
}

fn limit_reached(processes: usize) -> io::Error {
    io::Error::other(format!("the limit of {processes} processes is reached"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{RecvFlags, recv};
    use rustix::process::getpid;
    use std::time::Duration;

    #[test]
    fn worker_above_the_limit_is_refused() {
        let mut workers = Workers::new().unwrap();
        workers.running = MAX_WORKERS;
        let (helper, worker) = seqpacket::pair().unwrap();
        let context = WorkerContext {
            broker: getpid(),
            timeout: Duration::from_secs(1),
        };
        workers.start(&worker, context);
        assert_eq!(workers.running, MAX_WORKERS);
        let mut reply = [0; 8];
        let (length, _) = recv(&helper, &mut reply, RecvFlags::DONTWAIT).unwrap();
        assert_eq!(reply.get(..length), Some(NOT_STARTED.as_slice()));
    }

    #[test]
    fn resolver_above_the_limit_is_not_started() {
        let mut workers = Workers::new().unwrap();
        workers.resolvers = vec![getpid(); MAX_RESOLVERS];
        let (helper, resolver) = seqpacket::pair().unwrap();
        workers.start_resolver(&resolver, getpid());
        assert_eq!(workers.resolvers.len(), MAX_RESOLVERS);
        drop(resolver);
        assert_eq!(
            recv(&helper, &mut [0; 1], RecvFlags::DONTWAIT).unwrap().0,
            0
        );
    }
}
