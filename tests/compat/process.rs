// SPDX-License-Identifier: MIT OR Apache-2.0

//! A helper process of a case, with the suite's own client.

use std::ffi::OsStr;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context, Result, bail, ensure};
use pr_testkit::helper::Builder;
use pr_testkit::process::poll;
use pr_testkit::procfs;
use pr_testkit::{HelperProcess, TEST_TIMEOUT};
use tempfile::NamedTempFile;

use crate::client::Client;
use crate::helper::Helper;
use crate::need::has_rawio;
use crate::scratch::Scratch;

/// Polls until `ready` returns true.
pub(crate) fn wait_until(what: &str, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let done = poll(TEST_TIMEOUT, || Ok(ready()?.then_some(())))?;
    done.with_context(|| format!("timed out waiting for {what}"))
}

/// A helper that has not been started yet.
pub(crate) struct HelperCommand(Builder);

impl Helper {
    /// Prepares a start without arguments.
    pub(crate) fn command(&self, scratch: &Scratch) -> HelperCommand {
        let (program, arguments) = self.command_line();
        let builder = HelperProcess::builder(program)
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .dir(scratch.dir())
            .socket(scratch.socket())
            .socket_option(None);
        HelperCommand(builder)
    }

    /// Prepares a start with a socket in the case's directory.
    pub(crate) fn serving_command(&self, scratch: &Scratch) -> HelperCommand {
        self.command(scratch).arg("-k").arg(scratch.socket())
    }
}

impl HelperCommand {
    pub(crate) fn arg(self, argument: impl AsRef<OsStr>) -> Self {
        Self(self.0.arg(argument))
    }

    pub(crate) fn args<T: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = T>) -> Self {
        Self(self.0.args(arguments))
    }

    /// Sets shell commands that run in the process before it executes the helper.
    pub(crate) fn pre_exec_shell(self, commands: &str) -> Self {
        let script = format!("{commands} exec \"$0\" \"$@\"");
        Self(self.0.wrapper(["/bin/sh", "-c", &script]))
    }

    /// Sets the standard input of the shell commands.
    pub(crate) fn stdin(self, descriptor: impl Into<OwnedFd>) -> Self {
        Self(self.0.stdin(descriptor.into()))
    }

    pub(crate) fn current_dir(self, dir: &Path) -> Self {
        Self(self.0.dir(dir))
    }

    /// Sets the socket that clients connect to, if it is not the default one.
    pub(crate) fn connect_to(self, socket: PathBuf) -> Self {
        Self(self.0.socket(socket))
    }

    /// Starts the helper without waiting.
    pub(crate) fn spawn(self) -> Result<Running> {
        let (stdout, log) = (NamedTempFile::new()?, NamedTempFile::new()?);
        let builder = self.0.stdout(stdout.reopen()?).log(log.path());
        Ok(Running {
            process: builder.spawn()?,
            stdout,
            _log: log,
        })
    }

    /// Starts the helper and waits until it greets a client.
    pub(crate) fn start(self) -> Result<Running> {
        let mut running = self.spawn()?;
        running.wait_until_ready()?;
        Ok(running)
    }

    /// Starts the helper and waits until it exits by itself.
    pub(crate) fn finish(self) -> Result<Finished> {
        let mut running = self.spawn()?;
        Ok(Finished {
            status: running.wait()?,
            stdout: fs::read_to_string(&running.stdout)?,
            stderr: running.stderr(),
        })
    }
}

/// A helper that has exited.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Checks that the helper failed: status 1, and a line of stderr that begins with its name;
    /// stderr contains `word` in upper or lower case.
    pub(crate) fn expect_failure(&self, word: &str) -> Result<()> {
        ensure!(
            self.status.code() == Some(1),
            "the status is not 1: {self:?}"
        );
        let mut lines = self.stderr.lines();
        let named = lines.any(|line| {
            let program = line.split(':').next().unwrap_or_default();
            program.ends_with("qemu-pr-helper")
        });
        ensure!(named, "no line begins with the program's name: {self:?}");
        let stderr = self.stderr.to_lowercase();
        ensure!(
            stderr.contains(&word.to_lowercase()),
            "no `{word}` in {self:?}"
        );
        Ok(())
    }

    /// Checks that the helper exited with status 0 and wrote nothing to stderr.
    pub(crate) fn expect_success(&self) -> Result<()> {
        ensure!(self.status.success(), "{self:?}");
        ensure!(self.stderr.is_empty(), "{self:?}");
        Ok(())
    }
}

/// Start of the line in which our helper says where it listens.
pub(crate) const LISTENING: &str = "qemu-pr-helper: listening on ";

/// A helper process, which is killed when the value is dropped.
pub(crate) struct Running {
    process: HelperProcess,
    stdout: NamedTempFile,
    /// Removes the file of standard error.
    _log: NamedTempFile,
}

impl Running {
    /// Connects a client and does the handshake.
    pub(crate) fn client(&self) -> Result<Client> {
        let mut client = self.connect()?;
        client.handshake()?;
        Ok(client)
    }

    /// Connects a client without a handshake.
    pub(crate) fn connect(&self) -> Result<Client> {
        let socket = self.socket();
        Client::connect(socket).with_context(|| format!("cannot connect to {}", socket.display()))
    }

    /// Returns the helper's stderr without two lines of our helper: where it listens, and that a
    /// capability is missing.
    pub(crate) fn stderr(&self) -> String {
        let text = self.whole_stderr();
        let expected = |line: &&str| {
            let is_warning = !has_rawio() && line.contains("no CAP_SYS_RAWIO");
            !is_warning && !line.starts_with(LISTENING)
        };
        text.split_inclusive('\n').filter(expected).collect()
    }

    /// Returns the helper's stderr.
    pub(crate) fn whole_stderr(&self) -> String {
        self.process.stderr()
    }

    /// Waits until a client gets the helper's greeting.
    pub(crate) fn wait_until_ready(&mut self) -> Result<()> {
        wait_until("the helper's greeting", || {
            if let Some(status) = self.try_wait()? {
                bail!("the helper exited with {status}: {}", self.stderr());
            }
            let client = Client::connect(self.socket());
            Ok(client.is_ok_and(|mut client| client.handshake().is_ok()))
        })
    }

    /// Returns the value of a line of `/proc/PID/status`.
    pub(crate) fn status_line(&self, name: &str) -> String {
        procfs::status(self.pid(), name)
    }
}

impl Deref for Running {
    type Target = HelperProcess;

    fn deref(&self) -> &HelperProcess {
        &self.process
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut HelperProcess {
        &mut self.process
    }
}
