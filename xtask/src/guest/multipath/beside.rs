//! The table of commands through the helper: the same scenes on a single path and on a map, step by step.

use std::fmt;

use anyhow::Result;

use super::device::{Device, Reply};
use super::explain::{ALLOCATIONS, Answers, Nexuses};
use super::scenes::{self, Scene, Step};
use super::side::{Side, registrations};
use super::table::{Expected, Table};

/// Names of the service actions of PERSISTENT RESERVE IN that there are.
const ACTIONS: [&str; 4] = [
    "READ KEYS",
    "READ RESERVATION",
    "REPORT CAPABILITIES",
    "READ FULL STATUS",
];

/// One that there is not.
const RESERVED: u8 = 0x1f;

/// A command's answer, and what the other host was told about it.
#[derive(PartialEq, Eq)]
struct Seen {
    reply: Reply,
    told: Vec<Reply>,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reply)?;
        for told in &self.told {
            write!(f, ", other is told {told}")?;
        }
        Ok(())
    }
}

/// Plays all scenes, with rows for the table.
pub(super) fn run(single: &mut Side, map: &mut Side, table: &mut Table) -> Result<()> {
    let mut count = 0;
    for scene in scenes::all() {
        count += play(&scene, single, map, table)?;
    }
    println!(
        "guest: {count} answers of PERSISTENT RESERVE IN were those of a path past the helper"
    );
    Ok(())
}

fn play(scene: &Scene, single: &mut Side, map: &mut Side, table: &mut Table) -> Result<usize> {
    for side in [&mut *single, &mut *map] {
        side.clean()?;
    }
    let name = &scene.name;
    let mut generations = [None, None];
    let mut count = 0;
    for step in &scene.steps {
        match step {
            Step::Guest(what, make) => {
                let [one, two] = [&mut *single, &mut *map].map(|side| {
                    let order = make(side);
                    let reply = side.guest.tell(&order)?;
                    let told = side.other.1.attentions()?;
                    anyhow::Ok(Seen { reply, told })
                });
                table.add(format!("{name}: {what}"), &one?, &two?, Expected::Same);
            }
            Step::Other(what, order) => {
                let [one, two] = [&*single, &*map].map(|side| side.other.1.reserve_out(order));
                let case = format!("{name}: other host: {what}");
                table.add(case, &one, &two, Expected::Same);
                // What the guest is told of it is a table of its own.
                single.drain_guest()?;
                map.drain_guest()?;
            }
            Step::State => count += state(name, single, map, &mut generations, table)?,
        }
    }
    Ok(count)
}

/// Asks everything, and compares also with what the paths say themselves.
fn state(
    scene: &str,
    single: &mut Side,
    map: &mut Side,
    generations: &mut [Option<u32>; 2],
    table: &mut Table,
) -> Result<usize> {
    let nexuses = nexuses(single, map)?;
    let mut count = 0;
    for action in (0..4).chain([RESERVED]) {
        let what = ACTIONS.get(usize::from(action)).unwrap_or(&"reserved");
        let [one, two] = [&mut *single, &mut *map].map(|side| {
            let through = ask(action, |allocation| side.guest.ask(action, allocation))?;
            let itself = own(action, &side.paths[0].1)?;
            anyhow::Ok((through, itself))
        });
        let (one, two) = (one?, two?);
        for (who, (through, itself)) in [("single", &one), ("map", &two)] {
            count += through.replies.len();
            if through != itself {
                let case = format!("{scene}: {what}, {who}: past the helper | through it");
                table.add(case, itself, through, Expected::Same);
            }
        }
        let expected = nexuses.expect(&one.0, &two.0);
        table.add(format!("{scene}: {what}"), &one.0, &two.0, expected);
        if action == 0 {
            let now = [one.0.generation(), two.0.generation()];
            steps(scene, *generations, now, table);
            *generations = now;
        }
    }
    Ok(count)
}

/// Of what counts on one side, the other must count something too.
fn steps(scene: &str, before: [Option<u32>; 2], now: [Option<u32>; 2], table: &mut Table) {
    if before == [None, None] {
        return;
    }
    let [single, map] = [0, 1].map(|side| match before[side] == now[side] {
        true => "stays",
        false => "goes up",
    });
    table.add(
        format!("{scene}: PRgeneration"),
        &single,
        &map,
        Expected::Same,
    );
}

fn nexuses(single: &Side, map: &Side) -> Result<Nexuses> {
    let (number, path) = &single.paths[0];
    let key = registrations(path)?
        .descriptors
        .iter()
        .find(|one| super::explain::port_of(one) == Some(*number))
        .map(|one| one.key.get());
    Ok(Nexuses {
        single: *number,
        map: map.paths.iter().map(|(number, _)| *number).collect(),
        others: [single.other.0, map.other.0],
        key,
    })
}

fn ask(action: u8, mut ask: impl FnMut(u16) -> Result<Reply>) -> Result<Answers> {
    let replies = ALLOCATIONS.map(&mut ask).into_iter();
    Ok(Answers {
        action,
        replies: replies.collect::<Result<_>>()?,
    })
}

fn own(action: u8, path: &Device) -> Result<Answers> {
    ask(action, |allocation| Ok(path.reserve_in(action, allocation)))
}
