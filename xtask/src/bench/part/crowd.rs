//! The crowd: clients that connect, and then stay, leave at once, or ask once.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use pr_helper_protocol::fd_passing;
use pr_helper_protocol::wire::pad_cdb;
use scsi_pr::{InServiceAction, PersistentReserveIn};
use serde::{Deserialize, Serialize};

use super::peer::connect;

/// Arguments of the crowd.
#[derive(Args, Clone, Debug)]
pub(crate) struct Crowd {
    /// The helper's socket
    #[arg(long)]
    pub(crate) socket: PathBuf,
    /// How many connections
    #[arg(long)]
    pub(crate) connections: usize,
    /// How long each may take, in milliseconds
    #[arg(long)]
    pub(crate) patience: u64,
    /// Close each connection before the next one
    #[arg(long)]
    pub(crate) leave: bool,
    /// Microseconds from one connection to the next one; 0 is at once
    #[arg(long)]
    pub(crate) pace: u64,
    /// Send one command on each connection, for each of these in turn, and do not wait for the answers
    #[arg(long = "device")]
    pub(crate) devices: Vec<PathBuf>,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Gathered {
    /// Connections with a handshake.
    pub(crate) made: usize,
    pub(crate) failed: usize,
}

impl Crowd {
    /// How it is asked for on the command line.
    pub(crate) fn words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec![
            "bench-crowd".into(),
            "--socket".into(),
            self.socket.clone().into(),
            format!("--connections={}", self.connections).into(),
            format!("--patience={}", self.patience).into(),
            format!("--pace={}", self.pace).into(),
        ];
        words.extend(self.leave.then(|| "--leave".into()));
        let devices = self.devices.iter();
        words.extend(devices.flat_map(|device| ["--device".into(), device.clone().into()]));
        words
    }

    pub(super) fn run(&self) -> Result<()> {
        super::wait_for_the_word()?;
        let mut connections = Vec::new();
        let mut gathered = Gathered { made: 0, failed: 0 };
        let mut due = Instant::now();
        for _ in 0..self.connections {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            due += Duration::from_micros(self.pace);
            match connect(&self.socket, Duration::from_millis(self.patience)) {
                Ok(connection) => {
                    gathered.made += 1;
                    connections.extend((!self.leave).then_some(connection));
                }
                Err(_) => gathered.failed += 1,
            }
            // Where one that is to stay finds no room, the next one will not either.
            if gathered.failed > 0 && !self.leave {
                break;
            }
        }
        self.ask(&connections)?;
        super::report(&gathered)?;
        super::wait_for_the_end()
    }

    fn ask(&self, connections: &[UnixStream]) -> Result<()> {
        let open = |path: &PathBuf| {
            File::open(path).with_context(|| format!("cannot open {}", path.display()))
        };
        let devices: Vec<_> = self.devices.iter().map(open).collect::<Result<_>>()?;
        let read = PersistentReserveIn {
            service_action: InServiceAction::ReadKeys,
            allocation_length: 8,
            control: 0,
        };
        // Where there are no devices, nobody asks.
        for (connection, device) in connections.iter().zip(devices.iter().cycle()) {
            fd_passing::send(connection.as_fd(), &pad_cdb(&read.encode()), device.as_fd())
                .context("cannot send a request")?;
        }
        Ok(())
    }
}
