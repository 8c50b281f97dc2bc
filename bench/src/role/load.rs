// SPDX-License-Identifier: MIT OR Apache-2.0

//! Clients that send commands and measure the time to the response.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use pr_testkit::cdb::{self, PrCommand};
use scsi_pr::{ReservationType, Status};
use serde::{Deserialize, Serialize};

use super::raw_client::RawClient;
use crate::usage;

/// Upper bound of the recorded wait times, and their precision in significant digits.
const MAX_WAIT: Duration = Duration::from_secs(60);
const DIGITS: u8 = 3;

/// Maximum attempts to register if there are unit attentions.
const ATTEMPTS: usize = 8;

const KEY: u64 = 0x1001;
const TYPE: ReservationType = ReservationType::WriteExclusiveRegistrantsOnly;

/// Allocation length of READ KEYS: that of `sg_persist`, which `fence_scsi` uses.
const ALLOCATION_LENGTH: u16 = 8192;

/// Arguments of `bench-load`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Load {
    /// The helper's socket
    #[arg(long)]
    pub(crate) socket: PathBuf,
    /// The helper's process ID, for its processor time
    #[arg(long)]
    pub(crate) server: i32,
    /// Device that the commands are sent to
    #[arg(long)]
    pub(crate) device: PathBuf,
    /// Number of clients, each with a connection and a thread
    #[arg(long)]
    pub(crate) clients: usize,
    /// Duration in milliseconds; also the timeout for a response
    #[arg(long)]
    pub(crate) milliseconds: u64,
    /// Microseconds between the starts of two requests of a client; 0 is without a delay
    #[arg(long)]
    pub(crate) pace: u64,
    /// Commands to send
    #[arg(long)]
    pub(crate) workload: Workload,
}

/// Commands that the clients send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// READ KEYS, with the usual allocation length of 8192 bytes
    ReadKeys,
    /// RESERVE and RELEASE in turn, after a REGISTER
    Reserve,
    /// READ KEYS and RESERVE in turn: data-in and data-out
    Both,
}

/// Result of a load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Served {
    pub(crate) requests: u64,
    /// Clients that timed out or were disconnected.
    pub(crate) unanswered: u64,
    pub(crate) seconds: f64,
    /// Processor time of the server.
    pub(crate) processor_seconds: f64,
    /// Wait times, in microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) worst: f64,
    /// Number of responses by SCSI status.
    pub(crate) statuses: BTreeMap<u8, u64>,
}

/// Counters of one client.
struct Tally {
    waits: Histogram<u64>,
    statuses: [u64; 256],
    unanswered: u64,
}

impl Load {
    /// Returns the command line.
    pub(crate) fn args(&self) -> Vec<OsString> {
        let workload = match self.workload {
            Workload::ReadKeys => "read-keys",
            Workload::Reserve => "reserve",
            Workload::Both => "both",
        };
        vec![
            "bench-load".into(),
            "--socket".into(),
            self.socket.clone().into(),
            format!("--server={}", self.server).into(),
            "--device".into(),
            self.device.clone().into(),
            format!("--clients={}", self.clients).into(),
            format!("--milliseconds={}", self.milliseconds).into(),
            format!("--pace={}", self.pace).into(),
            format!("--workload={workload}").into(),
        ]
    }

