// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl` on the map, its paths, a partition and a volume; the helper's log and its option for
//! exclusive types.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::daemons::{Keys, WithoutPath};
use super::fixture::{Fault, MapFixture, ScsiPath};
use super::helper_client;
use crate::guest::helper::{Helper, SOCKET, helper_stderr};
use crate::guest::lio_target::Port;
use crate::guest::prhctl_command::{
    ABORTED_COMMAND, ILLEGAL_REQUEST, INVALID_OPCODE, Output, Prhctl,
};
use pr_testkit::process::{command, run as run_command, text, timed};

const KEY: &str = "0x5c0ffee";

/// Programs under test.
pub(super) struct Programs<'a> {
    pub(super) helper: &'a Path,
    pub(super) prhctl: &'a Path,
}

/// Runs all steps. `disk` has no map. `other_port` is the map's unit as another host sees it.
pub(super) fn run(
    fixture: &MapFixture,
    programs: &Programs<'_>,
    disk: &Port,
    other_port: &Port,
) -> Result<()> {
    let operator = Operator {
        prhctl: Prhctl(programs.prhctl),
        fixture,
        map: &fixture.map.path,
    };
    let helper = Helper::start_with(programs.helper, &helper_client::ARGUMENTS, &[])?;
    timed("parts", || operator.parts_are_noted(disk))?;
    timed("list", || operator.units_are_listed_once(disk))?;
    operator.unregistered_port_is_named(disk)?;
    timed("multipathd not running", || {
        operator.refused_registration_is_explained()
    })?;
    timed("left-over reservation", || {
        operator.left_over_reservation_is_removed(other_port)
    })?;
    timed("fixed key", || operator.fixed_key_is_refused())?;
    timed("paths without the map", || {
        operator.commands_to_paths_are_explained()
    })?;
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

struct Operator<'a> {
    prhctl: Prhctl<'a>,
    fixture: &'a MapFixture,
    /// Device node of the map.
    map: &'a Path,
}

