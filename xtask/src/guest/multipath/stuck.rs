//! Fault cases: a map that keeps commands. One that queues without a path, and one that is suspended.

use anyhow::{Context as _, Result, ensure};

use super::commands::{REGISTRANTS, register, release, reserve};
use super::daemons::{Keys, WithoutPath};
use super::lab::{KEY, Lab};
use super::stage::{Fault, State};
use super::through::{Guest, TIMEOUT, clocked};
use crate::process::{command, run as run_command, text};

/// Both.
pub(super) fn run(lab: &mut Lab<'_>) -> Result<()> {
    lab.clean()?;
    queueing(lab).context("map without paths that queues")?;
    suspended(lab).context("suspended map")
}

fn queueing(lab: &mut Lab<'_>) -> Result<()> {
    let multipathd = &lab.stage.multipathd;
    multipathd.configure(Keys::InFile, WithoutPath::Queue)?;
    lab.done("REGISTER", &register(0, KEY))?;
    for route in &lab.stage.routes {
        route.cut(Fault::Disk)?;
    }
    for route in &lab.stage.routes {
        lab.stage.wait_for_path(route, State::Failed)?;
    }
    let mut replies = vec![lab.ask("map queues without paths: READ KEYS")?];
    for (name, order) in [
        ("RESERVE", reserve(KEY, REGISTRANTS)),
        ("REGISTER", register(KEY, KEY)),
    ] {
        let case = format!("map queues without paths: {name}");
        replies.push(lab.tell(&case, &order)?);
    }
    let table = text(command("dmsetup").args(["table", &lab.stage.name]))?;
    ensure!(table.contains("queue_if_no_path"), "the map is {table}");
    for reply in replies {
        let key = reply.sense().map(|[key, ..]| key);
        ensure!(key == Some(0x0b), "{reply}");
    }
    multipathd.configure(Keys::InFile, WithoutPath::Fail)?;
    for route in &lab.stage.routes {
        route.mend(Fault::Disk)?;
    }
    lab.stage.both_active()?;
    lab.sees("paths back: READ KEYS", &[KEY; 2])?;
    lab.done("paths back: RESERVE", &reserve(KEY, REGISTRANTS))?;
    lab.clean()
}

/// A guest of another map does not notice.
fn suspended(lab: &mut Lab<'_>) -> Result<()> {
    lab.done("REGISTER", &register(0, KEY))?;
    let mut elsewhere = Guest::connect(lab.elsewhere)?;
    let name = &lab.stage.name;
    run_command(command("dmsetup").args(["suspend", "--noflush", name]))?;
    let result = while_suspended(lab, &mut elsewhere);
    run_command(command("dmsetup").args(["resume", name]))?;
    result?;
    lab.sees("map resumed: READ KEYS", &[KEY; 2])?;
    lab.clean()
}

fn while_suspended(lab: &mut Lab<'_>, elsewhere: &mut Guest) -> Result<()> {
    let info = [
        "info",
        "-c",
        "--noheadings",
        "-o",
        "suspended",
        &lab.stage.name,
    ];
    let state = text(command("dmsetup").args(info))?;
    ensure!(state.trim() == "Suspended", "the map is {state:?}");
    for (name, order) in [
        ("REGISTER", register(0, KEY)),
        ("RESERVE", reserve(KEY, REGISTRANTS)),
        ("RELEASE", release(KEY, REGISTRANTS)),
        ("unregister", register(KEY, 0)),
    ] {
        let (reply, time) = clocked(|| elsewhere.tell(&order))?;
        let case = format!("other map while one is suspended: {name}");
        let reply = lab.note(&case, reply, time, TIMEOUT)?;
        ensure!(reply.is_good(), "{case}: {reply}");
    }
    // There is nothing of it that needs the map.
    lab.sees("suspended map: READ KEYS", &[KEY; 2])?;
    lab.done("suspended map: RESERVE", &reserve(KEY, REGISTRANTS))?;
    lab.done("suspended map: RELEASE", &release(KEY, REGISTRANTS))
}
