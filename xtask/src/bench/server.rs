//! A contestant that runs.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::contestant::Contestant;
use super::cores::Cores;
use super::part::connect;
use crate::process::wait_for_end;

/// How long it may take to start and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two attempts to connect: short, as the time to start is measured by them.
const PAUSE: Duration = Duration::from_micros(50);

/// The process.
pub(super) struct Server {
    process: Child,
    pub(super) socket: PathBuf,
    /// From before the process was made until a client had been greeted.
    pub(super) start_time: Duration,
}

impl Server {
    /// Starts a contestant by `command`, which gets its arguments and more of them, with its socket and
    /// what it says in `folder`.
    pub(super) fn start(
        mut command: Command,
        contestant: &Contestant,
        arguments: &[OsString],
        folder: &Path,
        cores: Option<&Cores>,
    ) -> Result<Self> {
        let socket = folder.join(format!("{}.sock", contestant.name));
        let complaints = folder.join(format!("{}.stderr", contestant.name));
        command
            .args(&contestant.arguments)
            .args(arguments)
            .arg(contestant.socket_option)
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&complaints).context("cannot keep a contestant's stderr")?);
        let start = Instant::now();
        let mut spawn = || {
            command
                .spawn()
                .with_context(|| format!("cannot start {}", contestant.name))
        };
        let process = match cores {
            Some(cores) => cores.for_contestant(spawn)?,
            None => spawn()?,
        };
        let mut server = Self {
            process,
            socket,
            start_time: Duration::ZERO,
        };
        while connect(&server.socket, PATIENCE).is_err() {
            if start.elapsed() > PATIENCE || server.process.try_wait()?.is_some() {
                let complaints = fs::read_to_string(&complaints).unwrap_or_default();
                bail!("{} does not serve: {}", contestant.name, complaints.trim());
            }
            thread::sleep(PAUSE);
        }
        server.start_time = start.elapsed();
        Ok(server)
    }

    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _already_gone = kill_process(Pid::from_child(&self.process), Signal::TERM);
        if !matches!(wait_for_end(&mut self.process, PATIENCE), Ok(Some(_))) {
            eprintln!("xtask: process {} does not end, it is killed", self.id());
            let _already_gone = self.process.kill();
            let _already_gone = self.process.wait();
        }
        // Some leave it; the next one of the name begins without.
        let _already_gone = fs::remove_file(&self.socket);
    }
}
