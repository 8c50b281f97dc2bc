// SPDX-License-Identifier: MIT OR Apache-2.0

//! Clients that send requests continuously, and reconnect when the helper has exited.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use pr_helper_protocol::Client;
use pr_helper_protocol::client::ClientError;
use pr_testkit::cdb::read_keys;
use scsi_pr::Status;

use crate::guest::helper::SOCKET;

/// Number of clients.
const CLIENTS: usize = 4;

/// Delay between two requests, which leaves time of the only processor to the guest.
const REQUEST_INTERVAL: Duration = Duration::from_millis(10);

/// The running clients.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Result<RequestCounts>>>,
}

/// Number of requests by result.
#[derive(Default)]
pub(super) struct RequestCounts {
    /// Requests with a response.
    pub(super) answered: u64,
    /// Requests that were in flight when the helper exited.
    pub(super) lost: u64,
}

impl Load {
    /// Starts clients that send requests for `disk`.
    pub(super) fn start(disk: &Path) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let stop = Arc::clone(&stop);
            let disk =
                File::open(disk).with_context(|| format!("cannot open {}", disk.display()))?;
            Ok(thread::spawn(move || run_client(&disk, &stop)))
        };
        let clients: Result<_> = (0..CLIENTS).map(client).collect();
        Ok(Self {
            clients: clients?,
            stop,
        })
    }

    /// Stops the clients. Every request must have been answered with GOOD or lost.
    pub(super) fn stop(self) -> Result<RequestCounts> {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = RequestCounts::default();
        for client in self.clients {
            let count = client
                .join()
                .map_err(|_| anyhow!("a client thread panicked"))??;
            ensure!(count.answered > 0, "a client received no response");
            total.answered += count.answered;
            total.lost += count.lost;
        }
        Ok(total)
    }
}

fn run_client(disk: &File, stop: &AtomicBool) -> Result<RequestCounts> {
    let command = read_keys(8);
    let mut count = RequestCounts::default();
    while !stop.load(Ordering::Relaxed) {
        // The supervisor's socket always accepts connections; only the greeting shows that a helper
        // runs.
        let mut client = match Client::connect(Path::new(SOCKET)) {
            Ok(client) => client,
            Err(ClientError::Handshake(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        while !stop.load(Ordering::Relaxed) {
            match client.execute(command.cdb, disk.as_fd(), &[]) {
                Ok(response) if response.status == Status::GOOD => count.answered += 1,
                Ok(response) => bail!("READ KEYS returned {:?}", response.status),
                // The request was not sent, so it is not lost; QEMU also sends it again.
                Err(ClientError::Send(_)) => break,
                Err(ClientError::Receive(_)) => {
                    count.lost += 1;
                    break;
                }
                Err(error) => return Err(error.into()),
            }
            thread::sleep(REQUEST_INTERVAL);
        }
    }
    Ok(count)
}
