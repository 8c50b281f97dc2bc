// SPDX-License-Identifier: MIT OR Apache-2.0

//! A guest's connection to the helper, as QEMU uses it.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use pr_helper_protocol::Client;

use super::commands::PrOutCommand;
use super::device::Reply;
use crate::guest::helper::SOCKET;

/// The helper's `--io-timeout`.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// Arguments of the helper, which serves as an unprivileged user.
pub(super) const ARGUMENTS: [&str; 7] = arguments("10");

/// Arguments of a helper without trace, for measurements.
pub(super) const UNTRACED_ARGUMENTS: [&str; 4] = ["-u", "nobody", "--io-timeout", "10"];

/// `--io-timeout` for cases that wait until it expires, and the arguments with it.
pub(super) const SHORT_TIMEOUT: Duration = Duration::from_secs(4);
pub(super) const SHORT_TIMEOUT_ARGUMENTS: [&str; 7] = arguments("4");

const fn arguments(io_timeout: &str) -> [&str; 7] {
    [
        "-u",
        "nobody",
        "--io-timeout",
        io_timeout,
        "--trace-timestamp",
        "-T",
        "pr_helper_*,file=/run/pr-helper.trace",
    ]
}

/// Trace of the running or last helper.
pub(super) const TRACE: &str = "/run/pr-helper.trace";

/// Timeout of a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// A guest's disk, and the connection of its QEMU to the helper.
pub(super) struct HelperClient {
    client: Client,
    disk: File,
}

impl HelperClient {
    /// Connects, and opens the disk for the lifetime of this value, like QEMU.
    pub(super) fn connect(disk: &Path) -> Result<Self> {
        let socket = UnixStream::connect(SOCKET).context("cannot connect to the helper")?;
        socket.set_read_timeout(Some(RESPONSE_TIMEOUT))?;
        let file = File::options().read(true).write(true).open(disk);
        Ok(Self {
            client: Client::negotiate(socket)?,
            disk: file.with_context(|| format!("cannot open {}", disk.display()))?,
        })
    }

    /// Sends PERSISTENT RESERVE IN.
    pub(super) fn reserve_in(&mut self, action: u8, allocation: u16) -> Result<Reply> {
        let mut cdb = [0; 16];
        cdb[..2].copy_from_slice(&[0x5e, action]);
        cdb[7..9].copy_from_slice(&allocation.to_be_bytes());
        self.execute(cdb, &[])
    }

    /// Sends PERSISTENT RESERVE OUT.
    pub(super) fn reserve_out(&mut self, pr_out: &PrOutCommand) -> Result<Reply> {
        self.execute(pr_out.cdb, &pr_out.parameter_list)
    }

    fn execute(&mut self, cdb: [u8; 16], parameter_list: &[u8]) -> Result<Reply> {
        let response = self
            .client
            .execute(cdb, self.disk.as_fd(), parameter_list)?;
        Ok(Reply::Response {
            status: response.status.0,
            sense: response.sense.to_vec(),
            data: response.data,
        })
    }
}

/// Returns the result of `work` and the time it took.
pub(super) fn measure<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    let result = work()?;
    Ok((result, start.elapsed()))
}
