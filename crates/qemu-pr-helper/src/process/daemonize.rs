//! Into the background, with the caller waiting until the helper serves.
//!
//! QEMU's helper lets its caller go at once, so that whatever goes wrong afterwards (the PID file is
//! another's, the user cannot be changed) is lost. Here the first process stays until the second one
//! is ready, passes on what it prints, and ends as it does.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;

use linux_util::fork::{Fork, fork};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, chdir, setsid, waitpid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use thiserror::Error;

/// The helper could not go into the background.
#[derive(Debug, Error)]
#[error("cannot run in the background")]
pub struct DaemonizeError(#[source] io::Error);

/// In which process the caller is now.
#[derive(Debug)]
pub enum Background {
    /// In the one that is to serve.
    Here(Starting),
    /// In the one that was started. The other is ready, or has ended; end with this status.
    There(u8),
}

/// A background process that is starting. Dropped before [`Starting::ready`], the caller is told
/// that the start has failed when the process ends.
#[derive(Debug)]
pub struct Starting {
    caller: OwnedFd,
}

/// Goes on in a second process, in a session of its own and in the root directory, as daemon(3) does.
/// Standard error stays open until it is [ready](Starting::ready).
///
/// # Errors
///
/// [`DaemonizeError`]; there is no second process then.
pub fn daemonize() -> Result<Background, DaemonizeError> {
    let start = || -> io::Result<Background> {
        let (ready, caller) = pipe_with(PipeFlags::CLOEXEC)?;
        match fork()? {
            Fork::Parent(child) => {
                drop(caller);
                Ok(Background::There(wait_for(&ready, child)?))
            }
            Fork::Child => {
                setsid()?;
                chdir("/")?;
                Ok(Background::Here(Starting { caller }))
            }
        }
    };
    start().map_err(DaemonizeError)
}

/// Waits until the child says that it is ready, or ends; gives the status to end with.
fn wait_for(ready: &OwnedFd, child: Pid) -> io::Result<u8> {
    let mut byte = [0];
    if rustix::io::read(ready, &mut byte)? == 1 {
        return Ok(0);
    }
    let status = waitpid(Some(child), WaitOptions::empty())?.map(|(_, status)| status);
    if let Some(signal) = status.and_then(|status| status.terminating_signal()) {
        return Err(io::Error::other(format!(
            "killed by signal {signal} before it was ready"
        )));
    }
    // It has said why itself. It never became ready: that is a failure whatever its status says.
    let code = status.and_then(|status| status.exit_status());
    Ok(code
        .and_then(|code| u8::try_from(code).ok())
        .filter(|code| *code != 0)
        .unwrap_or(1))
}

impl Starting {
    /// Lets the caller go, and standard input, output and error with it.
    ///
    /// # Errors
    ///
    /// [`DaemonizeError`] if `/dev/null` cannot be used.
    pub fn ready(self) -> Result<(), DaemonizeError> {
        let finish = || -> io::Result<()> {
            close_streams()?;
            match rustix::io::write(&self.caller, b"r") {
                // Nobody waits any more: then nobody needs to know.
                Err(rustix::io::Errno::PIPE) | Ok(_) => Ok(()),
                Err(error) => Err(error.into()),
            }
        };
        finish().map_err(DaemonizeError)
    }
}

/// Lets go of standard input, output and error.
///
/// # Errors
///
/// That `/dev/null` cannot be used.
pub fn close_streams() -> io::Result<()> {
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}
