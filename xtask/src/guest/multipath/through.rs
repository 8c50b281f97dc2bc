//! Commands through the helper, as the QEMU of a guest sends them.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use pr_helper_protocol::Client;

use super::commands::Order;
use super::device::Reply;
use crate::guest::helper::SOCKET;

/// How long the helper gives a command.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// The helper's arguments: as a user without rights, who has to be enough.
pub(super) const ARGUMENTS: [&str; 7] = [
    "-u",
    "nobody",
    "--io-timeout",
    "10",
    "--trace-timestamp",
    "-T",
    "pr_helper_*,file=/run/pr-helper.trace",
];

/// What the helper that runs now, or ran last, has done.
pub(super) const TRACE: &str = "/run/pr-helper.trace";

/// When a helper that has not answered never will.
const NEVER: Duration = Duration::from_secs(60);

/// A guest's disk, and its QEMU's connection to the helper.
pub(super) struct Guest {
    client: Client,
    disk: File,
}

impl Guest {
    /// Opens the disk, which is kept open as QEMU keeps it.
    pub(super) fn connect(disk: &Path) -> Result<Self> {
        let socket = UnixStream::connect(SOCKET).context("cannot connect to the helper")?;
        socket.set_read_timeout(Some(NEVER))?;
        let file = File::options().read(true).write(true).open(disk);
        Ok(Self {
            client: Client::negotiate(socket)?,
            disk: file.with_context(|| format!("cannot open {}", disk.display()))?,
        })
    }

    /// PERSISTENT RESERVE IN.
    pub(super) fn ask(&mut self, action: u8, allocation: u16) -> Result<Reply> {
        let mut cdb = [0; 16];
        cdb[..2].copy_from_slice(&[0x5e, action]);
        cdb[7..9].copy_from_slice(&allocation.to_be_bytes());
        self.execute(cdb, &[])
    }

    /// PERSISTENT RESERVE OUT.
    pub(super) fn tell(&mut self, order: &Order) -> Result<Reply> {
        self.execute(order.cdb, &order.list)
    }

    fn execute(&mut self, cdb: [u8; 16], list: &[u8]) -> Result<Reply> {
        let response = self.client.execute(cdb, self.disk.as_fd(), list)?;
        Ok(Reply::Answer {
            status: response.status.0,
            sense: response.sense.to_vec(),
            data: response.data,
        })
    }
}

/// What a command came to, and how long it took.
pub(super) fn clocked<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    let result = work()?;
    Ok((result, start.elapsed()))
}
