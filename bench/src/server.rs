// SPDX-License-Identifier: MIT OR Apache-2.0

//! A running subject.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use pr_testkit::HelperProcess;
use rustix::process::Pid;

use super::cores::Cores;
use super::role::connect;
use super::subject::Subject;

/// Maximum time to start.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Delay between two attempts to connect. It limits the precision of the start time.
const CONNECT_RETRY_DELAY: Duration = Duration::from_micros(50);

/// The process of a subject.
pub(super) struct Server {
    process: HelperProcess,
    pub(super) socket: PathBuf,
    /// Time from before the spawn until the first client received its greeting.
    pub(super) start_time: Duration,
}

impl Server {
    /// Spawns the program of `subject` under `wrapper`, with the subject's arguments and
    /// `arguments`. Its socket and its stderr are in `dir`.
    pub(super) fn start(
        wrapper: &[&OsStr],
        subject: &Subject,
        arguments: &[OsString],
        dir: &Path,
        cores: Option<&Cores>,
    ) -> Result<Self> {
        let socket = dir.join(format!("{}.sock", subject.name));
        // Some subjects leave their socket; the next start must not find it.
        let _not_left = fs::remove_file(&socket);
        // Keep the working directory, because the path of a program can be relative to it.
        let builder = HelperProcess::builder(&subject.program)
            .wrapper(wrapper)
            .args(&subject.arguments)
            .args(arguments)
            .socket_option(Some(subject.socket_option))
            .socket(&socket)
            .dir(".")
            .log(dir.join(format!("{}.stderr", subject.name)))
            .stdout(Stdio::null());
        let start = Instant::now();
        let mut process = match cores {
            Some(cores) => cores.with_subject_affinity(|| builder.spawn())?,
            None => builder.spawn()?,
        };
        while connect(&socket, TIMEOUT).is_err() {
            if start.elapsed() > TIMEOUT || process.try_wait()?.is_some() {
                let stderr = process.stderr();
                bail!("{} did not start serving: {}", subject.name, stderr.trim());
            }
            thread::sleep(CONNECT_RETRY_DELAY);
        }
        Ok(Self {
            process,
            socket,
            start_time: start.elapsed(),
        })
    }

    pub(super) fn pid(&self) -> Pid {
        self.process.pid()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.process.terminate() {
            eprintln!("bench: killing a subject: {error:#}");
        }
    }
}
