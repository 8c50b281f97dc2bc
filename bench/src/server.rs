//! A running subject.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::cores::Cores;
use super::role::connect;
use super::subject::Subject;
use pr_testkit::process::wait_timeout;

/// Maximum time to start and to exit.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Delay between two attempts to connect. It limits the precision of the start time.
const CONNECT_RETRY_DELAY: Duration = Duration::from_micros(50);

/// The process of a subject.
pub(super) struct Server {
    process: Child,
    pub(super) socket: PathBuf,
    /// Time from before the spawn until the first client received its greeting.
    pub(super) start_time: Duration,
}

impl Server {
    /// Spawns `command` with the subject's arguments and `arguments`. Its socket and its stderr are
    /// in `dir`.
    pub(super) fn start(
        mut command: Command,
        subject: &Subject,
        arguments: &[OsString],
        dir: &Path,
        cores: Option<&Cores>,
    ) -> Result<Self> {
        let socket = dir.join(format!("{}.sock", subject.name));
        let stderr = dir.join(format!("{}.stderr", subject.name));
        command
            .args(&subject.arguments)
            .args(arguments)
            .arg(subject.socket_option)
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&stderr).context("cannot create a file for a subject's stderr")?);
        let start = Instant::now();
        let mut spawn = || {
            command
                .spawn()
                .with_context(|| format!("cannot start {}", subject.name))
        };
        let process = match cores {
            Some(cores) => cores.with_subject_affinity(spawn)?,
            None => spawn()?,
        };
        let mut server = Self {
            process,
            socket,
            start_time: Duration::ZERO,
        };
        while connect(&server.socket, TIMEOUT).is_err() {
            if start.elapsed() > TIMEOUT || server.process.try_wait()?.is_some() {
                let stderr = fs::read_to_string(&stderr).unwrap_or_default();
                bail!("{} did not start serving: {}", subject.name, stderr.trim());
            }
            thread::sleep(CONNECT_RETRY_DELAY);
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
        if !matches!(wait_timeout(&mut self.process, TIMEOUT), Ok(Some(_))) {
            eprintln!(
                "bench: process {} did not exit after SIGTERM; killing it",
                self.id()
            );
            let _already_gone = self.process.kill();
            let _already_gone = self.process.wait();
        }
        // Some subjects leave their socket; the next start must not find it.
        let _already_gone = fs::remove_file(&self.socket);
    }
}
