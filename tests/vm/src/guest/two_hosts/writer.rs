// SPDX-License-Identifier: MIT OR Apache-2.0

//! A guest that writes numbered blocks one after another, and a thread that observes them at the
//! target.
//!
//! The target's clock is used, because a guest's clock stands still while the guest is paused.

use std::fs::File;
use std::mem;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::remote_guest::RemoteGuest;
use crate::guest::initiator::{CommandOutput, Initiator};
use crate::guest::lio_target::SIZE;
use pr_testkit::process::poll;

/// Size of a block, and number of the first written one.
const BLOCK: usize = 512;
const FIRST: u64 = 4096;

/// Time between two observations.
const INTERVAL: Duration = Duration::from_millis(2);

/// Maximum time until a guest that can write has written.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Number of further blocks that show that the guest writes.
const SOME: u64 = 5;

/// A guest's loop, from its start until it is stopped or a write fails.
pub(super) struct Writer {
    progress: Arc<Mutex<Progress>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// Blocks seen by the target.
struct Progress {
    count: u64,
    /// Time of the last block.
    last: Instant,
    /// Longest time between two blocks since the last reset.
    longest_gap: Duration,
}

impl Writer {
    /// Starts the loop, and waits until the guest writes. Existing blocks in `image` are removed.
    pub(super) fn start(guest: &mut RemoteGuest, image: &Path) -> Result<Self> {
        let image = clear(image)?;
        let progress = Arc::new(Mutex::new(Progress {
            count: 0,
            last: Instant::now(),
            longest_gap: Duration::ZERO,
        }));
        let is_over = Arc::new(AtomicBool::new(false));
        let (shared, stop) = (Arc::clone(&progress), Arc::clone(&is_over));
        let thread = thread::spawn(move || observe(&image, &shared, &stop));
        let writer = Self {
            progress,
            is_over,
            thread: Some(thread),
        };
        guest.run(&loop_line(&guest.disk()))?.expect_code(0)?;
        writer.wait_for_writes(guest)?;
        Ok(writer)
    }

    /// Waits until the guest has written some more blocks.
    pub(super) fn wait_for_writes(&self, guest: &RemoteGuest) -> Result<()> {
        let start = self.count();
        let written = poll(WRITE_TIMEOUT, || {
            Ok((self.count() >= start + SOME).then_some(()))
        })?;
        if written.is_none() {
            guest.check_heartbeat()?;
        }
        written.context("the target sees no writes of the guest")
    }

    /// Returns the number of blocks that the guest has written.
    fn count(&self) -> u64 {
        self.progress().count
    }

    /// Returns the longest time between two writes since the last call.
    pub(super) fn take_longest_gap(&self) -> Duration {
        mem::take(&mut self.progress().longest_gap)
    }

    /// Ends the loop. No write may have failed.
    pub(super) fn stop(self, guest: &mut impl Initiator) -> Result<()> {
        guest.run("rm -f /writing")?.expect_code(0)?;
        result(guest)?.expect_code(0)?;
        let count = self.end()?;
        println!("{}: {count} writes, none failed", guest.name());
        Ok(())
    }

    /// Waits until a write has failed with RESERVATION CONFLICT.
    pub(super) fn expect_conflict(self, guest: &mut impl Initiator) -> Result<()> {
        // The kernel maps RESERVATION CONFLICT to EBADE.
        result(guest)?
            .expect_code(1)?
            .expect_contains("Invalid exchange")?;
        let count = self.end()?;
        println!(
            "{}: RESERVATION CONFLICT after {count} writes",
            guest.name()
        );
        Ok(())
    }

    /// Ends the thread, and returns the number of blocks.
    pub(super) fn end(mut self) -> Result<u64> {
        self.is_over.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the thread has ended")?;
        match thread.join() {
            Ok(result) => result?,
            Err(_) => bail!("the thread that observes the writes panicked"),
        }
        Ok(self.count())
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        lock(&self.progress)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Returns the command line of the loop, which runs in the background until `/writing` is removed.
/// Its result is in `/written`.
fn loop_line(disk: &str) -> String {
    format!(
        ">/writing; rm -f /written; (\
         i=0; while [ -e /writing ]; do printf '%0{digits}d\\n' $i; i=$((i+1)); done | \
         dd of={disk} bs={BLOCK} seek={FIRST} iflag=fullblock oflag=direct 2>/errors; \
         echo $? >/written) </dev/null >/dev/null 2>&1 &",
        digits = BLOCK - 1
    )
}

/// Waits for the result of the loop.
fn result(guest: &mut impl Initiator) -> Result<CommandOutput> {
    guest.run("while [ ! -s /written ]; do sleep 0.1; done; cat /errors; exit $(cat /written)")
}

/// Removes the blocks of an earlier loop, and opens the image.
fn clear(image: &Path) -> Result<File> {
    let file = File::options().read(true).write(true).open(image);
    let file = file.with_context(|| format!("cannot open {}", image.display()))?;
    let size = u64::from(SIZE);
    let zeros = vec![0; usize::try_from(size - FIRST * BLOCK as u64)?];
    file.write_all_at(&zeros, FIRST * BLOCK as u64)?;
    Ok(file)
}

/// Looks for the next block until `is_over` is set.
fn observe(image: &File, progress: &Mutex<Progress>, is_over: &AtomicBool) -> Result<()> {
    let mut block = [0; BLOCK];
    while !is_over.load(Ordering::Relaxed) {
        let next = lock(progress).count;
        image.read_exact_at(&mut block, (FIRST + next) * BLOCK as u64)?;
        // The last byte is written last.
        if !block.ends_with(b"\n") {
            thread::sleep(INTERVAL);
            continue;
        }
        let text = str::from_utf8(&block).context("not a block of the guest")?;
        let number: u64 = text
            .trim_end()
            .parse()
            .context("not a block of the guest")?;
        ensure!(number == next, "the guest wrote block {number} at {next}");
        let mut progress = lock(progress);
        progress.longest_gap = progress.longest_gap.max(progress.last.elapsed());
        progress.last = Instant::now();
        progress.count += 1;
    }
    Ok(())
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}
