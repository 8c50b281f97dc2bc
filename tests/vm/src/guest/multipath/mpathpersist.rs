// SPDX-License-Identifier: MIT OR Apache-2.0

//! Test of multipath-tools' `mpathpersist` on the map, as the reference for PERSISTENT RESERVE OUT
//! of the helper.

use std::path::Path;
use std::slice;

use anyhow::{Context as _, Result, ensure};

use super::daemons::TIMEOUT as DAEMON_TIMEOUT;
use super::device::Reply;
use super::fixture::{Fault, MapFixture, ScsiPath, State};
use crate::guest::read;
use pr_testkit::process::{command, poll, text, timed};

/// multipathd's key file (`reservation_key file`).
const PRKEYS: &str = "/etc/multipath/prkeys";

const KEY: u64 = 0x00c3;

/// Registers, reserves, reads, releases and unregisters, and checks each path directly.
pub(super) fn run(fixture: &MapFixture) -> Result<()> {
    let paths = &fixture.paths;
    let key = format!("{KEY:#x}");
    expect_keys(paths, 0)?;
    register(fixture, &key)?;
    // Each path has a registration with the same key.
    expect_keys(paths, paths.len())?;
    expect_key_in_multipathd(fixture, &key)?;
    reserve(fixture, &key)?;
    unregister(fixture, &key)?;
    path_returns(fixture, &key)?;
    unregister(fixture, &key)
}

fn register(fixture: &MapFixture, key: &str) -> Result<()> {
    let register = ["--out", "--register", "--param-sark", key];
    mpathpersist(fixture, &register).map(drop)
}

/// Checks that multipathd has the key, with which it registers a path that returns.
fn expect_key_in_multipathd(fixture: &MapFixture, key: &str) -> Result<()> {
    let file = read(Path::new(PRKEYS))?;
    ensure!(file.contains(&key_line()), "{PRKEYS} has no key:\n{file}");
    let stored = fixture
        .multipathd
        .command(&["getprkey", "map", &fixture.name])?;
    ensure!(stored.contains(key), "multipathd's key is {stored:?}");
    Ok(())
}

fn reserve(fixture: &MapFixture, key: &str) -> Result<()> {
    let with_key = ["--param-rk", key, "--prout-type=5"];
    mpathpersist(fixture, &[&["--out", "--reserve"], &with_key[..]].concat())?;
    let status = mpathpersist(fixture, &["--in", "--read-reservation"])?;
    ensure!(
        status.contains(key) && status.contains("Write Exclusive"),
        "the reservation is missing"
    );
    let all = mpathpersist(fixture, &["--in", "--read-keys"])?;
    let times = all.matches(key).count();
    ensure!(
        times == fixture.paths.len(),
        "mpathpersist returned {times} keys"
    );
    mpathpersist(fixture, &[&["--out", "--release"], &with_key[..]].concat())?;
    Ok(())
}

/// REGISTER during the failure of a path registers the other one. multipathd registers the failed
/// path when it returns.
fn path_returns(fixture: &MapFixture, key: &str) -> Result<()> {
    let [remaining, failed] = &fixture.paths;
    failed.fail(Fault::Disk)?;
    fixture.wait_for_path(failed, State::Failed)?;
    register(fixture, key)?;
    expect_keys(slice::from_ref(remaining), 1)?;
    failed.restore(Fault::Disk)?;
    fixture.both_active()?;
    let both = poll(DAEMON_TIMEOUT, || {
        Ok(expect_keys(&fixture.paths, fixture.paths.len()).ok())
    })?;
    both.context("multipathd did not register the returned path")
}

fn unregister(fixture: &MapFixture, key: &str) -> Result<()> {
    let unregister = ["--out", "--register", "--param-rk", key, "--param-sark=0"];
    mpathpersist(fixture, &unregister)?;
    for path in &fixture.paths {
        path.device.drain()?;
    }
    expect_keys(&fixture.paths, 0)?;
    let file = read(Path::new(PRKEYS))?;
    ensure!(!file.contains(&key_line()), "the key is still in {PRKEYS}");
    Ok(())
}

/// Returns the key in the file's format.
fn key_line() -> String {
    format!("{KEY:#018x}")
}

fn mpathpersist(fixture: &MapFixture, arguments: &[&str]) -> Result<String> {
    let mut command = command("mpathpersist");
    command.args(arguments).arg(&fixture.map.path);
    let name = format!("mpathpersist {}", arguments.join(" "));
    let output = timed(&name, || text(&mut command))?;
    print!("{output}");
    Ok(output)
}

/// Checks that the key is registered `times` times and no other key is, through each of these
/// paths.
fn expect_keys(paths: &[ScsiPath], times: usize) -> Result<()> {
    let expected = KEY.to_be_bytes().repeat(times);
    for path in paths {
        let reply = path.device.reserve_in(0, 255);
        let is_expected =
            matches!(&reply, Reply::Response { status: 0, data, .. } if data[8..] == expected);
        let name = &path.name;
        ensure!(
            is_expected,
            "{name}: {reply} instead of {times} times {KEY:#x}"
        );
    }
    Ok(())
}
