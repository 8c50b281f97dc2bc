//! Rows of the table: what becomes of commands to the map when paths go away and come back.
//!
//! For each command that comes by `SG_IO`, the kernel asks the path selector for a path, as it does
//! for data: commands take turns on the paths of a group. It sends the command there, and whatever
//! becomes of it is the answer. It does not try another path, and it does not fail this one, so the
//! next command in turn meets the same end. Only data that fails on a path, or multipathd, whose
//! checker looks at each path every few seconds, tells device-mapper to do without it.
//!
//! What the caller gets depends on what is wrong: ENODEV from the driver of a disk that the SCSI
//! layer has set offline, a host status from an adapter that cannot reach the port.
//!
//! Source: `multipath_prepare_ioctl` in `drivers/md/dm-mpath.c` and `dm_blk_ioctl` in
//! `drivers/md/dm.c` of the kernel (6.12).

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::daemons;
use super::device::{Device, Reply, Tally};
use super::stage::{Fault, Stage, State};
use super::table::{Expected, Table};

const UNNOTICED: Expected = Expected::Different(
    "commands to the map take turns on its paths; one that meets the dead path fails, is not tried \
     on another one, and does not make the map leave the path",
);
const NO_PATH: Expected =
    Expected::Different("the map knows that it has no path, and the kernel sends nothing");
const QUEUED: Expected = Expected::Different(
    "a map that queues when it has no path keeps the caller until there is one, whatever timeout \
     the command has",
);

/// Longer than the timeout that the kernel has made of the command's, which is seven seconds.
const WAIT: Duration = Duration::from_secs(9);

/// How many commands and reads show what a map does that uses its paths in turn.
const TURNS: usize = 8;

/// Takes paths away and gives them back.
pub(super) fn run(stage: &Stage, table: &mut Table) -> Result<()> {
    // What reads through the map takes turns too.
    daemons::settle()?;
    let turns = (0..TURNS)
        .map(|_| stage.answering())
        .collect::<Result<Vec<_>>>()?;
    println!("guest: commands to the map are answered by the paths {turns:?}");
    for path in 0..stage.routes.len() {
        ensure!(turns.contains(&path), "no command goes to path {path}");
    }
    unnoticed(stage, 0, Fault::Disk, table)?;
    unnoticed(stage, 1, Fault::Transport, table)?;
    noticed(stage, table)?;
    no_path(stage, table)?;
    queued(stage, table)
}

/// A path goes away, and nobody but the kernel can see it.
fn unnoticed(stage: &Stage, path: usize, fault: Fault, table: &mut Table) -> Result<()> {
    let (gone, left) = (&stage.routes[path], &stage.routes[1 - path]);
    let case = |what: &str| match fault {
        Fault::Disk => format!("{} offline, {what}", gone.name),
        Fault::Transport => format!("{} cut off, {what}", gone.name),
    };
    stage.multipathd.freeze()?;
    gone.cut(fault)?;
    let map = in_turn(&stage.map);
    for (who, route) in [("itself", gone), ("the other", left)] {
        let single = in_turn(&route.device);
        table.add(case(&format!("unnoticed; {who}")), &single, &map, UNNOTICED);
    }
    // Some of this meets the dead path and is tried on the other one. From then on commands go
    // there too.
    stage.read_blocks(TURNS)?;
    let (single, map) = (in_turn(&left.device), in_turn(&stage.map));
    table.add(
        case("blocks read; the other"),
        &single,
        &map,
        Expected::Same,
    );
    gone.mend(fault)?;
    // A port that was cut off tells whoever asks first: I_T NEXUS LOSS OCCURRED.
    gone.device.drain()?;
    // The kernel does not take a path back by itself.
    let (single, map) = (in_turn(&gone.device), in_turn(&stage.map));
    table.add(case("then mended; itself"), &single, &map, Expected::Same);
    ensure!(
        stage.answering()? == 1 - path,
        "the kernel uses a path that it has failed"
    );
    stage.multipathd.thaw()?;
    stage.both_active()?;
    table.each("both paths reinstated", stage, read_keys);
    Ok(())
}

/// A path goes away, and multipathd's checker sees it.
fn noticed(stage: &Stage, table: &mut Table) -> Result<()> {
    let [gone, left] = &stage.routes;
    gone.cut(Fault::Disk)?;
    stage.wait_for_path(gone, State::Failed)?;
    let case = format!("{} offline, noticed; the other", gone.name);
    let (single, map) = (in_turn(&left.device), in_turn(&stage.map));
    table.add(case, &single, &map, Expected::Same);
    gone.mend(Fault::Disk)?;
    stage.both_active()?;
    table.each("both paths reinstated", stage, read_keys);
    Ok(())
}

/// Both paths go away, and multipathd's checker sees it.
fn no_path(stage: &Stage, table: &mut Table) -> Result<()> {
    for route in &stage.routes {
        route.cut(Fault::Disk)?;
    }
    for route in &stage.routes {
        stage.wait_for_path(route, State::Failed)?;
    }
    let single = read_keys(&stage.routes[0].device);
    table.add("both offline", &single, &read_keys(&stage.map), NO_PATH);
    Ok(())
}

/// There is still no path, and the map is told to keep what it is sent until there is one.
fn queued(stage: &Stage, table: &mut Table) -> Result<()> {
    // It would set the map to what its configuration says, and reinstate the path by itself.
    stage.multipathd.freeze()?;
    stage.message("queue_if_no_path")?;
    let map = Device::open(&stage.map.path)?;
    let (sender, replies) = channel();
    thread::spawn(move || sender.send(read_keys(&map)));
    let reply = match replies.recv_timeout(WAIT) {
        Err(RecvTimeoutError::Timeout) => Reply::Waiting,
        reply => reply.context("the thread that asked has gone")?,
    };
    let route = &stage.routes[0];
    let single = read_keys(&route.device);
    table.add("both offline, map queues", &single, &reply, QUEUED);
    route.mend(Fault::Disk)?;
    stage.message(&format!("reinstate_path {}", route.number()?))?;
    let reply = replies.recv_timeout(daemons::PATIENCE);
    let reply = reply.context("a command is not answered though there is a path again")?;
    let single = read_keys(&route.device);
    table.add("then one is back", &single, &reply, Expected::Same);
    stage.message("fail_if_no_path")?;
    stage.routes[1].mend(Fault::Disk)?;
    stage.multipathd.thaw()?;
    stage.both_active()?;
    table.each("both paths back", stage, read_keys);
    Ok(())
}

/// What comes of READ KEYS if it is sent again and again.
fn in_turn(device: &Device) -> Tally {
    (0..TURNS).map(|_| read_keys(device)).collect()
}

fn read_keys(device: &Device) -> Reply {
    device.reserve_in(0, 255)
}
