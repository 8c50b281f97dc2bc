//! How long commands take, through the helper and with multipath-tools' own client.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::commands::register_and_ignore;
use super::lab::{KEY, Lab, NEW};
use super::through::{Guest, clocked};
use crate::process::{command, text};

/// Of each, in turns, so that whatever else the machine does falls on all.
const ROUNDS: usize = 9;

/// Measures and prints medians.
pub(super) fn run(lab: &mut Lab<'_>, single: &Path) -> Result<()> {
    lab.clean()?;
    let mut path = Guest::connect(single)?;
    let mut helper = Vec::new();
    let mut mpathpersist = Vec::new();
    let mut keys = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        let key = if round % 2 == 0 { KEY } else { NEW };
        let (reply, time) = clocked(|| lab.guest.tell(&register_and_ignore(key)))?;
        ensure!(reply.is_good(), "REGISTER AND IGNORE: {reply}");
        lab.keys(&[key; 2])?;
        helper.push(time);
        let key = key + 1;
        let sark = format!("--param-sark={key:#x}");
        let arguments = ["--out", "--register-ignore", sark.as_str()];
        let mut client = command("mpathpersist");
        client.args(arguments).arg(&lab.stage.map.path);
        mpathpersist.push(clocked(|| text(&mut client))?.1);
        lab.keys(&[key; 2])?;
        for (guest, times) in [&mut lab.guest, &mut path].into_iter().zip(&mut keys) {
            let (reply, time) = clocked(|| guest.ask(0, 8192))?;
            ensure!(reply.is_good(), "READ KEYS: {reply}");
            times.push(time);
        }
    }
    let [on_the_map, on_a_path] = keys;
    for (what, times) in [
        ("REGISTER AND IGNORE on the map, through the helper", helper),
        ("the same with mpathpersist", mpathpersist),
        ("READ KEYS of the map, through the helper", on_the_map),
        ("READ KEYS of a single path, through the helper", on_a_path),
    ] {
        let milliseconds = median(times).as_secs_f64() * 1000.0;
        println!("median of {ROUNDS}: {what}: {milliseconds:.1} ms");
    }
    lab.clean()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
