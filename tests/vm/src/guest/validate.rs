// SPDX-License-Identifier: MIT OR Apache-2.0

//! Test of `prhctl validate` on a disk of LIO: no step fails except those of known differences, and
//! READ and WRITE are tested on an empty disk only.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use pr_testkit::process::{command, run as run_command};
use serde_json::Value;

use super::helper::{Helper, helper_stderr};
use super::lio_target::Port;
use super::prhctl_command::Prhctl;

/// Exit status if the disk is refused.
const REFUSED: i32 = 1;

/// The steps that find a deviation of LIO, with the rows of docs/lio-differences.md.
const KNOWN_DIFFERENCES: [&str; 3] = [
    "generation-unregister L21",
    "reserve-unregistered L11",
    "release-wrong-type L15",
];

/// The profiles other than the default.
const PROFILES: [&str; 4] = ["wsfc", "fence_scsi", "fence_mpath", "lvm"];

/// The steps that need a map, or a command that the loopback fabric never answers.
const NOT_TESTED: [&str; 2] = ["path-registration", "preempt-and-abort"];

/// Runs all steps through `helper`.
pub(crate) fn run(prhctl: &Path, helper: &Path, ports: &[Port; 2]) -> Result<()> {
    let running = Helper::start(helper)?;
    let prhctl = Prhctl(prhctl);
    erase(ports)?;
    let report = validate(prhctl, ports, &[])
        .with_context(|| format!("with {}; its stderr: {}", helper.display(), helper_stderr()))?;
    let known = rows(&report, "known difference", |row| {
        let id = row["known_difference"].as_str().unwrap_or_default();
        format!("{} {id}", name(row))
    });
    ensure!(known == KNOWN_DIFFERENCES, "known differences: {known:?}");
    let not_tested = rows(&report, "not tested", |row| name(row).to_owned());
    ensure!(not_tested == NOT_TESTED, "not tested: {not_tested:?}");

    for profile in PROFILES {
        let report = validate(prhctl, ports, &["--profile", profile])?;
        let known = rows(&report, "known difference", |row| name(row).to_owned());
        ensure!(known.is_empty(), "{profile}: known differences: {known:?}");
    }

    let mut data = vec![0; 1 << 20];
    let mut disk = OpenOptions::new().read(true).open(&ports[1].block)?;
    disk.read_exact(&mut data)?;
    ensure!(data.iter().all(|byte| *byte == 0), "the disk has changed");
    let status = prhctl.query("status", &ports[0].block)?;
    ensure!(
        status["registrations"] == serde_json::json!([]),
        "{status:#}"
    );
    println!("guest: a disk of LIO is valid with {}", helper.display());
    running.stop()
}

/// Checks that a disk with partitions is not written to.
pub(crate) fn refuses_partitions(prhctl: &Path, helper: &Path, ports: &[Port; 2]) -> Result<()> {
    let running = Helper::start(helper)?;
    let output = Prhctl(prhctl).run(&["validate"], &ports[0].block, &["--write"])?;
    output
        .expect_status(REFUSED)?
        .expect_stderr(&["not empty: it has partitions"])?;
    running.stop()
}

/// Runs all steps, of which none fails, and returns the document.
fn validate(prhctl: Prhctl<'_>, ports: &[Port; 2], options: &[&str]) -> Result<Value> {
    let [first, second] = ports;
    let second = second.block.display().to_string();
    let options = [&[&second, "--write"], options].concat();
    let output = prhctl.run(&["--json", "validate"], &first.block, &options)?;
    let report = output.json()?;
    let failed = rows(&report, "failed", |row| format!("{row:#}"));
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    output.expect_status(0)?;
    Ok(report)
}

/// Returns a text for each row with this verdict.
fn rows(report: &Value, verdict: &str, text: impl Fn(&Value) -> String) -> Vec<String> {
    let rows = report["rows"].as_array().into_iter().flatten();
    rows.filter(|row| row["verdict"] == verdict)
        .map(text)
        .collect()
}

fn name(row: &Value) -> &str {
    row["step"].as_str().unwrap_or_default()
}

/// Removes the partition table of the ports' disk.
fn erase(ports: &[Port; 2]) -> Result<()> {
    let mut disk = OpenOptions::new().write(true).open(&ports[0].block)?;
    disk.write_all(&[0; 4096])?;
    disk.sync_all()?;
    drop(disk);
    for port in ports {
        let mut blockdev = command("blockdev");
        run_command(
            blockdev
                .args(["--flushbufs", "--rereadpt"])
                .arg(&port.block),
        )?;
    }
    Ok(())
}
