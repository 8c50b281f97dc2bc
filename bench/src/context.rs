// SPDX-License-Identifier: MIT OR Apache-2.0

//! Shared state of the scenarios: the program, a scratch directory, and the measuring time.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::cores::Cores;
use super::role::{ConnectionCounts, IdleClients, Load, Served, Workload};
use super::server::Server;
use super::subject::Subject;
use super::worker::Worker;

/// Maximum connections of one process. Our helper allows 512 connections of a process.
const MAX_PER_PROCESS: usize = 400;

/// Time that a client waits for its handshake, in milliseconds.
const HANDSHAKE_TIMEOUT_MS: u64 = 5000;

/// State that every scenario uses.
pub(super) struct BenchContext {
    /// Release build of this program.
    pub(super) executable: PathBuf,
    dir: TempDir,
    /// Measuring time of a point.
    pub(super) length: Duration,
    cores: Option<Cores>,
}

impl BenchContext {
    pub(super) fn new(executable: PathBuf, length: Duration, cores: Option<Cores>) -> Result<Self> {
        let dir = tempfile::tempdir().context("cannot create a directory")?;
        Ok(Self {
            executable,
            dir,
            length,
            cores,
        })
    }

    /// Returns the directory for sockets and soft LUNs.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the path of the trace file.
    pub(super) fn trace(&self) -> PathBuf {
        self.dir().join("trace")
    }

    /// Starts a subject.
    pub(super) fn start(&self, subject: &Subject) -> Result<Server> {
        self.start_with(subject, &[])
    }

    /// Like [`Self::start`], with the socket in another directory, beside a server of the same
    /// name.
    pub(super) fn start_in(&self, subject: &Subject, dir: &Path) -> Result<Server> {
        Server::start(&[], subject, &[], dir, self.cores.as_ref())
    }

    /// Like [`Self::start`], with additional arguments.
    pub(super) fn start_with(&self, subject: &Subject, arguments: &[OsString]) -> Result<Server> {
        let cores = self.cores.as_ref();
        Server::start(&[], subject, arguments, self.dir(), cores)
    }

    /// Like [`Self::start`], under a program that executes the subject.
    pub(super) fn start_wrapped(&self, wrapper: &[&OsStr], subject: &Subject) -> Result<Server> {
        Server::start(wrapper, subject, &[], self.dir(), self.cores.as_ref())
    }

    /// Like [`Self::start`], with a limit of open files.
    pub(super) fn start_limited(&self, subject: &Subject, descriptors: u32) -> Result<Server> {
        // The shell sets the soft and the hard limit, so the helper cannot raise its own, and then
        // executes the helper.
        let script = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
        let wrapper = ["/bin/sh", "-c", &script].map(OsStr::new);
        self.start_wrapped(&wrapper, subject)
    }

    /// Returns a load of clients that send READ KEYS for `/dev/null` without a pause.
    pub(super) fn load(&self, server: &Server, clients: usize) -> Load {
        Load {
            socket: server.socket.clone(),
            server: server.pid().as_raw_pid(),
            device: "/dev/null".into(),
            clients,
            milliseconds: u64::try_from(self.length.as_millis()).unwrap_or(u64::MAX),
            pace: 0,
            workload: Workload::ReadKeys,
        }
    }

    /// Returns connections that stay open and idle.
    pub(super) fn idle_clients(&self, server: &Server, connections: usize) -> IdleClients {
        IdleClients {
            socket: server.socket.clone(),
            connections,
            timeout: HANDSHAKE_TIMEOUT_MS,
            disconnect: false,
            pace: 0,
            devices: Vec::new(),
        }
    }

    /// Runs a load to its end.
    pub(super) fn run(&self, load: &Load) -> Result<Served> {
        let mut worker = self.start_load(load)?;
        worker.send_start()?;
        worker.result()
    }

    /// Like [`Self::run`]; fails if a request timed out.
    pub(super) fn run_answered(&self, load: &Load) -> Result<Served> {
        let served = self.run(load)?;
        let (clients, device) = (load.clients, load.device.display());
        ensure!(
            served.unanswered == 0,
            "{clients} clients of {device}: a request timed out"
        );
        Ok(served)
    }

    /// Starts the process of a load, which connects and waits for the start signal.
    pub(super) fn start_load(&self, load: &Load) -> Result<Worker> {
        Worker::start(&self.executable, &load.args())
    }

    /// Starts the processes of idle clients, which wait for the start signal.
    pub(super) fn start_idle_clients(&self, idle_clients: &IdleClients) -> Result<Vec<Worker>> {
        shares(idle_clients.connections)
            .map(|connections| {
                let share = IdleClients {
                    connections,
                    ..idle_clients.clone()
                };
                Worker::start(&self.executable, &share.args())
            })
            .collect()
    }
}

/// Has idle clients connect; returns the numbers of connections and of failures.
pub(super) fn connect_all(idle_clients: &mut [Worker]) -> Result<ConnectionCounts> {
    for worker in &mut *idle_clients {
        worker.send_start()?;
    }
    let mut total = ConnectionCounts { made: 0, failed: 0 };
    for worker in idle_clients {
        let ConnectionCounts { made, failed } = worker.result()?;
        total.made += made;
        total.failed += failed;
    }
    Ok(total)
}

/// Splits a number of connections into the shares of the processes.
fn shares(connections: usize) -> impl Iterator<Item = usize> {
    (0..connections)
        .step_by(MAX_PER_PROCESS)
        .map(move |done| (connections - done).min(MAX_PER_PROCESS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_stay_below_process_limit() {
        let shares = |connections| shares(connections).collect::<Vec<_>>();
        assert_eq!(shares(64), [64]);
        assert_eq!(shares(1000), [400, 400, 200]);
        assert_eq!(shares(800), [400, 400]);
    }
}
