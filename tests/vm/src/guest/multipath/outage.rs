// SPDX-License-Identifier: MIT OR Apache-2.0

//! Rows of the table: commands to the map while paths fail and return.
//!
//! For each `SG_IO` command, the kernel selects a path like for data, so commands use the paths of
//! a group in turn. The kernel sends the command on that path and returns its result; it neither
//! retries on another path nor fails this one, so the next command on this path fails in the same
//! way. Only a data error on a path, or multipathd's checker, which tests each path every few
//! seconds, makes device-mapper stop using it.
//!
//! The caller's error depends on the fault: ENODEV from the driver of a disk that the SCSI layer
//! has set offline, a host status from an adapter that cannot reach the port.
//!
//! Source: `multipath_prepare_ioctl` in `drivers/md/dm-mpath.c` and `dm_blk_ioctl` in
//! `drivers/md/dm.c` of the kernel (6.12).

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::daemons;
use super::device::{Device, Reply, ReplyCounts};
use super::fixture::{Fault, MapFixture, State, TURNS};
use super::table::{Expected, Table};

const UNNOTICED: Expected = Expected::Different(
    "commands to the map use its paths in turn; on a dead path they fail, are not retried on \
     another path, and do not make the map stop using the path",
);
const NO_PATH: Expected =
    Expected::Different("the map has no path, and the kernel rejects the command");
const QUEUED: Expected = Expected::Different(
    "a map that queues without a path blocks the caller until a path returns, regardless of the \
     command's timeout",
);

/// Longer than the seven seconds to which the kernel raises the command's timeout.
const WAIT: Duration = Duration::from_secs(9);

/// Makes paths fail and restores them.
pub(super) fn run(fixture: &MapFixture, table: &mut Table) -> Result<()> {
    // udevd's reads of the map would use the paths in turn too.
    daemons::settle()?;
    let turns = (0..TURNS)
        .map(|_| fixture.active_path())
        .collect::<Result<Vec<_>>>()?;
    println!("guest: commands to the map used the paths {turns:?}");
    for path in 0..fixture.paths.len() {
        ensure!(turns.contains(&path), "no command used path {path}");
    }
    unnoticed(fixture, 0, Fault::Disk, table)?;
    unnoticed(fixture, 1, Fault::Transport, table)?;
    noticed(fixture, table)?;
    no_path(fixture, table)?;
    queued(fixture, table)
}

/// A path fails, and only the kernel can notice.
fn unnoticed(fixture: &MapFixture, path: usize, fault: Fault, table: &mut Table) -> Result<()> {
    let (failed, other) = (&fixture.paths[path], &fixture.paths[1 - path]);
    let case = |what: &str| match fault {
        Fault::Disk => format!("{} offline, {what}", failed.name),
        Fault::Transport => format!("{} disconnected, {what}", failed.name),
    };
    fixture.multipathd.freeze()?;
    failed.fail(fault)?;
    let map = repeat_read_keys(&fixture.map);
    for (label, path) in [("failed path", failed), ("other path", other)] {
        let single = repeat_read_keys(&path.device);
        table.add(
            case(&format!("unnoticed; {label}")),
            &single,
            &map,
            UNNOTICED,
        );
    }
    // Some reads fail on the dead path and are retried on the other one. Afterwards commands use
    // that one too.
    fixture.read_blocks(TURNS)?;
    let (single, map) = (
        repeat_read_keys(&other.device),
        repeat_read_keys(&fixture.map),
    );
    table.add(
        case("after reads; other path"),
        &single,
        &map,
        Expected::Same,
    );
    failed.restore(fault)?;
    // The port has a unit attention for the first command: I_T NEXUS LOSS OCCURRED.
    failed.device.drain()?;
    // The kernel does not reinstate a path by itself.
    let (single, map) = (
        repeat_read_keys(&failed.device),
        repeat_read_keys(&fixture.map),
    );
    table.add(case("restored; failed path"), &single, &map, Expected::Same);
    ensure!(
        fixture.active_path()? == 1 - path,
        "the kernel uses a failed path"
    );
    fixture.multipathd.thaw()?;
    fixture.both_active()?;
    table.add_paths("both paths reinstated", fixture, read_keys);
    Ok(())
}

/// A path fails, and multipathd's checker notices.
fn noticed(fixture: &MapFixture, table: &mut Table) -> Result<()> {
    let [failed, other] = &fixture.paths;
    failed.fail(Fault::Disk)?;
    fixture.wait_for_path(failed, State::Failed)?;
    let case = format!("{} offline, noticed; other path", failed.name);
    let (single, map) = (
        repeat_read_keys(&other.device),
        repeat_read_keys(&fixture.map),
    );
    table.add(case, &single, &map, Expected::Same);
    failed.restore(Fault::Disk)?;
    fixture.both_active()?;
    table.add_paths("both paths reinstated", fixture, read_keys);
    Ok(())
}

/// Both paths fail, and multipathd's checker notices.
fn no_path(fixture: &MapFixture, table: &mut Table) -> Result<()> {
    for path in &fixture.paths {
        path.fail(Fault::Disk)?;
    }
    for path in &fixture.paths {
        fixture.wait_for_path(path, State::Failed)?;
    }
    let single = read_keys(&fixture.paths[0].device);
    table.add("both offline", &single, &read_keys(&fixture.map), NO_PATH);
    Ok(())
}

/// Both paths are still failed, and the map is set to queue commands until a path returns.
fn queued(fixture: &MapFixture, table: &mut Table) -> Result<()> {
    // multipathd would restore the configured setting and reinstate the path by itself.
    fixture.multipathd.freeze()?;
    fixture.message("queue_if_no_path")?;
    let map = Device::open(&fixture.map.path)?;
    let (sender, replies) = channel();
    thread::spawn(move || sender.send(read_keys(&map)));
    let reply = match replies.recv_timeout(WAIT) {
        Err(RecvTimeoutError::Timeout) => Reply::Pending,
        reply => reply.context("the command's thread exited")?,
    };
    let path = &fixture.paths[0];
    let single = read_keys(&path.device);
    table.add("both offline, map queues", &single, &reply, QUEUED);
    path.restore(Fault::Disk)?;
    fixture.message(&format!("reinstate_path {}", path.device_number()?))?;
    let reply = replies.recv_timeout(daemons::TIMEOUT);
    let reply = reply.context("a command did not complete after a path was restored")?;
    let single = read_keys(&path.device);
    table.add("one path restored", &single, &reply, Expected::Same);
    fixture.message("fail_if_no_path")?;
    fixture.paths[1].restore(Fault::Disk)?;
    fixture.multipathd.thaw()?;
    fixture.both_active()?;
    table.add_paths("both paths restored", fixture, read_keys);
    Ok(())
}

/// Sends READ KEYS repeatedly and returns the results.
fn repeat_read_keys(device: &Device) -> ReplyCounts {
    (0..TURNS).map(|_| read_keys(device)).collect()
}

fn read_keys(device: &Device) -> Reply {
    device.reserve_in(0, 255)
}