impl Operator<'_> {
    /// Runs a change of the map, which must succeed.
    fn change(&self, subcommand: &str, options: &[&str]) -> Result<Output> {
        let options = [&["--key", KEY], options].concat();
        self.prhctl
            .run(&[subcommand], self.map, &options)?
            .expect_status(0)
    }

    /// `prhctl list` shows the map instead of its paths, and a disk without a map.
    fn units_are_listed_once(&self, disk: &Port) -> Result<()> {
        self.change("register", &[])?;
        self.change("reserve", &["--type", "we-ro"])?;
        let mut process = Command::new(self.prhctl.0);
        process.args(["-k", SOCKET, "--json", "list"]);
        let document: Value = serde_json::from_str(&text(&mut process)?)?;
        let devices = document["devices"].as_array().context("no devices")?;
        for (device, paths, keys, kind) in [
            (
                self.map,
                2,
                json!([KEY, KEY]),
                json!("write-exclusive-registrants-only"),
            ),
            (&disk.block, 0, json!([]), Value::Null),
        ] {
            let mut found = devices.iter().filter(|one| one["device"] == json!(device));
            let one = found
                .next()
                .with_context(|| format!("no {}: {document:#}", device.display()))?;
            let number = one["paths"].as_array().map_or(0, Vec::len);
            let found = (number, &one["keys"], &one["reservation"]["type"]);
            ensure!(found == (paths, &keys, &kind), "{one:#}");
            ensure!(one["wwn"].is_string(), "{one:#}");
        }
        for path in &self.fixture.paths {
            let node = json!(path.device.path);
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
        for (subcommand, options) in [
            ("clear", &[][..]),
            ("release", &["--type", "we-ro"]),
            ("reserve", &["--type", "we-ro"]),
        ] {
            let options = [&["--key", KEY], options].concat();
            let output = self.prhctl.run(&[subcommand], &disk.block, &options)?;
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
        let node = disk.block.as_path();
        for (device, kind, of, status) in [
            (path, "path", self.map, 0),
            (partition, "partition", self.map, INVALID_OPCODE),
            (disk.partition.as_path(), "partition", node, INVALID_OPCODE),
            (volume, "volume", self.map, INVALID_OPCODE),
        ] {
            let output = self.prhctl.run(&["--json", "keys"], device, &[])?;
            let output = output
                .expect_status(status)?
                .expect_stderr(&[kind, &of.display().to_string()])?;
            let document = output.json()?;
            if status == INVALID_OPCODE {
                let step = format!("a partition or a volume. Use {}.", of.display());
                output.expect_stderr(&[&step])?;
            }
            let expected = json!({ "kind": kind, "devices": [of] });
            ensure!(
                document["part_of"] == expected,
                "{}: {document:#}",
                device.display()
            );
        }
        for device in [self.map, node] {
            let output = self.prhctl.run(&["--json", "keys"], device, &[])?;
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
        let text = self
            .prhctl
            .run(&["status"], self.map, &[])?
            .expect_status(0)?;
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
        let document = self
            .prhctl
            .run(&["--json", "status"], self.map, &[])?
            .json()?;
        ensure!(document["paths"] == json!(expected), "{document:#}");
        Ok(())
    }

    /// The helper registers no path if multipathd cannot store the key, and prhctl checks that.
    fn refused_registration_is_explained(&self) -> Result<()> {
        self.fixture.multipathd.kill()?;
        let output = self.prhctl.run(&["register"], self.map, &["--key", KEY]);
        let keys = self.prhctl.query("keys", self.map);
        self.fixture.multipathd.restart()?;
        output?
            .expect_status(ABORTED_COMMAND)?
            .expect_stderr(&[
                &format!("Nothing was done on any path: no registration has the key {KEY}."),
                "check that multipathd is running",
                "'reservation_key file'",
                "registration rejected",
            ])?
            .expect_no("may have been executed")?;
        let keys = keys?;
        ensure!(keys["keys"] == json!([]), "{keys:#}");
        let log = helper_stderr();
        ensure!(
            log.contains("registration rejected: multipathd does not answer"),
            "{log}"
        );
        self.fixture.both_active()
    }

    /// A host that is gone holds a reservation. The procedure of `prhctl clear --help` works on a
    /// map, too.
    fn left_over_reservation_is_removed(&self, dead: &Port) -> Result<()> {
        let key = ["--key", "0xdead"];
        let on_dead = |subcommand: &str, options: &[&str]| {
            let options = [&key, options].concat();
            let output = self.prhctl.run(&[subcommand], &dead.block, &options)?;
            output.expect_status(0)
        };
        on_dead("register", &[])?;
        on_dead("reserve", &["--type", "we-ro"])?;
        let output = self.prhctl.run(&["clear"], self.map, &key)?;
        ensure!(output.status != Some(0), "{}", output.line);
        output.expect_stderr(&["held with key 0xdead", "'prhctl clear --help'"])?;
        self.change("register", &[])?;
        self.change("clear", &[])?;
        let keys = self.prhctl.query("keys", self.map)?;
        ensure!(keys["keys"] == json!([]), "{keys:#}");
        Ok(())
    }

    /// multipathd would register returning paths with the key of its configuration.
    fn fixed_key_is_refused(&self) -> Result<()> {
        let multipathd = &self.fixture.multipathd;
        multipathd.configure(Keys::Fixed, WithoutPath::Fail)?;
        let output = self.prhctl.run(&["register"], self.map, &["--key", KEY]);
        multipathd.configure(Keys::InFile, WithoutPath::Fail)?;
        output?
            .expect_status(ABORTED_COMMAND)?
            .expect_stderr(&["Nothing was done on any path", "no other reservation_key"])?;
        let log = helper_stderr();
        ensure!(
            log.contains("registration rejected: multipathd has the fixed reservation_key"),
            "{log}"
        );
        Ok(())
    }

    /// Commands to the paths in place of the map, as `fence_scsi` sends them if it is given the
    /// paths: a PREEMPT of the own key, which on the map keeps all paths, removes the others.
    fn commands_to_paths_are_explained(&self) -> Result<()> {
        let [first, second] = self.fixture.paths.each_ref();
        let on = |path: &ScsiPath, subcommand: &str, options: &[&str]| {
            let options = [&["--key", KEY], options].concat();
            let output = self
                .prhctl
                .run(&[subcommand], &path.device.path, &options)?;
            output
                .expect_status(0)?
                .expect_stderr(&["this is one path of the multipath map"])
        };
        for path in [first, second] {
            on(path, "register", &[])?;
        }
        on(first, "reserve", &["--type", "we-ro"])?;
        on(second, "preempt", &["--victim", KEY, "--type", "we-ro"])?
            .expect_stdout(&["other ports with this key have lost their registrations"])?;
        // The first path reports the preemption to its next command, and the kernel may choose it
        // for any of the following ones.
        self.prhctl
            .run(&["keys"], &first.device.path, &[])?
            .expect_status(0)?;
        let status = self.prhctl.run(&["status"], self.map, &[])?;
        status.expect_stdout(&[&format!("Unregistered paths: {}\n", first.name)])?;
        on(second, "unregister", &[])?;
        // The map keeps its paths.
        self.change("register", &[])?;
        self.change("reserve", &["--type", "we-ro"])?;
        self.change("preempt", &["--victim", KEY, "--type", "we-ro"])?;
        let keys = self.prhctl.query("keys", self.map)?;
        ensure!(keys["keys"] == json!([KEY, KEY]), "{keys:#}");
        self.change("unregister", &[]).map(drop)
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
            let output = self.prhctl.run(&["keys"], self.map, &[]);
            paths
                .iter()
                .try_for_each(|path| path.restore(Fault::Disk))?;
            let output = output?
                .expect_status(ABORTED_COMMAND)?
                .expect_stderr(&["No path of the multipath map can be reached:"])?;
            let states = paths
                .each_ref()
                .map(|path| format!("{} is offline", path.name));
            output.expect_stderr(&states.each_ref().map(String::as_str))?;
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
            self.prhctl
                .run(&["reserve"], self.map, &options)?
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
