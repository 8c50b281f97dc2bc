//! `mpathpersist` of multipath-tools on the map: the base that PERSISTENT RESERVE OUT will stand
//! on.

use std::path::Path;
use std::slice;

use anyhow::{Context as _, Result, ensure};

use super::daemons::PATIENCE;
use super::device::Reply;
use super::stage::{Fault, Route, Stage, State};
use crate::guest::read;
use crate::process::{command, poll, text, timed};

/// Where multipathd keeps the keys of `reservation_key file`.
const PRKEYS: &str = "/etc/multipath/prkeys";

const KEY: u64 = 0x00c3;

/// Registers, reserves, reads, releases and unregisters, and looks at each path past the map.
pub(super) fn run(stage: &Stage) -> Result<()> {
    let routes = &stage.routes;
    let key = format!("{KEY:#x}");
    keys(routes, 0)?;
    register(stage, &key)?;
    // One registration for each path, with the same key.
    keys(routes, routes.len())?;
    known(stage, &key)?;
    reserve(stage, &key)?;
    unregister(stage, &key)?;
    path_that_comes_back(stage, &key)?;
    unregister(stage, &key)
}

fn register(stage: &Stage, key: &str) -> Result<()> {
    let register = ["--out", "--register", "--param-sark", key];
    mpathpersist(stage, &register).map(drop)
}

/// What multipathd needs to register a path that comes back.
fn known(stage: &Stage, key: &str) -> Result<()> {
    let file = read(Path::new(PRKEYS))?;
    ensure!(file.contains(&in_file()), "{PRKEYS} has no key:\n{file}");
    let known = stage.multipathd.ask(&["getprkey", "map", &stage.name])?;
    ensure!(known.contains(key), "multipathd's key is {known:?}");
    Ok(())
}

fn reserve(stage: &Stage, key: &str) -> Result<()> {
    let with_key = ["--param-rk", key, "--prout-type=5"];
    mpathpersist(stage, &[&["--out", "--reserve"], &with_key[..]].concat())?;
    let status = mpathpersist(stage, &["--in", "--read-reservation"])?;
    ensure!(
        status.contains(key) && status.contains("Write Exclusive"),
        "no reservation to be seen"
    );
    let all = mpathpersist(stage, &["--in", "--read-keys"])?;
    let times = all.matches(key).count();
    ensure!(times == stage.routes.len(), "it sees {times} keys");
    mpathpersist(stage, &[&["--out", "--release"], &with_key[..]].concat())?;
    Ok(())
}

/// REGISTER while a path is away registers the path that is there. multipathd makes up for the
/// other one when it comes back.
fn path_that_comes_back(stage: &Stage, key: &str) -> Result<()> {
    let [stays, leaves] = &stage.routes;
    leaves.cut(Fault::Disk)?;
    stage.wait_for_path(leaves, State::Failed)?;
    register(stage, key)?;
    keys(slice::from_ref(stays), 1)?;
    leaves.mend(Fault::Disk)?;
    stage.both_active()?;
    let both = poll(
        PATIENCE,
        || Ok(keys(&stage.routes, stage.routes.len()).ok()),
    )?;
    both.context("multipathd does not register the path that has come back")
}

fn unregister(stage: &Stage, key: &str) -> Result<()> {
    let unregister = ["--out", "--register", "--param-rk", key, "--param-sark=0"];
    mpathpersist(stage, &unregister)?;
    for route in &stage.routes {
        route.device.drain()?;
    }
    keys(&stage.routes, 0)?;
    let file = read(Path::new(PRKEYS))?;
    ensure!(!file.contains(&in_file()), "the key is still in {PRKEYS}");
    Ok(())
}

/// The key as a line of the file begins with it.
fn in_file() -> String {
    format!("{KEY:#018x}")
}

fn mpathpersist(stage: &Stage, arguments: &[&str]) -> Result<String> {
    let mut command = command("mpathpersist");
    command.args(arguments).arg(&stage.map.path);
    let name = format!("mpathpersist {}", arguments.join(" "));
    let output = timed(&name, || text(&mut command))?;
    print!("{output}");
    Ok(output)
}

/// By each of these paths the key has to be registered so many times, and no other.
fn keys(routes: &[Route], times: usize) -> Result<()> {
    let expected = KEY.to_be_bytes().repeat(times);
    for route in routes {
        let reply = route.device.reserve_in(0, 255);
        let right =
            matches!(&reply, Reply::Answer { status: 0, data, .. } if data[8..] == expected);
        let name = &route.name;
        ensure!(right, "{name}: not {times} times {KEY:#x}, but {reply}");
    }
    Ok(())
}
