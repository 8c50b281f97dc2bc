// SPDX-License-Identifier: MIT OR Apache-2.0

//! A helper as a child process: this project's, QEMU's, or any program with a socket of the same
//! protocol.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::mem;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::usage::Usage;
use crate::{TEST_TIMEOUT, TestClient, eventually, process};

/// Arguments of a shell that passes the socket on its standard input to the program after them, as
/// a service manager does (`sd_listen_fds(3)`).
const PASS_LISTENER: [&str; 3] = [
    "sh",
    "-c",
    "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" \"$@\"",
];

/// Number of lines of a helper's log that a failed test prints.
const LOG_LINES: usize = 20;

/// Builder of a [`HelperProcess`].
pub struct Builder {
    program: PathBuf,
    wrapper: Vec<OsString>,
    socket_option: Option<&'static str>,
    socket: Option<PathBuf>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    clears_env: bool,
    dir: Option<PathBuf>,
    stdin: Stdio,
    stdout: Stdio,
    stderr: Option<Stdio>,
    stderr_path: Option<PathBuf>,
}

impl Builder {
    /// Appends an argument.
    #[must_use]
    pub fn arg(self, arg: impl AsRef<OsStr>) -> Self {
        self.args([arg])
    }

    /// Appends arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(to_owned(args));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.envs([(name, value)])
    }

    /// Sets environment variables.
    #[must_use]
    pub fn envs(
        mut self,
        variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> Self {
        let variables = variables.into_iter();
        self.env.extend(
            variables.map(|(name, value)| (name.as_ref().to_owned(), value.as_ref().to_owned())),
        );
        self
    }

    /// Removes the inherited environment variables.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.clears_env = true;
        self
    }

    /// Sets a command that gets the helper's command line after its own arguments and executes it:
    /// in the same process, or in a child.
    #[must_use]
    pub fn wrapper(mut self, wrapper: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.wrapper = to_owned(wrapper);
        self
    }

    /// Sets an existing directory for the socket and the log, which is also the working directory.
    /// By default the helper has a temporary directory, where every user can create files.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Sets the path of the socket, which is the file `socket` in the directory by default.
    #[must_use]
    pub fn socket(mut self, socket: impl Into<PathBuf>) -> Self {
        self.socket = Some(socket.into());
        self
    }

    /// Sets the option for the path of the socket, which is `-k` by default. With `None`, the path
    /// is not passed to the helper.
    #[must_use]
    pub fn socket_option(mut self, option: Option<&'static str>) -> Self {
        self.socket_option = option;
        self
    }

    /// Passes a listening socket to the helper, as a service manager does. [`Self::socket`] has to
    /// be its path.
    #[must_use]
    pub fn listener(self, listener: impl Into<OwnedFd>) -> Self {
        self.wrapper(PASS_LISTENER)
            .socket_option(None)
            .stdin(listener.into())
    }

    /// Sets the standard input, which is empty by default.
    #[must_use]
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Sets the standard output, which is inherited by default.
    #[must_use]
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdout = stdout.into();
        self
    }

    /// Sets the standard error, which is the log by default. The log is empty then.
    #[must_use]
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stderr = Some(stderr.into());
        self
    }

    /// Sets the path of the log, which is the file `stderr` in the directory by default. The log of
    /// an earlier helper is continued.
    #[must_use]
    pub fn log(mut self, path: impl Into<PathBuf>) -> Self {
        self.stderr_path = Some(path.into());
        self
    }

    /// Starts the helper and waits until it has served a client: see
    /// [`HelperProcess::wait_until_ready`].
    pub fn start(self) -> Result<HelperProcess> {
        let mut helper = self.spawn()?;
        helper.wait_until_ready()?;
        Ok(helper)
    }

    /// Starts the helper.
    pub fn spawn(self) -> Result<HelperProcess> {
        let (mut command, dir, socket, log) = self.command()?;
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", process::command_line(&command)))?;
        Ok(HelperProcess {
            child,
            dir,
            socket,
            log,
        })
    }

    /// Runs the helper until it exits by itself, and returns what it has written to standard output
    /// and standard error.
    pub fn output(self) -> Result<Output> {
        let builder = self.stdout(Stdio::piped()).stderr(Stdio::piped());
        let (mut command, _dir, _, _) = builder.command()?;
        command
            .output()
            .with_context(|| format!("cannot run {}", process::command_line(&command)))
    }

    fn command(mut self) -> Result<(Command, Dir, PathBuf, PathBuf)> {
        let dir = match self.dir {
            Some(dir) => Dir::Existing(dir),
            None => Dir::temporary().context("cannot create a temporary directory")?,
        };
        let socket = self.socket.unwrap_or_else(|| dir.path().join("socket"));
        let log = self
            .stderr_path
            .unwrap_or_else(|| dir.path().join("stderr"));
        let file = File::options().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("cannot open {}", log.display()))?;
        let mut words = mem::take(&mut self.wrapper);
        words.push(self.program.into());
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap());
        if self.clears_env {
            command.env_clear();
        }
        command
            .args(words)
            .args(self.args)
            .envs(self.env)
            .current_dir(dir.path())
            .stdin(self.stdin)
            .stdout(self.stdout)
            .stderr(self.stderr.unwrap_or_else(|| file.into()));
        if let Some(option) = self.socket_option {
            command.arg(option).arg(&socket);
        }
        Ok((command, dir, socket, log))
    }
}

