//! The load: clients that ask, and how long each had to wait.

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
use pr_helper_protocol::wire::{CDB_SIZE, MAX_TRANSFER, pad_cdb};
use scsi_pr::{
    BasicParameterList, InServiceAction, OutServiceAction, PersistentReserveIn,
    PersistentReserveOut, ReservationKey, ReservationType, Status,
};
use serde::{Deserialize, Serialize};

use super::peer::Peer;
use crate::bench::usage;

/// The longest wait that is told from longer ones, and how exactly waits are kept: 0.1 %.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const DIGITS: u8 = 3;

/// How often a client registers that meets unit attentions.
const ATTEMPTS: usize = 8;

const KEY: u64 = 0x1001;

/// Arguments of the load.
#[derive(Args, Clone, Debug)]
pub(crate) struct Load {
    /// The helper's socket
    #[arg(long)]
    pub(crate) socket: PathBuf,
    /// The helper's process, whose processor time is looked at
    #[arg(long)]
    pub(crate) server: u32,
    /// What the commands are for
    #[arg(long)]
    pub(crate) device: PathBuf,
    /// How many clients, each with a connection and a thread
    #[arg(long)]
    pub(crate) clients: usize,
    /// How long, in milliseconds; also how long a client waits for an answer
    #[arg(long)]
    pub(crate) milliseconds: u64,
    /// Microseconds from one request of a client to its next one; 0 is at once
    #[arg(long)]
    pub(crate) pace: u64,
    /// Which commands
    #[arg(long)]
    pub(crate) order: Order,
}

/// What clients ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    /// READ KEYS, with as much room as clients usually give
    ReadKeys,
    /// RESERVE and RELEASE in turn, after a REGISTER
    Reserve,
    /// READ KEYS and RESERVE in turn: one with data from the device, one with data for it
    Both,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Served {
    pub(crate) requests: u64,
    /// Clients that gave up, or lost their connection.
    pub(crate) unanswered: u64,
    pub(crate) seconds: f64,
    /// Processor time of the server.
    pub(crate) processor_seconds: f64,
    /// Waits, in microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) worst: f64,
    /// How often which SCSI status was the answer.
    pub(crate) statuses: BTreeMap<u8, u64>,
}

/// What one client keeps count of.
struct Tally {
    waits: Histogram<u64>,
    statuses: [u64; 256],
    unanswered: u64,
}

/// A command and its parameter list.
type Request = ([u8; CDB_SIZE], Vec<u8>);

impl Load {
    /// How it is asked for on the command line.
    pub(crate) fn words(&self) -> Vec<OsString> {
        let order = match self.order {
            Order::ReadKeys => "read-keys",
            Order::Reserve => "reserve",
            Order::Both => "both",
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
            format!("--order={order}").into(),
        ]
    }

