//! What the helper's trace says of commands on a map: each path that they went by, and multipathd.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::commands::{register, register_and_ignore};
use super::lab::KEY;
use super::stage::Stage;
use super::through::{ARGUMENTS, Guest, TRACE};
use crate::guest::helper::Helper;

/// How many lines are shown of a trace after a failure.
const MOST_LINES: usize = 300;

/// Registers, asks and unregisters, with a trace.
pub(super) fn run(stage: &Stage, program: &Path) -> Result<()> {
    let helper = Helper::start_with(program, &ARGUMENTS, &[])?;
    let mut guest = Guest::connect(&stage.map.path)?;
    for reply in [
        guest.tell(&register_and_ignore(KEY))?,
        guest.ask(0, 64)?,
        guest.tell(&register(KEY, 0))?,
    ] {
        ensure!(reply.is_good(), "{reply}");
    }
    helper.stop()?;
    let trace = fs::read_to_string(TRACE).with_context(|| format!("cannot read {TRACE}"))?;
    check(&trace, stage).with_context(|| format!("the trace:\n{trace}"))?;
    println!("guest: the trace has what went by each path, and what multipathd was told");
    Ok(())
}

/// The last lines of it.
pub(super) fn end() -> String {
    let trace = fs::read_to_string(TRACE).unwrap_or_else(|error| format!("({TRACE}: {error})"));
    let lines: Vec<_> = trace.lines().collect();
    lines[lines.len().saturating_sub(MOST_LINES)..].join("\n")
}

/// Lines with these words have to be there, in this order.
fn check(trace: &str, stage: &Stage) -> Result<()> {
    let [one, two] = stage.routes.each_ref().map(|route| route.name.as_str());
    let path = |path: &str, command: &str| {
        format!(
            "pr_helper_path |path='{path}' {command} result=answered status=0x00 sense=0x000000"
        )
    };
    let ignoring = "opcode=0x5f action=0x06";
    let expected = [
        "pr_helper_map_turn |taken=1".to_owned(),
        "pr_helper_worker_begin |action='REGISTER AND IGNORE EXISTING KEY'".to_owned(),
        path(one, ignoring),
        path(two, ignoring),
        "pr_helper_worker_end |result='reported'".to_owned(),
        format!("pr_helper_out_end |sa_key={KEY:#x} status=0x00"),
        "pr_helper_in_begin |action='READ KEYS' length=64".to_owned(),
        path("map", "opcode=0x5e action=0x00"),
        "pr_helper_in_end |length=24 status=0x00".to_owned(),
        "pr_helper_worker_begin |action='REGISTER'".to_owned(),
        "pr_helper_multipathd |request='unsetprstatus map dm-".to_owned(),
        format!("pr_helper_out_end |key={KEY:#x} sa_key=0x0 status=0x00"),
    ];
    let mut lines = trace.lines();
    for words in expected {
        let is_it = |line: &str| words.split('|').all(|word| line.contains(word));
        ensure!(
            lines.any(is_it),
            "there is no line, or not there, with {words:?}"
        );
    }
    ensure!(
        trace.contains("request='setprkey map dm-"),
        "multipathd was not told the key"
    );
    Ok(())
}
