// SPDX-License-Identifier: MIT OR Apache-2.0

//! Daemon mode: the process that the user started waits until the daemon serves clients.
//!
//! QEMU's helper exits in the foreground at once, so its caller does not learn of later errors,
//! such as a PID file that is in use. Here the first process waits until the daemon is ready, and
//! exits with the daemon's status if the daemon fails to start.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use linux_util::fork::{Fork, fork};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, chdir, setsid, waitpid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

/// Process in which [`daemonize`] has returned.
#[derive(Debug)]
pub(crate) enum ForkSide {
    /// The daemon, which continues and serves clients.
    Daemon(ReadyPipe),
    /// The process that the user started. The daemon is ready or has exited; this process exits
    /// with the given status.
    Parent(u8),
}

/// Pipe on which a daemon reports that it is ready. If it is dropped before, the parent waits until
/// the daemon exits, and reports a failed start.
#[derive(Debug)]
pub(crate) struct ReadyPipe(OwnedFd);

/// Continues in a second process, with a session of its own and in the root directory, as daemon(3)
/// does. Standard error stays open until [`ReadyPipe::ready`].
pub(crate) fn daemonize() -> io::Result<ForkSide> {
    let (ready, pipe) = pipe_with(PipeFlags::CLOEXEC)?;
    match fork()? {
        Fork::Parent(daemon) => {
            drop(pipe);
            Ok(ForkSide::Parent(wait_for_ready(&ready, daemon)?))
        }
        Fork::Child => {
            setsid()?;
            chdir("/")?;
            Ok(ForkSide::Daemon(ReadyPipe(pipe)))
        }
    }
}

/// Waits until the daemon is ready or exits. Returns the status to exit with.
fn wait_for_ready(ready: &OwnedFd, daemon: Pid) -> io::Result<u8> {
    if rustix::io::read(ready, &mut [0])? == 1 {
        return Ok(0);
    }
    let status = waitpid(Some(daemon), WaitOptions::empty())?.map(|(_, status)| status);
    if let Some(signal) = status.and_then(|status| status.terminating_signal()) {
        return Err(io::Error::other(format!(
            "killed by signal {signal} before it was ready"
        )));
    }
    // The daemon has printed the reason. It was never ready, so status 0 is a failure too.
    let code = status.and_then(|status| u8::try_from(status.exit_status()?).ok());
    Ok(code.filter(|code| *code != 0).unwrap_or(1))
}

impl ReadyPipe {
    /// Closes standard input, output and error, and then lets the parent exit.
    pub(crate) fn ready(self) -> io::Result<()> {
        detach_stdio()?;
        match rustix::io::write(&self.0, b"r") {
            // EPIPE: the parent has exited, so it needs no answer.
            Err(Errno::PIPE) | Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Replaces standard input, output and error with `/dev/null`.
pub(crate) fn detach_stdio() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    Ok(dup2_stderr(&null)?)
}
