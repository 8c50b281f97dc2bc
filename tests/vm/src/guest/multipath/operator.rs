// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl` on the map, its paths, a partition and a volume; the helper's log and its option for
//! exclusive types.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::fixture::{Fault, MapFixture};
use super::helper_client;
use crate::guest::helper::{Helper, SOCKET, helper_stderr};
use crate::guest::lio_target::Port;
use pr_testkit::process::{command, command_line, run as run_command, text, timed};

const KEY: &str = "0x5c0ffee";

/// Exit statuses of `sg_persist`, which `prhctl` shares (`sg3_utils(8)`).
const ILLEGAL_REQUEST: i32 = 5;
const INVALID_OPCODE: i32 = 9;
const ABORTED_COMMAND: i32 = 11;

/// Programs under test.
pub(super) struct Programs<'a> {
    pub(super) helper: &'a Path,
    pub(super) prhctl: &'a Path,
}

/// Runs all steps. `disk` has no map.
pub(super) fn run(fixture: &MapFixture, programs: &Programs<'_>, disk: &Port) -> Result<()> {
    let operator = Operator {
        prhctl: programs.prhctl,
        fixture,
        map: fixture.map.path.to_str().context("invalid path")?,
    };
    let helper = Helper::start_with(programs.helper, &helper_client::ARGUMENTS, &[])?;
    timed("parts", || operator.parts_are_noted(disk))?;
    timed("list", || operator.units_are_listed_once(disk))?;
    operator.unregistered_port_is_named(disk)?;
    timed("unregistered path", || {
        operator.unregistered_path_is_named()
    })?;
    timed("exclusive type", || operator.exclusive_type_is_noted())?;
    timed("no path", || operator.map_without_a_path_is_reported())?;
    helper.stop()?;

    let option = [&helper_client::ARGUMENTS[..], &["--reject-exclusive-types"]].concat();
    let helper = Helper::start_with(programs.helper, &option, &[])?;
    operator.exclusive_type_is_rejected()?;
    helper.stop()
}

/// Output of `prhctl`.
struct Output {
    line: String,
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Output {
    fn expect_status(self, status: i32) -> Result<Self> {
        let Self { line, stderr, .. } = &self;
        ensure!(
            self.status == Some(status),
            "{line} exited with {:?} instead of {status}: {stderr}",
            self.status
        );
        Ok(self)
    }

    /// Fails unless standard error contains each of the fragments.
    fn expect_stderr(self, fragments: &[&str]) -> Result<Self> {
        let Self { line, stderr, .. } = &self;
        for fragment in fragments {
            ensure!(
                stderr.contains(fragment),
                "{line}: no {fragment:?}: {stderr}"
            );
        }
        Ok(self)
    }

    /// Fails if standard error contains a fragment.
    fn expect_no(self, fragment: &str) -> Result<Self> {
        let Self { line, stderr, .. } = &self;
        ensure!(!stderr.contains(fragment), "{line}: {fragment:?}: {stderr}");
        Ok(self)
    }

    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("{}: {}", self.line, self.stdout))
    }
}

struct Operator<'a> {
    prhctl: &'a Path,
    fixture: &'a MapFixture,
    /// Device node of the map.
    map: &'a str,
}

