// SPDX-License-Identifier: MIT OR Apache-2.0

//! Test of the helper's trace of commands on a map: events for each path and for multipathd.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::commands::{register, register_and_ignore};
use super::fault_fixture::KEY;
use super::fixture::MapFixture;
use super::helper_client::{ARGUMENTS, HelperClient, TRACE};
use crate::guest::helper::Helper;

/// Maximum number of trace lines that are printed after a failure.
const MAX_LINES: usize = 300;

/// Registers, reads and unregisters with a trace, and checks it.
pub(super) fn run(fixture: &MapFixture, program: &Path) -> Result<()> {
    let helper = Helper::start_with(program, &ARGUMENTS, &[])?;
    let mut guest = HelperClient::connect(&fixture.map.path)?;
    for reply in [
        guest.reserve_out(&register_and_ignore(KEY))?,
        guest.reserve_in(0, 64)?,
        guest.reserve_out(&register(KEY, 0))?,
    ] {
        ensure!(reply.is_good(), "{reply}");
    }
    helper.stop()?;
    let trace = fs::read_to_string(TRACE).with_context(|| format!("cannot read {TRACE}"))?;
    check(&trace, fixture).with_context(|| format!("the trace:\n{trace}"))?;
    println!("guest: the trace has the events of each path and of multipathd");
    Ok(())
}

/// Returns the last lines of the trace.
pub(super) fn tail() -> String {
    let trace = fs::read_to_string(TRACE).unwrap_or_else(|error| format!("({TRACE}: {error})"));
    let lines: Vec<_> = trace.lines().collect();
    lines[lines.len().saturating_sub(MAX_LINES)..].join("\n")
}

/// Checks that the trace has lines with these words, in this order.
fn check(trace: &str, fixture: &MapFixture) -> Result<()> {
    let [one, two] = fixture.paths.each_ref().map(|path| path.name.as_str());
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
        let has_all = |line: &str| words.split('|').all(|word| line.contains(word));
        ensure!(
            lines.any(has_all),
            "the trace lacks a line with {words:?}, or it is out of order"
        );
    }
    ensure!(
        trace.contains("request='setprkey map dm-"),
        "the key was not sent to multipathd"
    );
    Ok(())
}
