//! A helper process: start in a case's environment, inspection, stop.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::{Client, TIMEOUT};
use crate::helper::Helper;
use crate::need::has_rawio;
use crate::scratch::Scratch;

/// Delay between two polls.
const POLL_INTERVAL: Duration = Duration::from_millis(3);

/// Polls until `ready` returns true.
pub(crate) fn wait_until(what: &str, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !ready()? {
        ensure!(start.elapsed() < TIMEOUT, "timed out waiting for {what}");
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

/// A helper that has not been started yet.
#[derive(Debug)]
pub(crate) struct HelperCommand<'a> {
    helper: &'a Helper,
    scratch: &'a Scratch,
    socket: PathBuf,
    arguments: Vec<OsString>,
    pre_exec_shell: String,
    stdin: Option<OwnedFd>,
    dir: Option<PathBuf>,
}

impl Helper {
    /// Prepares a start without arguments.
    pub(crate) fn command<'a>(&'a self, scratch: &'a Scratch) -> HelperCommand<'a> {
        HelperCommand {
            helper: self,
            scratch,
            socket: scratch.socket(),
            arguments: Vec::new(),
            pre_exec_shell: String::new(),
            stdin: None,
            dir: None,
        }
    }

    /// Prepares a start with a socket in the case's directory.
    pub(crate) fn serving_command<'a>(&'a self, scratch: &'a Scratch) -> HelperCommand<'a> {
        let socket = scratch.socket();
        self.command(scratch).arg("-k").arg(socket)
    }
}

impl HelperCommand<'_> {
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    pub(crate) fn args<T: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = T>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// Sets shell commands that run in the process before it executes the helper.
    pub(crate) fn pre_exec_shell(mut self, commands: &str) -> Self {
        self.pre_exec_shell = commands.to_owned();
        self
    }

    /// Sets the standard input of the shell commands.
    pub(crate) fn stdin(mut self, descriptor: impl Into<OwnedFd>) -> Self {
        self.stdin = Some(descriptor.into());
        self
    }

    pub(crate) fn current_dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.to_owned());
        self
    }

    /// Sets the socket that clients connect to, if it is not the default one.
    pub(crate) fn connect_to(mut self, socket: PathBuf) -> Self {
        self.socket = socket;
        self
    }

    /// Starts the helper without waiting.
    pub(crate) fn spawn(self) -> Result<Running> {
        let errors = tempfile::NamedTempFile::new()?;
        let output = tempfile::NamedTempFile::new()?;
        let words = self.helper.command_line();
        let mut command = if self.pre_exec_shell.is_empty() {
            Command::new(&words[0])
        } else {
            let mut shell = Command::new("/bin/sh");
            shell.arg("-c");
            shell.arg(format!("{} exec \"$0\" \"$@\"", self.pre_exec_shell));
            shell.arg(&words[0]);
            shell
        };
        command.args(&words[1..]).args(&self.arguments).env_clear();
        command.env("PATH", "/usr/bin:/bin");
        command.current_dir(self.dir.as_deref().unwrap_or_else(|| self.scratch.dir()));
        command.stdin(self.stdin.map_or_else(Stdio::null, Stdio::from));
        command.stdout(File::create(output.path())?);
        command.stderr(File::create(errors.path())?);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", self.helper.path().display()))?;
        Ok(Running {
            child,
            socket: self.socket,
            output,
            errors,
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
        let status = running.wait()?;
        Ok(Finished {
            status,
            stdout: fs::read_to_string(running.output.path())?,
            stderr: running.stderr()?,
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

/// A helper process, which is killed when the value is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    socket: PathBuf,
    output: tempfile::NamedTempFile,
    errors: tempfile::NamedTempFile,
}

impl Running {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Connects a client and does the handshake.
    pub(crate) fn client(&self) -> Result<Client> {
        let mut client = self.connect()?;
        client.handshake()?;
        Ok(client)
    }

    /// Connects a client without a handshake.
    pub(crate) fn connect(&self) -> Result<Client> {
        Client::connect(&self.socket)
            .with_context(|| format!("cannot connect to {}", self.socket.display()))
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid(), signal)?)
    }

    /// Stops the helper with SIGTERM, like a service manager.
    pub(crate) fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait()
    }

    /// Waits for the helper's exit.
    pub(crate) fn wait(&mut self) -> Result<ExitStatus> {
        wait_until("the helper's exit", || Ok(self.child.try_wait()?.is_some()))?;
        Ok(self.child.wait()?)
    }

    pub(crate) fn has_exited(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Returns the helper's stderr without the warning of our helper about a missing capability.
    pub(crate) fn stderr(&self) -> Result<String> {
        let text = fs::read_to_string(self.errors.path())?;
        if has_rawio() {
            return Ok(text);
        }
        let expected = |line: &&str| !line.contains("no CAP_SYS_RAWIO");
        Ok(text.split_inclusive('\n').filter(expected).collect())
    }

    /// Waits for a text on the helper's stderr.
    pub(crate) fn wait_for_stderr(&self, text: &str) -> Result<()> {
        wait_until(&format!("`{text}` on stderr"), || {
            Ok(self.stderr()?.contains(text))
        })
    }

    pub(crate) fn wait_until_ready(&mut self) -> Result<()> {
        let socket = self.socket.clone();
        wait_until("the helper's greeting", || {
            if let Some(status) = self.child.try_wait()? {
                bail!("the helper exited with {status}: {}", self.stderr()?);
            }
            Ok(Client::connect(&socket).is_ok_and(|mut client| client.handshake().is_ok()))
        })
    }

    /// Returns the trimmed value of a line of `/proc/PID/status`.
    pub(crate) fn status_line(&self, name: &str) -> Result<String> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(|value| value.trim().to_owned())
            .with_context(|| format!("no {name} in the status of {}", self.pid()))
    }

    /// Returns the number of the helper's open descriptors.
    pub(crate) fn descriptors(&self) -> Result<usize> {
        let dir = format!("/proc/{}/fd", self.pid());
        Ok(fs::read_dir(dir)?.count())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both calls fail only if the process has been reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
