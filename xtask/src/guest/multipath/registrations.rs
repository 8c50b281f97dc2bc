//! Rows of the table: what the four service actions of PERSISTENT RESERVE IN answer, with both
//! paths up.

use anyhow::{Result, ensure};

use super::commands::{clear, register_and_ignore};
use super::daemons;
use super::device::{Device, Tally};
use super::stage::Stage;
use super::table::{Expected, Table};
use crate::process::{command, run as run_command};

/// The service actions, with the names that the rows give them.
const ACTIONS: [(u8, &str); 4] = [
    (0, "READ KEYS"),
    (1, "READ RESERVATION"),
    (2, "REPORT CAPABILITIES"),
    (3, "READ FULL STATUS"),
];

/// Too short for the header, the header, a part of what follows it, all, and the longest that
/// multipath-tools can ask for.
const ALLOCATIONS: [u16; 5] = [4, 8, 20, 255, 8192];

const KEYS: [&str; 2] = ["0xa1", "0xb2"];

/// Takes the unit through its states and asks in each, by the map and by each path.
pub(super) fn run(stage: &Stage, table: &mut Table) -> Result<()> {
    clean(stage)?;
    daemons::settle()?;
    ask(stage, "clean", table);
    register(stage, 0)?;
    ask(stage, "one path registered", table);
    register(stage, 1)?;
    ask(stage, "both registered", table);
    persist(
        stage,
        0,
        &["--reserve", "--param-rk", KEYS[0], "--prout-type=5"],
    )?;
    ask(stage, "reserved", table);
    persist(stage, 0, &["--clear", "--param-rk", KEYS[0]])?;
    attention(stage, table)
}

/// Removes what others have left registered.
fn clean(stage: &Stage) -> Result<()> {
    const CLEANER: u64 = 0xc1ea;
    let [first, _] = &stage.routes;
    first.device.drain()?;
    for order in [register_and_ignore(CLEANER), clear(CLEANER)] {
        let reply = first.device.reserve_out(&order);
        ensure!(reply.is_good(), "cleaning: {reply}");
    }
    let mut routes = stage.routes.iter();
    routes.try_for_each(|route| route.device.drain())
}

/// A unit attention is a path's own. Of the commands to the map, the first that goes to this path
/// gets it, as the first one past the map would have.
fn attention(stage: &Stage, table: &mut Table) -> Result<()> {
    let told = &stage.routes[1].device;
    let replies = |device: &Device| -> Tally {
        // Without PRgeneration, which goes up in between.
        (0..4).map(|_| device.reserve_in(2, 8)).collect()
    };
    let clear = || -> Result<()> {
        for path in 0..stage.routes.len() {
            stage.routes[path].device.drain()?;
            register(stage, path)?;
        }
        persist(stage, 0, &["--clear", "--param-rk", KEYS[0]])
    };
    // Its checker sends TEST UNIT READY to each path, which takes unit attentions too.
    stage.multipathd.freeze()?;
    clear()?;
    let single = replies(told);
    clear()?;
    let map = replies(&stage.map);
    stage.multipathd.thaw()?;
    let case = "cleared by a path; the other, REPORT CAPABILITIES";
    table.add(case, &single, &map, Expected::Same);
    Ok(())
}

fn ask(stage: &Stage, state: &str, table: &mut Table) {
    for (action, name) in ACTIONS {
        for allocation in ALLOCATIONS {
            let case = format!("{state}, {name} {allocation}");
            table.each(&case, stage, |device| device.reserve_in(action, allocation));
        }
    }
}

fn register(stage: &Stage, path: usize) -> Result<()> {
    persist(stage, path, &["--register", "--param-sark", KEYS[path]])
}

/// PERSISTENT RESERVE OUT by one path of the two.
fn persist(stage: &Stage, path: usize, arguments: &[&str]) -> Result<()> {
    run_command(
        command("sg_persist")
            .args(["--no-inquiry", "--out"])
            .args(arguments)
            .arg(&stage.routes[path].generic),
    )
}
