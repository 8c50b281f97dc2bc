//! Clients that ask again and again, and connect again when they have lost their helper.

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
use scsi_pr::Status;

use crate::guest::helper::SOCKET;

/// How many there are.
const CLIENTS: usize = 4;

/// Between two questions, so that the machine's only processor has time for a guest.
const PAUSE: Duration = Duration::from_millis(10);

/// READ KEYS, of eight bytes.
const READ_KEYS: [u8; 16] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0];

/// Clients at work.
pub(super) struct Load {
    is_over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Result<Count>>>,
}

/// What has become of what was asked.
#[derive(Default)]
pub(super) struct Count {
    /// It was answered.
    pub(super) answered: u64,
    /// It was on its way when the helper ended.
    pub(super) lost: u64,
}

impl Load {
    /// They ask about `disk`.
    pub(super) fn start(disk: &Path) -> Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let is_over = Arc::clone(&is_over);
            let disk =
                File::open(disk).with_context(|| format!("cannot open {}", disk.display()))?;
            Ok(thread::spawn(move || ask(&disk, &is_over)))
        };
        let clients: Result<_> = (0..CLIENTS).map(client).collect();
        Ok(Self {
            clients: clients?,
            is_over,
        })
    }

    /// Ends them. Each has to have had nothing but good answers, and losses.
    pub(super) fn stop(self) -> Result<Count> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Count::default();
        for client in self.clients {
            let count = client.join().map_err(|_| anyhow!("a client panicked"))??;
            ensure!(count.answered > 0, "a client was never answered");
            all.answered += count.answered;
            all.lost += count.lost;
        }
        Ok(all)
    }
}

fn ask(disk: &File, is_over: &AtomicBool) -> Result<Count> {
    let mut count = Count::default();
    while !is_over.load(Ordering::Relaxed) {
        // There is always somebody who listens; whether somebody serves is seen by the greeting.
        let mut client = match Client::connect(Path::new(SOCKET)) {
            Ok(client) => client,
            Err(ClientError::Handshake(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        while !is_over.load(Ordering::Relaxed) {
            match client.execute(READ_KEYS, disk.as_fd(), &[]) {
                Ok(response) if response.status == Status::GOOD => count.answered += 1,
                Ok(response) => bail!("READ KEYS is answered with {:?}", response.status),
                // Nothing was sent, so nothing is lost: QEMU sends it again too.
                Err(ClientError::Send(_)) => break,
                Err(ClientError::Answer(_)) => {
                    count.lost += 1;
                    break;
                }
                Err(error) => return Err(error.into()),
            }
            thread::sleep(PAUSE);
        }
    }
    Ok(count)
}
