// SPDX-License-Identifier: MIT OR Apache-2.0

//! The helper under test, running in the virtual machine.

use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use pr_testkit::process::{poll, wait_timeout};

/// Socket of the helper. Its user owns the directory, so that it can remove the socket.
pub(crate) const SOCKET: &str = "/run/pr/helper.sock";

const DIR: &str = "/run/pr";
const NOBODY_UID: u32 = 65534;

const STDERR: &str = "/run/helper.stderr";

/// Maximum time to start and to exit.
const TIMEOUT: Duration = Duration::from_secs(20);

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

    /// Like [`Self::start`], with additional arguments and environment variables.
    pub(crate) fn start_with(
        program: &Path,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        fs::create_dir_all(DIR).with_context(|| format!("cannot create {DIR}"))?;
        let user = if arguments.contains(&"nobody") {
            NOBODY_UID
        } else {
            0
        };
        chown(DIR, Some(user), Some(user))
            .with_context(|| format!("cannot change the owner of {DIR}"))?;
        let process = Command::new(program)
            .args(["-k", SOCKET])
            .args(arguments)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stderr(File::create(STDERR).context("cannot create the file for the helper's stderr")?)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let helper = Self {
            program: program.to_owned(),
            process,
        };
        // A killed helper has left a socket that refuses connections.
        let listening = poll(TIMEOUT, || Ok(UnixStream::connect(SOCKET).ok()))?;
        ensure!(
            listening.is_some(),
            "{} does not listen on {SOCKET}; its stderr: {}",
            helper.program.display(),
            helper_stderr()
        );
        Ok(helper)
    }

    /// Returns the process that serves clients.
    pub(crate) fn id(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    /// Kills the helper with SIGKILL, like the kernel's OOM killer, and removes its socket.
    pub(crate) fn kill(mut self) -> Result<()> {
        kill_process(self.id(), Signal::KILL).context("cannot kill the helper")?;
        let exited = wait_timeout(&mut self.process, TIMEOUT)?;
        exited.context("the helper did not exit after SIGKILL")?;
        fs::remove_file(SOCKET).with_context(|| format!("cannot remove {SOCKET}"))
    }

    /// Stops the helper with SIGTERM. It must exit with status 0 and remove its socket.
    pub(crate) fn stop(mut self) -> Result<()> {
        let program = self.program.display();
        kill_process(self.id(), Signal::TERM).with_context(|| format!("cannot stop {program}"))?;
        let status = wait_timeout(&mut self.process, TIMEOUT)?
            .with_context(|| format!("{program} did not exit after SIGTERM"))?;
        ensure!(
            status.success(),
            "{program} exited with {status} after SIGTERM"
        );
        ensure!(
            !Path::new(SOCKET).exists(),
            "{program} did not remove its socket {SOCKET}"
        );
        println!("guest: {program} exited with status 0 after SIGTERM and removed its socket");
        Ok(())
    }
}

/// Returns the helper's stderr so far.
pub(crate) fn helper_stderr() -> String {
    fs::read_to_string(STDERR).unwrap_or_else(|error| format!("({STDERR}: {error})"))
}
