// SPDX-License-Identifier: MIT OR Apache-2.0

//! Fault cases: a map that queues commands without a path, and a suspended map.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};

use super::commands::{REGISTRANTS, register, release, reserve};
use super::daemons::{Keys, WithoutPath};
use super::fault_fixture::{FaultFixture, KEY};
use super::fixture::{Fault, State};
use super::helper_client::{HelperClient, TIMEOUT, measure};
use pr_testkit::process::{command, run as run_command, text};

/// Number of clients that send a command to the map at the same time.
const CLIENTS: usize = 64;

/// Runs both cases.
pub(super) fn run(faults: &mut FaultFixture<'_>) -> Result<()> {
    faults.clean()?;
    queueing(faults).context("map without paths that queues")?;
    suspended(faults).context("suspended map")
}

fn queueing(faults: &mut FaultFixture<'_>) -> Result<()> {
    let multipathd = &faults.fixture.multipathd;
    multipathd.configure(Keys::InFile, WithoutPath::Queue)?;
    faults.expect_good("REGISTER", &register(0, KEY))?;
    for path in &faults.fixture.paths {
        path.fail(Fault::Disk)?;
    }
    for path in &faults.fixture.paths {
        faults.fixture.wait_for_path(path, State::Failed)?;
    }
    let mut replies = vec![faults.read_keys("map queues without paths: READ KEYS")?];
    for (name, pr_out) in [
        ("RESERVE", reserve(KEY, REGISTRANTS)),
        ("REGISTER", register(KEY, KEY)),
    ] {
        let case = format!("map queues without paths: {name}");
        replies.push(faults.send(&case, &pr_out)?);
    }
    many_clients(faults).context("READ KEYS of many clients")?;
    let table = text(command("dmsetup").args(["table", &faults.fixture.name]))?;
    ensure!(
        table.contains("queue_if_no_path"),
        "the map's table is {table}"
    );
    for reply in replies {
        let key = reply.sense().map(|[key, ..]| key);
        ensure!(key == Some(0x0b), "{reply}");
    }
    multipathd.configure(Keys::InFile, WithoutPath::Fail)?;
    for path in &faults.fixture.paths {
        path.restore(Fault::Disk)?;
    }
    faults.fixture.both_active()?;
    faults.expect_guest_keys("paths restored: READ KEYS", &[KEY; 2])?;
    faults.expect_good("paths restored: RESERVE", &reserve(KEY, REGISTRANTS))?;
    faults.clean()
}

/// Sends READ KEYS to the map that queues from many clients at the same time. A guest on another
/// map is not affected.
fn many_clients(faults: &FaultFixture<'_>) -> Result<()> {
    let mut other_map = HelperClient::connect(faults.other_map)?;
    let mut read_keys = || -> Result<Duration> {
        let (reply, time) = measure(|| other_map.reserve_in(0, 8192))?;
        ensure!(reply.is_good(), "other map: READ KEYS: {reply}");
        Ok(time)
    };
    let alone = (0..CLIENTS).map(|_| read_keys()).collect::<Result<_>>()?;
    print_times("without commands that wait", alone);
    let map = faults.fixture.map.path.as_path();
    let is_over = AtomicBool::new(false);
    let times = thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut times = Vec::new();
            while !is_over.load(Ordering::SeqCst) {
                times.push(read_keys()?);
            }
            anyhow::Ok(times)
        });
        let send = || measure(|| HelperClient::connect(map)?.reserve_in(0, 8192));
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(send)).collect();
        let replies: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        is_over.store(true, Ordering::SeqCst);
        for reply in replies {
            let (reply, time) = reply.map_err(|_| anyhow!("a client panicked"))??;
            ensure!(time < TIMEOUT, "{reply} after {time:?}");
            let key = reply.sense().map(|[key, ..]| key);
            ensure!(key == Some(0x0b), "{reply}");
        }
        other.join().map_err(|_| anyhow!("the guest panicked"))?
    })?;
    // A guest that waits for one of these commands waits at least this long.
    let longest = times.iter().max().copied().unwrap_or_default();
    ensure!(
        longest < TIMEOUT / 4,
        "the guest on another map waited {longest:?}"
    );
    print_times("with 64 commands that wait", times);
    Ok(())
}

fn print_times(case: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let longest = times.last().copied().unwrap_or_default();
    println!(
        "other map {case}: {} READ KEYS, median {median:.1?}, longest {longest:.1?}",
        times.len()
    );
}

/// A guest on another map is not affected.
fn suspended(faults: &mut FaultFixture<'_>) -> Result<()> {
    faults.expect_good("REGISTER", &register(0, KEY))?;
    let mut other_map = HelperClient::connect(faults.other_map)?;
    let name = &faults.fixture.name;
    run_command(command("dmsetup").args(["suspend", "--noflush", name]))?;
    let result = while_suspended(faults, &mut other_map);
    run_command(command("dmsetup").args(["resume", name]))?;
    result?;
    faults.expect_guest_keys("map resumed: READ KEYS", &[KEY; 2])?;
    faults.clean()
}

fn while_suspended(faults: &mut FaultFixture<'_>, other_map: &mut HelperClient) -> Result<()> {
    let info = [
        "info",
        "-c",
        "--noheadings",
        "-o",
        "suspended",
        &faults.fixture.name,
    ];
    let state = text(command("dmsetup").args(info))?;
    ensure!(state.trim() == "Suspended", "the map is {state:?}");
    for (name, pr_out) in [
        ("REGISTER", register(0, KEY)),
        ("RESERVE", reserve(KEY, REGISTRANTS)),
        ("RELEASE", release(KEY, REGISTRANTS)),
        ("unregister", register(KEY, 0)),
    ] {
        let (reply, time) = measure(|| other_map.reserve_out(&pr_out))?;
        let case = format!("other map while one is suspended: {name}");
        let reply = faults.check_time(&case, reply, time, TIMEOUT)?;
        ensure!(reply.is_good(), "{case}: {reply}");
    }
    // These commands do not use the map itself.
    faults.expect_guest_keys("suspended map: READ KEYS", &[KEY; 2])?;
    faults.expect_good("suspended map: RESERVE", &reserve(KEY, REGISTRANTS))?;
    faults.expect_good("suspended map: RELEASE", &release(KEY, REGISTRANTS))
}