    pub(super) fn run(&self) -> Result<()> {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.device)
            .with_context(|| format!("cannot open {}", self.device.display()))?;
        let requests = self.order.requests();
        let mut peers = Vec::new();
        for _ in 0..self.clients {
            peers.push(Peer::connect(&self.socket, self.length()).context("cannot connect")?);
        }
        if self.order == Order::Reserve {
            let first = peers.first_mut().context("there are no clients")?;
            let (cdb, parameters) = out(OutServiceAction::RegisterAndIgnoreExistingKey, 0, KEY);
            let mut register = || first.ask(&cdb, device.as_fd(), &parameters);
            let mut status = register().context("cannot register")?;
            for _ in 1..ATTEMPTS {
                if status == Status::GOOD.0 {
                    break;
                }
                status = register().context("cannot register")?;
            }
            ensure!(
                status == Status::GOOD.0,
                "REGISTER was answered with {status}"
            );
        }
        super::wait_for_the_word()?;
        let served = self.serve(peers, &device, &requests)?;
        super::report(&served)?;
        super::wait_for_the_end()
    }

    fn length(&self) -> Duration {
        Duration::from_millis(self.milliseconds)
    }

    fn serve(&self, peers: Vec<Peer>, device: &File, requests: &[Request]) -> Result<Served> {
        let gate = Barrier::new(peers.len() + 1);
        thread::scope(|scope| {
            let work = |mut peer, delay| {
                let mut tally = Tally::new()?;
                gate.wait();
                self.ask(&mut peer, delay, device, requests, &mut tally)?;
                anyhow::Ok(tally)
            };
            let threads: Vec<_> = peers
                .into_iter()
                .zip(self.delays())
                .map(|(peer, delay)| scope.spawn(move || work(peer, delay)))
                .collect();
            // Whoever is at the gate waits, so what the server does before is not in it.
            let used = usage::processor_time(self.server)?;
            gate.wait();
            let start = Instant::now();
            let mut all = Tally::new()?;
            for thread in threads {
                all.add(
                    &thread
                        .join()
                        .map_err(|_| anyhow!("a client has panicked"))??,
                )?;
            }
            // Clients that have lost their helper do not shorten the look at it.
            thread::sleep(self.length().saturating_sub(start.elapsed()));
            let seconds = start.elapsed().as_secs_f64();
            let used = usage::processor_time(self.server)? - used;
            Ok(all.summary(seconds, used))
        })
    }

    /// How long after the beginning each client asks first: those with a pace not all at once.
    fn delays(&self) -> impl Iterator<Item = Duration> {
        let clients = u32::try_from(self.clients).unwrap_or(u32::MAX);
        let pace = Duration::from_micros(self.pace);
        (0..clients).map(move |client| pace * client / clients)
    }

    /// One client, until the time is over.
    fn ask(
        &self,
        peer: &mut Peer,
        delay: Duration,
        device: &File,
        requests: &[Request],
        tally: &mut Tally,
    ) -> Result<()> {
        let pace = Duration::from_micros(self.pace);
        let start = Instant::now();
        let mut due = start + delay;
        for (cdb, parameters) in requests.iter().cycle() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let asked = Instant::now();
            if asked - start >= self.length() {
                break;
            }
            due = asked + pace;
            let answer = peer.ask(cdb, device.as_fd(), parameters);
            match &answer {
                Ok(status) => tally.statuses[usize::from(*status)] += 1,
                Err(_) => tally.unanswered += 1,
            }
            // Whoever is turned away has not waited.
            let is_gone = |error: &io::Error| error.kind() != io::ErrorKind::WouldBlock;
            if !answer.as_ref().is_err_and(is_gone) {
                tally.count(asked.elapsed(), pace)?;
            }
            if answer.is_err() {
                break;
            }
        }
        Ok(())
    }
}

impl Order {
    /// What is asked for in turn.
    fn requests(self) -> Vec<Request> {
        let reserve = || out(OutServiceAction::Reserve, KEY, 0);
        match self {
            Self::ReadKeys => vec![read_keys()],
            Self::Reserve => vec![reserve(), out(OutServiceAction::Release, KEY, 0)],
            Self::Both => vec![read_keys(), reserve()],
        }
    }
}

fn read_keys() -> Request {
    let read = PersistentReserveIn {
        service_action: InServiceAction::ReadKeys,
        // sg_persist asks for as much, and with it fence_scsi does.
        allocation_length: u16::try_from(MAX_TRANSFER).unwrap_or(u16::MAX),
        control: 0,
    };
    (pad_cdb(&read.encode()), Vec::new())
}

fn out(service_action: OutServiceAction, reservation_key: u64, new_key: u64) -> Request {
    let parameters = BasicParameterList {
        reservation_key: ReservationKey::new(reservation_key),
        service_action_reservation_key: ReservationKey::new(new_key),
        ..BasicParameterList::default()
    }
    .encode();
    let command = PersistentReserveOut {
        service_action,
        scope_type: ReservationType::WriteExclusiveRegistrantsOnly.into(),
        parameter_list_length: u32::try_from(parameters.len()).unwrap_or(u32::MAX),
        control: 0,
    };
    (pad_cdb(&command.encode()), parameters)
}

impl Tally {
    fn new() -> Result<Self> {
        let longest = u64::try_from(LONGEST_WAIT.as_nanos())?;
        Ok(Self {
            waits: Histogram::new_with_bounds(1, longest, DIGITS)?,
            statuses: [0; 256],
            unanswered: 0,
        })
    }

    /// Counts one wait. With a pace, it also counts those that would have begun during this one: a
    /// client that waits does not ask, and the worse the wait, the fewer would be counted.
    fn count(&mut self, wait: Duration, pace: Duration) -> Result<()> {
        let nanoseconds =
            |time: Duration| u64::try_from(time.min(LONGEST_WAIT).as_nanos()).unwrap_or(u64::MAX);
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
