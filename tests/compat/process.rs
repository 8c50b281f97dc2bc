//! A helper as a process: start it in a case's own surroundings, look at it, end it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::case::may_send_commands;
use crate::client::{Client, DEADLINE};
use crate::helper::Helper;
use crate::scratch::Scratch;

/// Between two looks at something that has no wake-up.
const PAUSE: Duration = Duration::from_millis(3);

/// Looks until `ready` says so.
pub(crate) fn wait_until(what: &str, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !ready()? {
        ensure!(start.elapsed() < DEADLINE, "waited in vain: {what}");
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// A helper that is about to be started.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    helper: &'a Helper,
    scratch: &'a Scratch,
    socket: PathBuf,
    arguments: Vec<OsString>,
    prelude: String,
    stdin: Option<OwnedFd>,
    folder: Option<PathBuf>,
}

impl Helper {
    /// Prepares a start with exactly the arguments that are added.
    pub(crate) fn bare<'a>(&'a self, scratch: &'a Scratch) -> Launch<'a> {
        Launch {
            helper: self,
            scratch,
            socket: scratch.socket(),
            arguments: Vec::new(),
            prelude: String::new(),
            stdin: None,
            folder: None,
        }
    }

    /// Prepares a start with a socket in the case's folder.
    pub(crate) fn serving<'a>(&'a self, scratch: &'a Scratch) -> Launch<'a> {
        let socket = scratch.socket();
        self.bare(scratch).arg("-k").arg(socket)
    }
}

impl Launch<'_> {
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    pub(crate) fn args<T: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = T>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// Shell commands to be run in the process before it becomes the helper.
    pub(crate) fn prelude(mut self, commands: &str) -> Self {
        self.prelude = commands.to_owned();
        self
    }

    /// What the prelude finds as its standard input.
    pub(crate) fn stdin(mut self, descriptor: impl Into<OwnedFd>) -> Self {
        self.stdin = Some(descriptor.into());
        self
    }

    pub(crate) fn current_folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Where the helper will listen, if not at the usual place.
    pub(crate) fn listening_at(mut self, socket: PathBuf) -> Self {
        self.socket = socket;
        self
    }

    /// Starts the helper and does not wait for anything.
    pub(crate) fn spawn(self) -> Result<Running> {
        let errors = tempfile::NamedTempFile::new()?;
        let output = tempfile::NamedTempFile::new()?;
        let mut command = if self.prelude.is_empty() {
            Command::new(self.helper.path())
        } else {
            let mut shell = Command::new("/bin/sh");
            shell.arg("-c");
            shell.arg(format!("{} exec \"$0\" \"$@\"", self.prelude));
            shell.arg(self.helper.path());
            shell
        };
        command.args(&self.arguments).env_clear();
        command.env("PATH", "/usr/bin:/bin");
        command.current_dir(
            self.folder
                .as_deref()
                .unwrap_or_else(|| self.scratch.folder()),
        );
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

    /// Starts the helper and waits until it ends by itself.
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

/// A helper that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Checks that it gave up as it should: status 1, and a line that begins with its name and has
    /// `word` in it, in whatever case.
    pub(crate) fn refused(&self, word: &str) -> Result<()> {
        ensure!(self.status.code() == Some(1), "not status 1: {self:?}");
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

    /// Checks that it ended well and wrote nothing to stderr.
    pub(crate) fn succeeded(&self) -> Result<()> {
        ensure!(self.status.success(), "{self:?}");
        ensure!(self.stderr.is_empty(), "{self:?}");
        Ok(())
    }
}

/// A helper process. Killed with the value.
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

    /// A client after the handshake.
    pub(crate) fn client(&self) -> Result<Client> {
        let mut client = self.stranger()?;
        client.handshake()?;
        Ok(client)
    }

    /// A client before the handshake.
    pub(crate) fn stranger(&self) -> Result<Client> {
        Client::connect(&self.socket)
            .with_context(|| format!("cannot connect to {}", self.socket.display()))
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid(), signal)?)
    }

    /// Ends the helper as a service manager does.
    pub(crate) fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait()
    }

    /// Waits for the helper's end.
    pub(crate) fn wait(&mut self) -> Result<ExitStatus> {
        wait_until("the helper's end", || Ok(self.child.try_wait()?.is_some()))?;
        Ok(self.child.wait()?)
    }

    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// What it has written to stderr, but for the warning that ours gives where it is started without
    /// the capability that it is for.
    pub(crate) fn stderr(&self) -> Result<String> {
        let text = fs::read_to_string(self.errors.path())?;
        if may_send_commands() {
            return Ok(text);
        }
        let expected = |line: &&str| !line.contains("no CAP_SYS_RAWIO");
        Ok(text.split_inclusive('\n').filter(expected).collect())
    }

    /// Waits for a text on the helper's stderr.
    pub(crate) fn says(&self, text: &str) -> Result<()> {
        wait_until(&format!("`{text}` on stderr"), || {
            Ok(self.stderr()?.contains(text))
        })
    }

    pub(crate) fn wait_until_ready(&mut self) -> Result<()> {
        let socket = self.socket.clone();
        wait_until("the helper's greeting", || {
            if let Some(status) = self.child.try_wait()? {
                bail!("the helper ended with {status}: {}", self.stderr()?);
            }
            Ok(Client::connect(&socket).is_ok_and(|mut client| client.handshake().is_ok()))
        })
    }

    /// The value of a line of `/proc/PID/status`, without the blanks around it.
    pub(crate) fn status_line(&self, name: &str) -> Result<String> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(|value| value.trim().to_owned())
            .with_context(|| format!("no {name} in the status of {}", self.pid()))
    }

    /// How many descriptors the helper has open.
    pub(crate) fn descriptors(&self) -> Result<usize> {
        let folder = format!("/proc/{}/fd", self.pid());
        Ok(fs::read_dir(folder)?.count())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