    pub(super) fn run(&self) -> Result<()> {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.device)
            .with_context(|| format!("cannot open {}", self.device.display()))?;
        let requests = self.workload.requests();
        let mut clients = Vec::new();
        for _ in 0..self.clients {
            clients
                .push(RawClient::connect(&self.socket, self.duration()).context("cannot connect")?);
        }
        if self.workload == Workload::Reserve {
            let first = clients.first_mut().context("the number of clients is 0")?;
            let command = cdb::register_and_ignore_with(&cdb::key_list(0, KEY));
            let mut register = || first.request(&command, device.as_fd());
            let mut status = register().context("cannot register")?;
            for _ in 1..ATTEMPTS {
                if status == Status::GOOD.0 {
                    break;
                }
                status = register().context("cannot register")?;
            }
            ensure!(
                status == Status::GOOD.0,
                "REGISTER returned status {status}"
            );
        }
        super::wait_for_start_signal()?;
        let served = self.serve(clients, &device, &requests)?;
        super::report(&served)?;
        super::wait_for_stdin_eof()
    }

    fn duration(&self) -> Duration {
        Duration::from_millis(self.milliseconds)
    }

    fn serve(
        &self,
        clients: Vec<RawClient>,
        device: &File,
        requests: &[PrCommand],
    ) -> Result<Served> {
        let barrier = Barrier::new(clients.len() + 1);
        thread::scope(|scope| {
            let work = |mut client, delay| {
                let mut tally = Tally::new()?;
                barrier.wait();
                self.run_client(&mut client, delay, device, requests, &mut tally)?;
                anyhow::Ok(tally)
            };
            let threads: Vec<_> = clients
                .into_iter()
                .zip(self.delays())
                .map(|(client, delay)| scope.spawn(move || work(client, delay)))
                .collect();
            // The clients wait at the barrier, so the processor time does not include the
            // connection setup.
            let used = usage::processor_time(self.server)?;
            barrier.wait();
            let start = Instant::now();
            let mut all = Tally::new()?;
            for thread in threads {
                all.add(
                    &thread
                        .join()
                        .map_err(|_| anyhow!("a client thread panicked"))??,
                )?;
            }
            // The measuring time is the same if all clients have lost their connection.
            thread::sleep(self.duration().saturating_sub(start.elapsed()));
            let seconds = start.elapsed().as_secs_f64();
            let used = usage::processor_time(self.server)? - used;
            Ok(all.summary(seconds, used))
        })
    }

    /// Returns the delay of each client's first request. Clients with a pace are spread over it.
    fn delays(&self) -> impl Iterator<Item = Duration> {
        let clients = u32::try_from(self.clients).unwrap_or(u32::MAX);
        let pace = Duration::from_micros(self.pace);
        (0..clients).map(move |client| pace * client / clients)
    }

    /// Runs one client until the end of the measuring time.
    fn run_client(
        &self,
        client: &mut RawClient,
        delay: Duration,
        device: &File,
        requests: &[PrCommand],
        tally: &mut Tally,
    ) -> Result<()> {
        let pace = Duration::from_micros(self.pace);
        let start = Instant::now();
        let mut due = start + delay;
        for command in requests.iter().cycle() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let sent = Instant::now();
            if sent - start >= self.duration() {
                break;
            }
            due = sent + pace;
            let result = client.request(command, device.as_fd());
            match &result {
                Ok(status) => tally.statuses[usize::from(*status)] += 1,
                Err(_) => tally.unanswered += 1,
            }
            // A rejected or disconnected client has not waited.
            let is_disconnect = |error: &io::Error| error.kind() != io::ErrorKind::WouldBlock;
            if !result.as_ref().is_err_and(is_disconnect) {
                tally.count(sent.elapsed(), pace)?;
            }
            if result.is_err() {
                break;
            }
        }
        Ok(())
    }
}

impl Workload {
    /// Returns the requests, which the clients send in turn.
    fn requests(self) -> Vec<PrCommand> {
        let read_keys = cdb::read_keys(ALLOCATION_LENGTH);
        let reserve = cdb::reserve(KEY, TYPE);
        match self {
            Self::ReadKeys => vec![read_keys],
            Self::Reserve => vec![reserve, cdb::release(KEY, TYPE)],
            Self::Both => vec![read_keys, reserve],
        }
    }
}

impl Tally {
    fn new() -> Result<Self> {
        let max = u64::try_from(MAX_WAIT.as_nanos())?;
        Ok(Self {
            waits: Histogram::new_with_bounds(1, max, DIGITS)?,
            statuses: [0; 256],
            unanswered: 0,
        })
    }

    /// Records one wait time. With a pace, it also records the waits of the requests that were not
    /// sent meanwhile (coordinated omission).
    fn count(&mut self, wait: Duration, pace: Duration) -> Result<()> {
        let nanoseconds =
            |time: Duration| u64::try_from(time.min(MAX_WAIT).as_nanos()).unwrap_or(u64::MAX);
        self.waits
            .record_correct(nanoseconds(wait), nanoseconds(pace))?;
        Ok(())
    }

    fn add(&mut self, other: &Self) -> Result<()> {
        self.waits.add(&other.waits)?;
        for (sum, count) in self.statuses.iter_mut().zip(other.statuses) {
            *sum += count;
        }
        self.unanswered += other.unanswered;
        Ok(())
    }

    fn summary(&self, seconds: f64, processor: Duration) -> Served {
        let microseconds = |nanoseconds: u64| Duration::from_nanos(nanoseconds).as_secs_f64() * 1e6;
        Served {
            requests: self.statuses.iter().sum(),
            unanswered: self.unanswered,
            seconds,
            processor_seconds: processor.as_secs_f64(),
            p50: microseconds(self.waits.value_at_quantile(0.5)),
            p99: microseconds(self.waits.value_at_quantile(0.99)),
            worst: microseconds(self.waits.max()),
            statuses: (0..=u8::MAX)
                .zip(self.statuses)
                .filter(|(_, count)| *count > 0)
                .collect(),
        }
    }
}
