//! Fault cases: the helper's processes are stopped and killed, one after another and in the middle of a
//! command. And what the one that serves clients may do.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::commands::{register, register_and_ignore};
use super::daemons::PATIENCE;
use super::device::Reply;
use super::lab::{KEY, Lab, TERMINATED, TIMED_OUT, expect_sense};
use super::through::{Guest, TIMEOUT, clocked};
use crate::guest::process_table::{self, BROKER, HELPER, WORKER, all, one};
use crate::process::poll;

/// What the helper has beyond the command's time to hear of a worker.
const GRACE: Duration = Duration::from_secs(3);

/// How long "at once" is in an emulated machine.
const AT_ONCE: Duration = Duration::from_secs(2);

/// All of them. The helper that comes back is another one.
pub(super) fn run(mut lab: Lab<'_>) -> Result<Lab<'_>> {
    lab.clean()?;
    privileges(&lab).context("privileges")?;
    worker_killed(&mut lab).context("worker killed")?;
    worker_stopped(&mut lab).context("worker stopped")?;
    broker_stopped(&mut lab).context("broker stopped")?;
    let lab = broker_killed(lab).context("broker killed")?;
    let lab = helper_killed(lab, false).context("helper killed")?;
    let lab = helper_killed(lab, true).context("helper killed, command in progress")?;
    let lab = lab.restart(&[]).context("helper ended")?;
    // Of this one there is a broker. Of the one before there is none left.
    poll(PATIENCE, || Ok((all(BROKER)?.len() == 1).then_some(())))?
        .context("the broker outlives its helper")?;
    ensure!(all(WORKER)?.is_empty(), "a worker outlives its helper");
    Ok(lab)
}

/// The process that reads what clients send, after commands on the map.
fn privileges(lab: &Lab<'_>) -> Result<()> {
    let lines = process_table::expect_status(
        lab.helper.id(),
        &[
            ("Uid", "65534\t65534\t65534\t65534"),
            ("CapInh", "0000000000000000"),
            ("CapPrm", "0000000000020000"),
            ("CapEff", "0000000000020000"),
            ("CapBnd", "0000000000000000"),
            ("CapAmb", "0000000000000000"),
            ("NoNewPrivs", "1"),
        ],
    )?;
    for line in lines {
        println!("guest: the process that serves clients, each thread: {line}");
    }
    // CAP_SYS_RAWIO and CAP_DAC_READ_SEARCH; CAP_DAC_OVERRIDE only to remove socket and PID file.
    let capabilities = [
        ("CapEff", "0000000000020004"),
        ("CapPrm", "0000000000020006"),
    ];
    let lines = process_table::expect_status(one(BROKER)?, &capabilities)?;
    println!("guest: its broker: {}", lines.join(", "));
    Ok(())
}

/// A REGISTER whose worker waits for multipathd, which does not answer.
struct Waiting {
    guest: JoinHandle<Result<(Reply, Instant)>>,
    worker: Pid,
}

impl Waiting {
    /// multipathd has to be frozen.
    fn start(lab: &Lab<'_>) -> Result<Self> {
        let mut guest = Guest::connect(&lab.stage.map.path)?;
        let guest = thread::spawn(move || {
            let reply = guest.tell(&register_and_ignore(KEY))?;
            Ok((reply, Instant::now()))
        });
        let worker = poll(PATIENCE, || Ok(all(WORKER)?.first().copied()))?;
        let worker = worker.context("no worker shows up")?;
        Ok(Self { guest, worker })
    }

    /// The answer, and how long after `since` it came.
    fn answer(self, since: Instant) -> Result<(Reply, Duration)> {
        let answer = self.guest.join();
        let (reply, end) = answer.map_err(|_| anyhow!("the guest panicked"))??;
        Ok((reply, end.saturating_duration_since(since)))
    }
}

fn worker_killed(lab: &mut Lab<'_>) -> Result<()> {
    lab.stage.multipathd.freeze()?;
    let waiting = Waiting::start(lab)?;
    let start = Instant::now();
    kill_process(waiting.worker, Signal::KILL)?;
    let (reply, time) = waiting.answer(start)?;
    lab.stage.multipathd.thaw()?;
    let case = "worker killed in mid-command";
    let reply = lab.note(case, reply, time, AT_ONCE)?;
    expect_sense(case, &reply, TERMINATED)?;
    lab.said_once(&["the worker exited without a reply"])?;
    lab.keys(&[])?;
    lab.done("next command: REGISTER", &register(0, KEY))?;
    lab.keys(&[KEY; 2])?;
    lab.clean()
}

fn worker_stopped(lab: &mut Lab<'_>) -> Result<()> {
    lab.stage.multipathd.freeze()?;
    let start = Instant::now();
    let waiting = Waiting::start(lab)?;
    let worker = waiting.worker;
    kill_process(worker, Signal::STOP)?;
    lab.stage.multipathd.thaw()?;
    let (reply, time) = waiting.answer(start)?;
    let case = "worker stopped in mid-command";
    let reply = lab.note(case, reply, time, TIMEOUT + GRACE)?;
    expect_sense(case, &reply, TIMED_OUT)?;
    lab.said_once(&["the worker timed out"])?;
    lab.done("next command: REGISTER", &register(0, KEY))?;
    // Its time is up: it must not do the command after all.
    kill_process(worker, Signal::CONT)?;
    process_table::gone(WORKER, PATIENCE)?;
    lab.keys(&[KEY; 2])?;
    lab.clean()
}

/// Kills the broker, upon which the helper ends with status 1, to be started again with a new one.
fn broker_killed(lab: Lab<'_>) -> Result<Lab<'_>> {
    kill_process(one(BROKER)?, Signal::KILL)?;
    process_table::gone(BROKER, PATIENCE)?;
    process_table::gone(HELPER, PATIENCE)?;
    lab.said_once(&["broker ended unexpectedly"])?;
    let mut lab = lab.kill()?;
    lab.done("helper started again: REGISTER", &register(0, KEY))?;
    lab.clean()?;
    Ok(lab)
}

/// Stops the broker. A command that has failed meanwhile must not be executed when the broker goes
/// on.
fn broker_stopped(lab: &mut Lab<'_>) -> Result<()> {
    let broker = one(BROKER)?;
    kill_process(broker, Signal::STOP)?;
    let (reply, time) = clocked(|| lab.guest.tell(&register(0, KEY)))?;
    let case = "broker stopped: REGISTER";
    let reply = lab.note(case, reply, time, TIMEOUT + GRACE)?;
    expect_sense(case, &reply, TIMED_OUT)?;
    kill_process(broker, Signal::CONT)?;
    // A later request: by its answer the broker has taken the earlier one.
    lab.sees("broker goes on: READ KEYS", &[])?;
    process_table::gone(WORKER, PATIENCE)?;
    lab.keys(&[])?;
    lab.done("next command: REGISTER", &register(0, KEY))?;
    lab.keys(&[KEY; 2])?;
    lab.clean()
}

fn helper_killed(lab: Lab<'_>, in_progress: bool) -> Result<Lab<'_>> {
    let broker = one(BROKER)?;
    let waiting = match in_progress {
        true => {
            lab.stage.multipathd.freeze()?;
            Some(Waiting::start(&lab)?)
        }
        false => None,
    };
    let mut lab = lab.kill()?;
    poll(PATIENCE, || {
        Ok((!all(BROKER)?.contains(&broker)).then_some(()))
    })?
    .context("the broker outlives its helper")?;
    process_table::gone(WORKER, PATIENCE)?;
    if let Some(waiting) = waiting {
        let answer = waiting.answer(Instant::now());
        ensure!(answer.is_err(), "a helper that was killed answers");
        lab.stage.multipathd.thaw()?;
    }
    let case = match in_progress {
        true => "helper killed in mid-command, next one: REGISTER",
        false => "helper killed, next one: REGISTER",
    };
    lab.done(case, &register_and_ignore(KEY))?;
    lab.keys(&[KEY; 2])?;
    lab.clean()?;
    Ok(lab)
}