fn to_owned(words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Vec<OsString> {
    let words = words.into_iter();
    words.map(|word| word.as_ref().to_owned()).collect()
}

/// Directory of a helper.
enum Dir {
    Existing(PathBuf),
    Temporary(TempDir),
}

impl Dir {
    /// Creates a directory in which every user can create files, because the helper can run as any
    /// user.
    fn temporary() -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777))?;
        Ok(Self::Temporary(dir))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Existing(path) => path,
            Self::Temporary(dir) => dir.path(),
        }
    }
}

/// A running helper. It is killed on drop.
pub struct HelperProcess {
    child: Child,
    dir: Dir,
    socket: PathBuf,
    log: PathBuf,
}

impl HelperProcess {
    /// Creates a builder for a helper with the executable `program`.
    #[must_use]
    pub fn builder(program: impl Into<PathBuf>) -> Builder {
        Builder {
            program: program.into(),
            wrapper: Vec::new(),
            socket_option: Some("-k"),
            socket: None,
            args: Vec::new(),
            env: Vec::new(),
            clears_env: false,
            dir: None,
            stdin: Stdio::null(),
            stdout: Stdio::inherit(),
            stderr: None,
            stderr_path: None,
        }
    }

    /// Waits until the helper has completed the handshake with a client, its first one, and that
    /// client has disconnected. Fails if the helper exits.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let ready = process::poll(TEST_TIMEOUT, || {
            if let Some(status) = self.child.try_wait()? {
                bail!("the helper exited with {status}: {}", self.stderr().trim());
            }
            // The socket exists a moment before the helper listens. The last helper may have left
            // one.
            let Ok(mut client) = TestClient::try_connect(&self.socket) else {
                return Ok(None);
            };
            let greeted = client.try_handshake();
            greeted.context("the helper did not complete the handshake")?;
            client.stream.shutdown(Shutdown::Write)?;
            client.assert_closed();
            Ok(Some(()))
        })?;
        ready.with_context(|| {
            let socket = self.socket.display();
            format!("no helper listens at {socket}: {}", self.stderr().trim())
        })
    }

    /// Returns the process ID: the helper's, or that of a wrapper which runs the helper in a child.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Returns the directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the path of the socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Connects a client, without the handshake.
    #[track_caller]
    #[must_use]
    pub fn connect(&self) -> TestClient {
        TestClient::connect(&self.socket)
    }

    /// Connects a client and completes the handshake. A rejected connection is made again, because
    /// an earlier client counts against the limits until a moment after its end.
    #[track_caller]
    #[must_use]
    pub fn client(&self) -> TestClient {
        eventually("a connection that is not rejected", || {
            let mut client = self.connect();
            client.try_handshake().ok().map(|()| client)
        })
    }

    /// Waits until the helper has closed its sockets of clients.
    pub fn wait_until_disconnected(&self) -> Result<()> {
        let socket = self.socket.to_string_lossy();
        // The listening socket, and a socket for each connection.
        let disconnected = process::poll(TEST_TIMEOUT, || {
            let sockets = fs::read_to_string("/proc/net/unix")?;
            let count = sockets
                .lines()
                .filter(|line| line.ends_with(&*socket))
                .count();
            Ok((count <= 1).then_some(()))
        })?;
        disconnected.with_context(|| format!("clients are connected to {socket}"))
    }

    /// Returns the resources of the process.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage::from_pid(self.pid())
    }

    /// Returns what the helper has written to standard error.
    #[must_use]
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until the helper has logged `text`.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        eventually(text, || self.stderr().contains(text).then_some(()));
    }

    /// Sends a signal to the process.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Stops all threads of the helper while `work` runs.
    #[track_caller]
    pub fn while_stopped<T>(&self, work: impl FnOnce() -> T) -> T {
        process::stop(self.pid()).unwrap();
        let result = work();
        self.signal(Signal::CONT);
        result
    }

    /// Returns the status of the process if it has exited.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until the process exits.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let status = process::wait_timeout(&mut self.child, TEST_TIMEOUT)?;
        status.with_context(|| format!("the helper does not exit: {}", self.stderr().trim()))
    }

    /// Waits until the process exits, without a timeout.
    pub fn wait_without_timeout(&mut self) -> Result<ExitStatus> {
        self.child.wait().context("cannot wait for the helper")
    }

    /// Stops the helper with SIGTERM, as a service manager does, and waits until it exits.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM);
        self.wait()
    }
}

impl Drop for HelperProcess {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let start = log.lines().count().saturating_sub(LOG_LINES);
            let last: Vec<_> = log.lines().skip(start).collect();
            eprintln!("the last lines of the helper's log:\n{}", last.join("\n"));
        }
        // Both calls fail only if the process has been reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
