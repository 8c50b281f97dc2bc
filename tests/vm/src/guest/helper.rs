// SPDX-License-Identifier: MIT OR Apache-2.0

//! The helper under test, running in the virtual machine.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use pr_testkit::HelperProcess;
use pr_testkit::helper::Builder;
use rustix::process::{Pid, Signal};

/// Socket of the helper. Its user owns the directory, so that it can remove the socket.
pub(crate) const SOCKET: &str = "/run/pr/helper.sock";

const DIR: &str = "/run/pr";
const NOBODY_UID: u32 = 65534;

const STDERR: &str = "/run/helper.stderr";

/// A running helper.
pub(crate) struct Helper {
    program: PathBuf,
    process: HelperProcess,
}

impl Helper {
    /// Starts the helper in the foreground and waits until it has served a client.
    pub(crate) fn start(program: &Path) -> Result<Self> {
        Self::start_with(program, &[], &[])
    }

    /// Like [`Self::start`], with additional arguments and environment variables.
    pub(crate) fn start_with(
        program: &Path,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        let none: [&OsStr; 0] = [];
        Self::start_through(&none, program, arguments, variables)
    }

    /// Like [`Self::start_with`], with a command that executes the helper's command line in the
    /// same process.
    pub(crate) fn start_through(
        wrapper: &[impl AsRef<OsStr>],
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
        // Each helper begins a new log.
        File::create(STDERR).context("cannot create the file for the helper's stderr")?;
        let builder = HelperProcess::builder(program)
            .wrapper(wrapper)
            .args(arguments)
            .socket(SOCKET)
            .dir("/")
            .log(STDERR);
        let with_variable = |builder: Builder, (name, value)| builder.env(name, value);
        let builder = variables.iter().copied().fold(builder, with_variable);
        let process = builder
            .start()
            .with_context(|| format!("{} does not serve", program.display()))?;
        Ok(Self {
            program: program.to_owned(),
            process,
        })
    }

    /// Returns the process that serves clients.
    pub(crate) fn id(&self) -> Pid {
        self.process.pid()
    }

    /// Kills the helper with SIGKILL, like the kernel's OOM killer, and removes its socket.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.process.signal(Signal::KILL);
        self.process.wait()?;
        fs::remove_file(SOCKET).with_context(|| format!("cannot remove {SOCKET}"))
    }

    /// Stops the helper with SIGTERM. It must exit with status 0 and remove its socket.
    pub(crate) fn stop(mut self) -> Result<()> {
        let program = self.program.display();
        let status = self.process.terminate()?;
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
