// SPDX-License-Identifier: MIT OR Apache-2.0

//! The state document and the metrics show a path that is not registered although the guest is.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use pr_testkit::process::poll;
use serde_json::{Value, json};

use super::commands::register;
use super::daemons::TIMEOUT as DAEMON_TIMEOUT;
use super::device::Reply;
use super::fault_fixture::{FaultFixture, KEY};
use super::fixture::Fault;
use crate::guest::prhctl_command::Prhctl;
use crate::guest::read;

const METRICS: &str = "/run/pr-helper.prom";

/// Maximum number of attempts at a failure that multipathd does not notice.
const MAX_ATTEMPTS: usize = 5;

/// Runs all cases.
pub(super) fn run(faults: &mut FaultFixture<'_>, prhctl: Prhctl<'_>) -> Result<()> {
    faults.clean()?;
    let [_, failed] = &faults.fixture.paths;
    expect(faults, prhctl, None).context("before the registration")?;
    failed.fail(Fault::Disk)?;
    faults.expect_good("path offline: REGISTER", &register(0, KEY))?;
    expect(faults, prhctl, Some("not-registered")).context("path offline")?;
    let warning = format!("are not registered: {}. ", failed.name);
    let text = prhctl.run_line("disks")?.expect_status(0)?;
    text.expect_stdout(&[&warning])?;
    faults.restore(failed, Fault::Disk)?;
    faults.wait_for_keys("path restored: multipathd registers it", &[KEY; 2])?;
    poll(DAEMON_TIMEOUT, || is_shown(faults, prhctl, "registered"))?.context("path restored")?;
    expect(faults, prhctl, Some("registered")).context("path restored")?;

    let mut attempt = 1;
    while !fail_unnoticed(faults, prhctl)? {
        ensure!(attempt < MAX_ATTEMPTS, "multipathd noticed each failure");
        attempt += 1;
    }
    expect(faults, prhctl, Some("not-registered")).context("path returned unnoticed")?;
    faults.expect_good("path returned: REGISTER", &register(KEY, KEY))?;
    faults.expect_keys(&[KEY; 2])?;
    expect(faults, prhctl, Some("registered")).context("path returned: REGISTER")?;
    faults.clean()?;
    expect(faults, prhctl, None).context("after the end of the registration")
}

/// Lets a path return without a registration. Checks that the helper finds that out, without any
/// effect on the registrations. Returns false if multipathd has registered the path, because it
/// noticed the failure.
fn fail_unnoticed(faults: &mut FaultFixture<'_>, prhctl: Prhctl<'_>) -> Result<bool> {
    let [_, failed] = &faults.fixture.paths;
    failed.device.drain()?;
    let lost = failed.device.reserve_out(&register(KEY, 0));
    ensure!(lost.is_good(), "{}: unregister: {lost}", failed.name);
    failed.fail(Fault::Disk)?;
    faults.expect_good("path offline: REGISTER again", &register(KEY, KEY))?;
    failed.restore(Fault::Disk)?;
    let before = generation(faults)?;
    expect(faults, prhctl, Some("unknown")).context("path offline, same key")?;
    let is_unnoticed = poll(DAEMON_TIMEOUT, || {
        if faults.registered_keys()? == [KEY; 2] {
            return Ok(Some(false));
        }
        let is_shown = is_shown(faults, prhctl, "not-registered")?;
        Ok(is_shown.map(|()| true))
    })?;
    let is_unnoticed = is_unnoticed.context("the path was not checked")?;
    let after = generation(faults)?;
    ensure!(
        !is_unnoticed || before == after,
        "PRgeneration was {before} and is {after}"
    );
    Ok(is_unnoticed)
}

/// Returns PRgeneration as the other host sees it.
fn generation(faults: &FaultFixture<'_>) -> Result<u32> {
    faults.other.drain()?;
    let reply = faults.other.reserve_in(0, 8);
    let Reply::Response {
        status: 0, data, ..
    } = &reply
    else {
        bail!("READ KEYS: {reply}");
    };
    Ok(scsi_pr::Keys::decode(data)?.value.generation.get())
}

/// Returns whether the state document shows the second path with this registration, and the first
/// one as registered.
fn is_shown(
    faults: &FaultFixture<'_>,
    prhctl: Prhctl<'_>,
    registration: &str,
) -> Result<Option<()>> {
    let is_shown = paths(faults, prhctl)? == expected_paths(faults, registration);
    Ok(is_shown.then_some(()))
}

fn expected_paths(faults: &FaultFixture<'_>, registration: &str) -> Value {
    let [first, second] = faults.fixture.paths.each_ref().map(|path| &path.name);
    sorted(vec![
        json!([first, "registered"]),
        json!([second, registration]),
    ])
}

/// Checks the registration of the second path in the state document and the metrics, or that both
/// contain no path.
fn expect(faults: &FaultFixture<'_>, prhctl: Prhctl<'_>, registration: Option<&str>) -> Result<()> {
    let paths = paths(faults, prhctl)?;
    let expected = registration.map_or_else(|| json!([]), |one| expected_paths(faults, one));
    ensure!(paths == expected, "{paths} instead of {expected}");
    prhctl
        .run_line(&format!("exporter --textfile {METRICS}"))?
        .expect_status(0)?;
    let metrics = read(Path::new(METRICS))?;
    let mut lines = metrics.lines();
    let unregistered = lines.find(|line| {
        line.starts_with("pr_helper_map_paths{") && line.contains("registration=\"not-registered\"")
    });
    let count = unregistered.and_then(|line| line.rsplit(' ').next());
    let expected = registration.map(|one| if one == "not-registered" { "1" } else { "0" });
    ensure!(
        count == expected,
        "{count:?} instead of {expected:?}: {metrics}"
    );
    Ok(())
}

/// Returns the paths of the map with their registrations in the state document, sorted.
fn paths(faults: &FaultFixture<'_>, prhctl: Prhctl<'_>) -> Result<Value> {
    let document = prhctl.run_line("--json disks")?.expect_status(0)?.json()?;
    let disks = document["disks"].as_array().context("no disks")?;
    let mut devices = disks
        .iter()
        .filter_map(|disk| disk["devices"].as_array())
        .flatten();
    let map = devices.find(|device| device["alias"] == json!(faults.fixture.name));
    let paths = map.and_then(|map| map["paths"].as_array());
    let paths = paths.with_context(|| format!("no paths of the map: {document:#}"))?;
    let path = |path: &Value| json!([path["node"], path["registration"]]);
    Ok(sorted(paths.iter().map(path).collect()))
}

fn sorted(mut paths: Vec<Value>) -> Value {
    paths.sort_by_key(ToString::to_string);
    json!(paths)
}
