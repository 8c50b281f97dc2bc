// SPDX-License-Identifier: MIT OR Apache-2.0

//! Clients that connect and then stay idle, disconnect at once, or send one command.

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
use pr_testkit::cdb::read_keys;
use serde::{Deserialize, Serialize};

use super::raw_client::connect;

/// Arguments of `bench-idle-clients`.
#[derive(Args, Clone, Debug)]
pub(crate) struct IdleClients {
    /// The helper's socket
    #[arg(long)]
    pub(crate) socket: PathBuf,
    /// Number of connections
    #[arg(long)]
    pub(crate) connections: usize,
    /// Timeout of each step of a handshake, in milliseconds
    #[arg(long)]
    pub(crate) timeout: u64,
    /// Close each connection before the next one
    #[arg(long)]
    pub(crate) disconnect: bool,
    /// Microseconds between the starts of two connections; 0 is without a delay
    #[arg(long)]
    pub(crate) pace: u64,
    /// Send one command on each connection, to these devices in turn, and do not wait for the
    /// responses
    #[arg(long = "device")]
    pub(crate) devices: Vec<PathBuf>,
}

/// Result of connecting.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ConnectionCounts {
    /// Connections that completed the handshake.
    pub(crate) made: usize,
    pub(crate) failed: usize,
}

impl IdleClients {
    /// Returns the command line.
    pub(crate) fn args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec![
            "bench-idle-clients".into(),
            "--socket".into(),
            self.socket.clone().into(),
            format!("--connections={}", self.connections).into(),
            format!("--timeout={}", self.timeout).into(),
            format!("--pace={}", self.pace).into(),
        ];
        args.extend(self.disconnect.then(|| "--disconnect".into()));
        let devices = self.devices.iter();
        args.extend(devices.flat_map(|device| ["--device".into(), device.clone().into()]));
        args
    }

    pub(super) fn run(&self) -> Result<()> {
        super::wait_for_start_signal()?;
        let mut connections = Vec::new();
        let mut counts = ConnectionCounts { made: 0, failed: 0 };
        let mut due = Instant::now();
        for _ in 0..self.connections {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            due += Duration::from_micros(self.pace);
            match connect(&self.socket, Duration::from_millis(self.timeout)) {
                Ok(connection) => {
                    counts.made += 1;
                    connections.extend((!self.disconnect).then_some(connection));
                }
                Err(_) => counts.failed += 1,
            }
            // If a connection that stays open is rejected, further ones will be rejected too.
            if counts.failed > 0 && !self.disconnect {
                break;
            }
        }
        self.send_commands(&connections)?;
        super::report(&counts)?;
        super::wait_for_stdin_eof()
    }

    fn send_commands(&self, connections: &[UnixStream]) -> Result<()> {
        let open = |path: &PathBuf| {
            File::open(path).with_context(|| format!("cannot open {}", path.display()))
        };
        let devices: Vec<_> = self.devices.iter().map(open).collect::<Result<_>>()?;
        let command = read_keys(8);
        // Sends nothing if there are no devices.
        for (connection, device) in connections.iter().zip(devices.iter().cycle()) {
            fd_passing::send(connection.as_fd(), &command.cdb, device.as_fd())
                .context("cannot send a request")?;
        }
        Ok(())
    }
}
