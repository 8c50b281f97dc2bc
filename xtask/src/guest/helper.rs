//! The helper under test, as a service of the virtual machine.

use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::process::{poll, wait_for_end};

/// Where it listens: in a folder that is its user's, so that it can remove the socket.
pub(crate) const SOCKET: &str = "/run/pr/helper.sock";

const FOLDER: &str = "/run/pr";
const NOBODY: u32 = 65534;

const COMPLAINTS: &str = "/run/helper.stderr";

/// How long it may take to start and to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running helper.
pub(crate) struct Helper {
    program: PathBuf,
    process: Child,
}

impl Helper {
    /// Starts the helper in the foreground and waits until it listens.
    pub(crate) fn start(program: &Path) -> Result<Self> {
        Self::start_with(program, &[], &[])
    }

    /// The same with more arguments and variables.
    pub(crate) fn start_with(
        program: &Path,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        fs::create_dir_all(FOLDER).with_context(|| format!("cannot create {FOLDER}"))?;
        let user = if arguments.contains(&"nobody") {
            NOBODY
        } else {
            0
        };
        chown(FOLDER, Some(user), Some(user))
            .with_context(|| format!("cannot give {FOLDER} away"))?;
        let process = Command::new(program)
            .args(["-k", SOCKET])
            .args(arguments)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stderr(File::create(COMPLAINTS).context("cannot keep the helper's stderr")?)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let helper = Self {
            program: program.to_owned(),
            process,
        };
        // One that was killed has left a socket behind, that nobody listens on.
        let listening = poll(PATIENCE, || Ok(UnixStream::connect(SOCKET).ok()))?;
        ensure!(
            listening.is_some(),
            "{} does not listen on {SOCKET}; its stderr: {}",
            helper.program.display(),
            complaints()
        );
        Ok(helper)
    }

    /// The process that serves clients.
    pub(crate) fn id(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    /// Ends it as the kernel does that is out of memory, and removes what it could not.
    pub(crate) fn kill(mut self) -> Result<()> {
        kill_process(self.id(), Signal::KILL).context("cannot kill the helper")?;
        let ended = wait_for_end(&mut self.process, PATIENCE)?;
        ended.context("the helper did not end on SIGKILL")?;
        fs::remove_file(SOCKET).with_context(|| format!("cannot remove {SOCKET}"))
    }

    /// Asks the helper to end, which must be with status 0 and without a socket left behind.
    pub(crate) fn stop(mut self) -> Result<()> {
        let program = self.program.display();
        kill_process(self.id(), Signal::TERM).with_context(|| format!("cannot stop {program}"))?;
        let status = wait_for_end(&mut self.process, PATIENCE)?
            .with_context(|| format!("{program} did not end on SIGTERM"))?;
        ensure!(status.success(), "{program} ended with {status} on SIGTERM");
        ensure!(
            !Path::new(SOCKET).exists(),
            "{program} left its socket {SOCKET} behind"
        );
        println!("guest: {program} ended with status 0 on SIGTERM, its socket is gone");
        Ok(())
    }
}

/// What the helper has said so far.
pub(crate) fn complaints() -> String {
    fs::read_to_string(COMPLAINTS).unwrap_or_else(|error| format!("({COMPLAINTS}: {error})"))
}
