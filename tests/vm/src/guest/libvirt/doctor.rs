// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl doctor` on a host without faults, and with each of several faults, until the commands of
//! the finding have removed the fault.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::daemon::{chown_to_qemu, virsh};
use super::domain::{DomainDefinition, Reservations};
use crate::guest::helper::{Helper, SOCKET};
use crate::guest::maps::{linear, sectors};
use crate::guest::prhctl_command::Prhctl;
use crate::guest::write;
use pr_testkit::process::{command, run, timed};

/// Finding about multipathd's version. Debian 12 and 13 have an older one.
const OLD_MULTIPATHD: &str = "multipathd-old";

/// Exit status if something was found.
const FOUND: i32 = 36;

const MULTIPATH_CONF: &str = "/etc/multipath.conf";

/// Name of a device-mapper device on the disk.
const HOLDER: &str = "doctor-holder";

/// Plants the faults while a domain with `map` runs. `path` is a path of the map.
pub(super) fn run_doctor(prhctl: Prhctl<'_>, program: &Path, map: &Path, path: &str) -> Result<()> {
    let helper = Helper::start(program)?;
    chown_to_qemu(Path::new(SOCKET))?;
    let definition = DomainDefinition::new("checked", map, Reservations::Unmanaged)?;
    let domain = timed("virsh start, and the guest's boot", || definition.start())?;
    let usual = findings(prhctl)?;
    let names: Vec<_> = usual.iter().map(|finding| &finding["id"]).collect();
    ensure!(
        names.iter().all(|name| *name == OLD_MULTIPATHD),
        "a host without faults has findings: {names:?}"
    );

    run(command("chown").args(["root:root", SOCKET]))?;
    run_fix(prhctl, "socket-not-writable")?;

    write(
        Path::new(&format!("/sys/block/{path}/device/state")),
        "offline\n",
    )?;
    run_fix(prhctl, "path-unusable")?;

    let device = fs::canonicalize(map).context("the map does not exist")?;
    let table = linear(sectors(&device)?, map);
    run(command("dmsetup").args(["create", HOLDER, "--noudevsync", "--table", &table]))?;
    run_fix(prhctl, "disk-in-use")?;

    // The commands of these are for systemd, or ask for a change of a file.
    let configuration = fs::read_to_string(MULTIPATH_CONF).context("no multipath.conf")?;
    for (from, to, id) in [
        (
            "reservation_key file",
            "reservation_key 0x1",
            "reservation-key-fixed",
        ),
        ("reservation_key file", "", "reservation-key-missing"),
        (
            "no_path_retry fail",
            "no_path_retry queue",
            "queue-without-paths",
        ),
    ] {
        write(Path::new(MULTIPATH_CONF), &configuration.replace(from, to))?;
        one(prhctl, id)?;
    }
    write(Path::new(MULTIPATH_CONF), &configuration)?;
    helper.stop()?;
    one(prhctl, "socket-unreachable")?;
    let helper = Helper::start_with(program, &["--sandbox=off"], &[])?;
    chown_to_qemu(Path::new(SOCKET))?;
    one(prhctl, "sandbox-off")?;
    helper.stop()?;
    let helper = Helper::start(program)?;
    chown_to_qemu(Path::new(SOCKET))?;
    let left = findings(prhctl)?;
    ensure!(left == usual, "findings are left: {left:?}");
    domain.destroy()?;
    virsh(&["undefine", "checked"])?;
    helper.stop()
}

/// Returns the findings about the host.
fn findings(prhctl: Prhctl<'_>) -> Result<Vec<Value>> {
    let output = prhctl.run_line("--json doctor")?;
    let status = output.status;
    let document = output.json()?;
    let findings = document["findings"].as_array().context("no findings")?;
    let expected = if findings.is_empty() { 0 } else { FOUND };
    ensure!(
        status == Some(expected),
        "exit status {status:?}: {document}"
    );
    println!("guest: not checked: {}", document["not_checked"]);
    Ok(findings.clone())
}

/// Returns the findings with this name. There must be no other one, except about multipathd's
/// version.
fn one(prhctl: Prhctl<'_>, id: &str) -> Result<Vec<Value>> {
    let all = findings(prhctl)?;
    let (mut found, mut others) = (Vec::new(), Vec::new());
    for finding in all {
        match finding["id"].as_str() {
            Some(name) if name == id => found.push(finding),
            Some(OLD_MULTIPATHD) => {}
            _ => others.push(finding),
        }
    }
    ensure!(!found.is_empty(), "{id} was not found");
    ensure!(others.is_empty(), "besides {id}: {others:?}");
    for finding in &found {
        println!("guest: {id}: {}: {}", finding["what"], finding["evidence"]);
    }
    Ok(found)
}

/// Runs the commands of a finding, after which it must be gone.
fn run_fix(prhctl: Prhctl<'_>, id: &str) -> Result<()> {
    for finding in one(prhctl, id)? {
        let lines = finding["fix"].as_array().context("no commands")?;
        let lines = lines.iter().filter_map(Value::as_str);
        for line in lines.filter(|line| !line.starts_with('#')) {
            println!("guest: # {line}");
            // udevd is stopped, and dmsetup would wait for it.
            run(command("sh").args(["-c", line]).env("DM_DISABLE_UDEV", "1"))?;
        }
    }
    let left = findings(prhctl)?;
    let is_left = left.iter().any(|finding| finding["id"] == id);
    ensure!(!is_left, "{id} is still found: {left:?}");
    Ok(())
}