impl Operator<'_> {
    fn prhctl(&self, subcommand: &[&str], disk: &str, options: &[&str]) -> Result<Output> {
        let mut process = Command::new(self.prhctl);
        process
            .stdin(Stdio::null())
            .args(["-k", SOCKET])
            .args(subcommand);
        process.arg(disk).args(options);
        let line = command_line(&process);
        let output = process.output();
        let output = output.with_context(|| format!("cannot start {line}"))?;
        Ok(Output {
            line,
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }

    /// Runs a change of the map, which must succeed.
    fn change(&self, subcommand: &str, options: &[&str]) -> Result<Output> {
        let options = [&["--key", KEY], options].concat();
        self.prhctl(&[subcommand], self.map, &options)?
            .expect_status(0)
    }

    /// `prhctl list` shows the map instead of its paths, and a disk without a map.
    fn units_are_listed_once(&self, disk: &Port) -> Result<()> {
        self.change("register", &[])?;
        self.change("reserve", &["--type", "we-ro"])?;
        let mut process = Command::new(self.prhctl);
        process.args(["-k", SOCKET, "--json", "list"]);
        let document: Value = serde_json::from_str(&text(&mut process)?)?;
        let devices = document["devices"].as_array().context("no devices")?;
        let node = disk.block.to_str().context("invalid path")?;
        for (device, paths, keys, kind) in [
            (
                self.map,
                2,
                json!([KEY, KEY]),
                json!("write-exclusive-registrants-only"),
            ),
            (node, 0, json!([]), Value::Null),
        ] {
            let mut found = devices.iter().filter(|one| one["device"] == device);
            let one = found
                .next()
                .with_context(|| format!("no {device}: {document:#}"))?;
            let number = one["paths"].as_array().map_or(0, Vec::len);
            let found = (number, &one["keys"], &one["reservation"]["type"]);
            ensure!(found == (paths, &keys, &kind), "{one:#}");
            ensure!(one["wwn"].is_string(), "{one:#}");
        }
        for path in &self.fixture.paths {
            let node = path.device.path.to_str().context("invalid path")?;
            ensure!(
                !devices.iter().any(|one| one["device"] == node),
                "{document:#}"
            );
        }
        self.change("unregister", &[])?;
        Ok(())
    }

    /// LIO reports NOT READY to a port that is not registered.
    fn unregistered_port_is_named(&self, disk: &Port) -> Result<()> {
        let node = disk.block.to_str().context("invalid path")?;
        for (subcommand, options) in [
            ("clear", &[][..]),
            ("release", &["--type", "we-ro"]),
            ("reserve", &["--type", "we-ro"]),
        ] {
            let options = [&["--key", KEY], options].concat();
            let output = self.prhctl(&[subcommand], node, &options)?;
            ensure!(output.status != Some(0), "{}", output.line);
            output
                .expect_stderr(&[
                    "registered keys: none",
                    "This initiator port is not registered",
                ])?
                .expect_no("may become ready")?;
        }
        Ok(())
    }

    fn parts_are_noted(&self, disk: &Port) -> Result<()> {
        let path = self.fixture.paths[0].device.path.as_path();
        let partition = self.fixture.maps.partition.as_path();
        let volume = self.fixture.volume.as_path();
        let node = disk.block.to_str().context("invalid path")?;
        for (device, kind, of, status) in [
            (path, "path", self.map, 0),
            (partition, "partition", self.map, INVALID_OPCODE),
            (disk.partition.as_path(), "partition", node, INVALID_OPCODE),
            (volume, "volume", self.map, INVALID_OPCODE),
        ] {
            let device = device.to_str().context("invalid path")?;
            let output = self.prhctl(&["--json", "keys"], device, &[])?;
            let output = output.expect_status(status)?.expect_stderr(&[kind, of])?;
            let document = output.json()?;
            let expected = json!({ "kind": kind, "devices": [of] });
            ensure!(document["part_of"] == expected, "{device}: {document:#}");
        }
        for device in [self.map, node] {
            let output = self.prhctl(&["--json", "keys"], device, &[])?;
            let output = output.expect_status(0)?.expect_no("registrations")?;
            let document = output.json()?;
            ensure!(document["part_of"].is_null(), "{document:#}");
        }
        Ok(())
    }

    /// A path loses its registration, as after a failure that multipathd did not notice.
    fn unregistered_path_is_named(&self) -> Result<()> {
        let [first, second] = &self.fixture.paths;
        self.change("register", &[])?;
        // Sysfs does not contain the initiator port of the loopback fabric.
        self.expect_paths(&[(&first.name, json!(null)), (&second.name, json!(null))])?;
        run_command(
            command("sg_persist")
                .args(["--no-inquiry", "--out", "--register", "--param-sark=0"])
                .arg(format!("--param-rk={KEY}"))
                .arg(&second.device.path),
        )?;
        self.expect_paths(&[(&first.name, json!(null)), (&second.name, json!(false))])?;
        let text = self.prhctl(&["status"], self.map, &[])?.expect_status(0)?;
        let line = format!("Unregistered paths: {}\n", second.name);
        ensure!(text.stdout.contains(&line), "{}", text.stdout);
        self.change("unregister", &[])?;
        Ok(())
    }

    /// Checks `is_registered` of each path in the document of `status`.
    fn expect_paths(&self, expected: &[(&str, Value)]) -> Result<()> {
        let mut expected: Vec<_> = expected
            .iter()
            .map(|(name, value)| json!({ "name": name, "is_registered": value }))
            .collect();
        expected.sort_by_key(|path| path["name"].to_string());
        let document = self.prhctl(&["--json", "status"], self.map, &[])?.json()?;
        ensure!(document["paths"] == json!(expected), "{document:#}");
        Ok(())
    }

    fn exclusive_type_is_noted(&self) -> Result<()> {
        self.change("register", &[])?;
        self.change("reserve", &["--type", "we"])?
            .expect_stderr(&["on a multipath map", "type for registrants"])?;
        let log = helper_stderr();
        ensure!(log.contains("only the path that holds it"), "{log}");
        self.change("release", &[])?;
        self.change("reserve", &["--type", "we-ro"])?
            .expect_no("type for registrants")?;
        self.change("release", &[])?;
        self.change("unregister", &[]).map(drop)
    }

    /// Disables all paths unnoticed by multipathd, so that they are usable again at once.
    fn map_without_a_path_is_reported(&self) -> Result<()> {
        let paths = &self.fixture.paths;
        self.fixture.without_path_checks(|| {
            paths.iter().try_for_each(|path| path.fail(Fault::Disk))?;
            let output = self.prhctl(&["keys"], self.map, &[]);
            paths
                .iter()
                .try_for_each(|path| path.restore(Fault::Disk))?;
            output?
                .expect_status(ABORTED_COMMAND)?
                .expect_stderr(&["No path of the multipath map can be reached"])?;
            Ok(())
        })?;
        let log = helper_stderr();
        ensure!(log.contains("no path of the map can be reached"), "{log}");
        self.fixture.both_active()
    }

    fn exclusive_type_is_rejected(&self) -> Result<()> {
        self.change("register", &[])?;
        for exclusive in ["we", "ea"] {
            let options = ["--key", KEY, "--type", exclusive];
            self.prhctl(&["reserve"], self.map, &options)?
                .expect_status(ILLEGAL_REQUEST)?
                .expect_stderr(&["INVALID FIELD IN CDB", "type for registrants"])?;
        }
        let log = helper_stderr();
        ensure!(log.contains("(--reject-exclusive-types)"), "{log}");
        self.change("reserve", &["--type", "we-ro"])?;
        self.change("release", &[])?;
        self.change("unregister", &[]).map(drop)
    }
}
