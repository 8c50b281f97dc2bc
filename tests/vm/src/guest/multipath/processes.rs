// SPDX-License-Identifier: MIT OR Apache-2.0

//! Fault cases: the helper's processes are stopped and killed, between and during commands. Also
//! checks the privileges of the process that serves clients.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::commands::{register, register_and_ignore};
use super::daemons::TIMEOUT as DAEMON_TIMEOUT;
use super::device::Reply;
use super::fault_fixture::{FaultFixture, KEY, TERMINATED, TIMED_OUT, expect_sense};
use super::helper_client::{HelperClient, SHORT_TIMEOUT, SHORT_TIMEOUT_ARGUMENTS, measure};
use crate::guest::process_table::{self, BROKER, HELPER, WORKER, all, one};
use pr_testkit::process::{self, poll};

/// Time that the helper waits for a worker beyond the command's timeout.
const GRACE: Duration = Duration::from_secs(3);

/// Maximum time of an immediate reaction in an emulated machine.
const IMMEDIATE: Duration = Duration::from_secs(2);

/// Runs all cases. The returned fixture has another helper.
pub(super) fn run(faults: FaultFixture<'_>) -> Result<FaultFixture<'_>> {
    let mut faults = faults.restart_with(&SHORT_TIMEOUT_ARGUMENTS, &[])?;
    faults.clean()?;
    privileges(&faults).context("privileges")?;
    worker_killed(&mut faults).context("worker killed")?;
    worker_stopped(&mut faults).context("worker stopped")?;
    broker_stopped(&mut faults).context("broker stopped")?;
    let faults = broker_killed(faults).context("broker killed")?;
    let faults = helper_killed(faults, false).context("helper killed")?;
    let faults = helper_killed(faults, true).context("helper killed during a command")?;
    let faults = faults.restart(&[]).context("helper stopped")?;
    // Exactly one broker must run, that of the current helper.
    poll(DAEMON_TIMEOUT, || {
        Ok((all(BROKER)?.len() == 1).then_some(()))
    })?
    .context("the broker did not exit with its helper")?;
    ensure!(
        all(WORKER)?.is_empty(),
        "a worker did not exit with its helper"
    );
    Ok(faults)
}

/// Checks the process that reads requests, after commands on the map.
fn privileges(faults: &FaultFixture<'_>) -> Result<()> {
    let lines = process_table::expect_status(
        faults.helper.id(),
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
        println!("guest: the serving process, each thread: {line}");
    }
    // CAP_SYS_RAWIO and CAP_DAC_READ_SEARCH; CAP_DAC_OVERRIDE only to remove socket and PID file.
    let capabilities = [
        ("CapEff", "0000000000020004"),
        ("CapPrm", "0000000000020006"),
    ];
    let lines = process_table::expect_status(one(BROKER)?, &capabilities)?;
    println!("guest: the broker: {}", lines.join(", "));
    Ok(())
}

/// A REGISTER that blocks: its worker waits for multipathd, which is stopped.
struct BlockedCommand {
    guest: JoinHandle<Result<(Reply, Instant)>>,
    worker: Pid,
}

impl BlockedCommand {
    /// Sends the command. multipathd must be stopped.
    fn start(faults: &FaultFixture<'_>) -> Result<Self> {
        end_workers()?;
        let mut guest = HelperClient::connect(&faults.fixture.map.path)?;
        let guest = thread::spawn(move || {
            let reply = guest.reserve_out(&register_and_ignore(KEY))?;
            Ok((reply, Instant::now()))
        });
        let worker = poll(DAEMON_TIMEOUT, || Ok(all(WORKER)?.first().copied()))?;
        let worker = worker.context("timed out waiting for a worker")?;
        Ok(Self { guest, worker })
    }

    /// Returns the reply, and the time from `since` to it.
    fn reply(self, since: Instant) -> Result<(Reply, Duration)> {
        let reply = self.guest.join();
        let (reply, end) = reply.map_err(|_| anyhow!("the guest's thread panicked"))??;
        Ok((reply, end.saturating_duration_since(since)))
    }
}

fn worker_killed(faults: &mut FaultFixture<'_>) -> Result<()> {
    faults.fixture.multipathd.freeze()?;
    let blocked = BlockedCommand::start(faults)?;
    let start = Instant::now();
    kill_process(blocked.worker, Signal::KILL)?;
    let (reply, time) = blocked.reply(start)?;
    faults.fixture.multipathd.thaw()?;
    let case = "worker killed during a command";
    let reply = faults.check_time(case, reply, time, IMMEDIATE)?;
    expect_sense(case, &reply, TERMINATED)?;
    faults.expect_log_line(&["the worker exited without a reply"])?;
    faults.expect_keys(&[])?;
    faults.expect_good("next command: REGISTER", &register(0, KEY))?;
    faults.expect_keys(&[KEY; 2])?;
    faults.clean()
}

fn worker_stopped(faults: &mut FaultFixture<'_>) -> Result<()> {
    faults.fixture.multipathd.freeze()?;
    let start = Instant::now();
    let blocked = BlockedCommand::start(faults)?;
    let worker = blocked.worker;
    process::stop(worker)?;
    faults.fixture.multipathd.thaw()?;
    let (reply, time) = blocked.reply(start)?;
    let case = "worker stopped during a command";
    let reply = faults.check_time(case, reply, time, SHORT_TIMEOUT + GRACE)?;
    expect_sense(case, &reply, TIMED_OUT)?;
    faults.expect_log_line(&["the worker timed out"])?;
    faults.expect_good("next command: REGISTER", &register(0, KEY))?;
    // Its deadline has passed, so it must not execute the command.
    kill_process(worker, Signal::CONT)?;
    let gone = poll(DAEMON_TIMEOUT, || {
        Ok((!all(WORKER)?.contains(&worker)).then_some(()))
    })?;
    gone.context("the worker did not exit")?;
    faults.expect_keys(&[KEY; 2])?;
    faults.clean()
}

/// Kills all workers. The next command starts another one.
fn end_workers() -> Result<()> {
    for worker in all(WORKER)? {
        // An idle worker may have exited.
        let _ = kill_process(worker, Signal::KILL);
    }
    process_table::wait_until_gone(WORKER, DAEMON_TIMEOUT)
}

/// Kills the broker. The helper exits with status 1 and is started again with a new broker.
fn broker_killed(faults: FaultFixture<'_>) -> Result<FaultFixture<'_>> {
    kill_process(one(BROKER)?, Signal::KILL)?;
    process_table::wait_until_gone(BROKER, DAEMON_TIMEOUT)?;
    process_table::wait_until_gone(HELPER, DAEMON_TIMEOUT)?;
    faults.expect_log_line(&["broker ended unexpectedly"])?;
    let mut faults = faults.kill()?;
    faults.expect_good("helper started again: REGISTER", &register(0, KEY))?;
    faults.clean()?;
    Ok(faults)
}

/// Stops the broker. A command that has failed meanwhile must not be executed when the broker
/// continues.
fn broker_stopped(faults: &mut FaultFixture<'_>) -> Result<()> {
    let broker = one(BROKER)?;
    end_workers()?;
    process::stop(broker)?;
    let (reply, time) = measure(|| faults.guest.reserve_out(&register(0, KEY)))?;
    let case = "broker stopped: REGISTER";
    let reply = faults.check_time(case, reply, time, SHORT_TIMEOUT + GRACE)?;
    expect_sense(case, &reply, TIMED_OUT)?;
    kill_process(broker, Signal::CONT)?;
    // The reply to a later request shows that the broker has received the earlier one.
    faults.expect_good("broker continued: REGISTER", &register(0, 0))?;
    faults.expect_guest_keys("broker continued: READ KEYS", &[])?;
    let idle = poll(DAEMON_TIMEOUT, || {
        Ok((all(WORKER)?.len() == 1).then_some(()))
    })?;
    idle.context("the worker of the earlier request did not exit")?;
    faults.expect_keys(&[])?;
    faults.expect_good("next command: REGISTER", &register(0, KEY))?;
    faults.expect_keys(&[KEY; 2])?;
    faults.clean()
}

fn helper_killed(faults: FaultFixture<'_>, during_command: bool) -> Result<FaultFixture<'_>> {
    let broker = one(BROKER)?;
    let blocked = match during_command {
        true => {
            faults.fixture.multipathd.freeze()?;
            Some(BlockedCommand::start(&faults)?)
        }
        false => None,
    };
    let mut faults = faults.kill()?;
    poll(DAEMON_TIMEOUT, || {
        Ok((!all(BROKER)?.contains(&broker)).then_some(()))
    })?
    .context("the broker did not exit with its helper")?;
    process_table::wait_until_gone(WORKER, DAEMON_TIMEOUT)?;
    if let Some(blocked) = blocked {
        let reply = blocked.reply(Instant::now());
        ensure!(reply.is_err(), "a killed helper sent a response");
        faults.fixture.multipathd.thaw()?;
    }
    let case = match during_command {
        true => "helper killed during a command, next command: REGISTER",
        false => "helper killed, next command: REGISTER",
    };
    faults.expect_good(case, &register_and_ignore(KEY))?;
    faults.expect_keys(&[KEY; 2])?;
    faults.clean()?;
    Ok(faults)
}
