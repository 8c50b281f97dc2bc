// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl validate` on a map: the steps for one node find no deviations but those of LIO, each
//! path is registered, and a map with a partition is refused.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::fixture::{name_of, wait_for_map, wait_for_map_of};
use super::helper_client;
use crate::guest::helper::Helper;
use crate::guest::lio_target::Port;
use crate::guest::prhctl_command::Prhctl;
use pr_testkit::process::{command, run as run_command};

/// Exit status if the disk is refused.
const REFUSED: i32 = 1;

/// Runs the steps through `helper` on the map of a new unit.
pub(super) fn run(prhctl: &Path, helper: &Path, ports: &[Port; 2]) -> Result<()> {
    let names = [name_of(&ports[0].block)?, name_of(&ports[1].block)?];
    let name = wait_for_map_of(&names.each_ref().map(String::as_str))?;
    let map = wait_for_map(&name)?;
    // A udev rule starts kpartx, which creates it.
    wait_for_map(&format!("{name}-part1"))?;
    let running = Helper::start_with(helper, &helper_client::ARGUMENTS, &[])?;
    let output = Prhctl(prhctl).run(&["validate"], &map, &[])?;
    output
        .expect_status(REFUSED)?
        .expect_stderr(&["in use on this host"])?;
    run_command(command("kpartx").arg("-d").arg(&map))?;

    let output = Prhctl(prhctl).run(&["--json", "validate"], &map, &[])?;
    let report = output.json()?;
    let rows = report["rows"].as_array();
    let rows = rows.with_context(|| format!("refused: {report:#}"))?;
    let is_failed = |row: &&Value| row["verdict"] == "failed";
    let failed: Vec<_> = rows.iter().filter(is_failed).collect();
    ensure!(failed.is_empty(), "{failed:#?}");
    let is_of_paths = |row: &&Value| row["step"] == "path-registration";
    let paths = rows.iter().find(is_of_paths);
    let is_passed = paths.is_some_and(|row| row["verdict"] == "pass");
    ensure!(is_passed, "{paths:#?}");
    output.expect_status(0)?;
    running.stop()
}
