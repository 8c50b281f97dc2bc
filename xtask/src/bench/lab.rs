//! What every scenario has at hand: the parts, a folder, and how long to look.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::contestant::Contestant;
use super::cores::Cores;
use super::part::{Crowd, Gathered, Load, Order, Served};
use super::server::Server;
use super::worker::Worker;

/// The most connections that one process of a crowd makes; ours gives a process 512.
const MOST_OF_A_PROCESS: usize = 400;

/// How long a client of a crowd waits for its handshake, in milliseconds.
const PATIENCE: u64 = 5000;

/// The lab.
pub(super) struct Lab {
    /// This program as it is released.
    pub(super) parts: PathBuf,
    folder: TempDir,
    /// How long a point is measured.
    pub(super) length: Duration,
    cores: Option<Cores>,
}

impl Lab {
    pub(super) fn new(parts: PathBuf, length: Duration, cores: Option<Cores>) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder")?;
        Ok(Self {
            parts,
            folder,
            length,
            cores,
        })
    }

    /// Sockets and soft LUNs are here.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A trace is here.
    pub(super) fn trace(&self) -> PathBuf {
        self.folder().join("trace")
    }

    /// Starts a contestant.
    pub(super) fn start(&self, contestant: &Contestant) -> Result<Server> {
        self.start_as(Command::new(&contestant.program), contestant, &[])
    }

    /// The same, with its socket in another folder: beside another one of the same name.
    pub(super) fn start_in(&self, contestant: &Contestant, folder: &Path) -> Result<Server> {
        let command = Command::new(&contestant.program);
        Server::start(command, contestant, &[], folder, self.cores.as_ref())
    }

    /// The same, with more arguments.
    pub(super) fn start_with(
        &self,
        contestant: &Contestant,
        arguments: &[OsString],
    ) -> Result<Server> {
        self.start_as(Command::new(&contestant.program), contestant, arguments)
    }

    /// The same, with no more than so many descriptors.
    pub(super) fn start_limited(
        &self,
        contestant: &Contestant,
        descriptors: u32,
    ) -> Result<Server> {
        // The shell sets both limits, so the helper cannot raise its own again, and becomes it.
        let mut command = Command::new("/bin/sh");
        let script = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
        command.args(["-c", &script]).arg(&contestant.program);
        self.start_as(command, contestant, &[])
    }

    fn start_as(
        &self,
        command: Command,
        contestant: &Contestant,
        arguments: &[OsString],
    ) -> Result<Server> {
        let cores = self.cores.as_ref();
        Server::start(command, contestant, arguments, self.folder(), cores)
    }

    /// Clients that ask for `/dev/null` without a pause.
    pub(super) fn load(&self, server: &Server, clients: usize) -> Load {
        Load {
            socket: server.socket.clone(),
            server: server.id(),
            device: "/dev/null".into(),
            clients,
            milliseconds: u64::try_from(self.length.as_millis()).unwrap_or(u64::MAX),
            pace: 0,
            order: Order::ReadKeys,
        }
    }

    /// Connections that stay and do nothing.
    pub(super) fn crowd(&self, server: &Server, connections: usize) -> Crowd {
        Crowd {
            socket: server.socket.clone(),
            connections,
            patience: PATIENCE,
            leave: false,
            pace: 0,
            devices: Vec::new(),
        }
    }

    /// Puts a load on.
    pub(super) fn run(&self, load: &Load) -> Result<Served> {
        let mut worker = self.start_load(load)?;
        worker.begin()?;
        worker.found()
    }

    /// A load that is connected and has not begun.
    pub(super) fn start_load(&self, load: &Load) -> Result<Worker> {
        Worker::start(&self.parts, &load.words())
    }

    /// A crowd that has not begun, in as many processes as it takes.
    pub(super) fn start_crowd(&self, crowd: &Crowd) -> Result<Vec<Worker>> {
        shares(crowd.connections)
            .map(|connections| {
                let share = Crowd {
                    connections,
                    ..crowd.clone()
                };
                Worker::start(&self.parts, &share.words())
            })
            .collect()
    }
}

/// Lets a crowd in; gives how many connections it has, and how many it could not make.
pub(super) fn gather(crowd: &mut [Worker]) -> Result<Gathered> {
    for worker in &mut *crowd {
        worker.begin()?;
    }
    let mut all = Gathered { made: 0, failed: 0 };
    for worker in crowd {
        let Gathered { made, failed } = worker.found()?;
        all.made += made;
        all.failed += failed;
    }
    Ok(all)
}

/// A number of connections as what each process has of them.
fn shares(connections: usize) -> impl Iterator<Item = usize> {
    (0..connections)
        .step_by(MOST_OF_A_PROCESS)
        .map(move |done| (connections - done).min(MOST_OF_A_PROCESS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_process_has_too_many_connections() {
        let shares = |connections| shares(connections).collect::<Vec<_>>();
        assert_eq!(shares(64), [64]);
        assert_eq!(shares(1000), [400, 400, 200]);
        assert_eq!(shares(800), [400, 400]);
    }
}
