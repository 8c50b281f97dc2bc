// SPDX-License-Identifier: MIT OR Apache-2.0

//! Test of `prhctl` on a real SCSI target through both helpers; `sg_persist` checks the results.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::helper::{Helper, helper_stderr};
use super::lio_target::Port;
use super::prhctl_command::{CONFLICT, Output, Prhctl, UNIT_ATTENTION};
use pr_testkit::process;

/// Keys of the two ports.
const KEYS: [&str; 2] = ["0x1001", "0x1002"];

/// Runs all steps through `helper`: register, reserve, conflict, preempt, unit attention,
/// unregister, and the removal of a left-over reservation.
pub(crate) fn run(prhctl: &Path, helper: &Path, ports: &[Port; 2]) -> Result<()> {
    let running = Helper::start(helper)?;
    let test = PrhctlTest {
        prhctl: Prhctl(prhctl),
        ports,
    };
    let steps = test
        .register_and_reserve()
        .and_then(|()| test.preempt())
        .and_then(|()| test.unregister())
        .and_then(|()| test.left_over_reservation());
    if let Err(error) = steps {
        let stderr = helper_stderr();
        return Err(error)
            .with_context(|| format!("with {}; its stderr: {stderr}", helper.display()));
    }
    println!(
        "guest: prhctl and sg_persist agree with {}",
        helper.display()
    );
    running.stop()
}

struct PrhctlTest<'a> {
    prhctl: Prhctl<'a>,
    ports: &'a [Port; 2],
}

impl PrhctlTest<'_> {
    fn register_and_reserve(&self) -> Result<()> {
        for (index, key) in KEYS.iter().enumerate() {
            self.expect_status(index, &["register"], &["--key", key], 0)?;
        }
        self.expect_status(0, &["reserve"], &["--key", KEYS[0], "--type", "we-ro"], 0)?;
        self.expect_status(
            1,
            &["reserve"],
            &["--key", KEYS[1], "--type", "ea"],
            CONFLICT,
        )?;

        let status = self.query_json(1, "status")?;
        let registration = |index: usize, holder: bool| {
            let number = self.ports[index].number;
            json!({
                "key": KEYS[index],
                "relative_target_port": number,
                "transport_id": format!("sas,50014050000000{number:02}"),
                "holds": holder,
            })
        };
        let seen: Vec<Value> = status["registrations"]
            .as_array()
            .context("the document has no registrations")?
            .iter()
            .map(|registration| {
                json!({
                    "key": registration["key"],
                    "relative_target_port": registration["relative_target_port"],
                    "transport_id": registration["transport_id"],
                    // The holder's descriptor contains the reservation.
                    "holds": !registration["reservation"].is_null(),
                })
            })
            .collect();
        let expected = vec![registration(0, true), registration(1, false)];
        ensure!(seen == expected, "{status:#}");
        self.expect_keys(&KEYS)?;
        let reservation = self.query_json(0, "reservation")?;
        let kind = &reservation["reservation"]["type"];
        ensure!(
            kind == "write-exclusive-registrants-only",
            "{reservation:#}"
        );
        let capabilities = self.query_json(0, "capabilities")?;
        ensure!(capabilities["all_target_ports"] == true, "{capabilities:#}");
        Ok(())
    }

    /// The second port preempts the first. The next change of the first port fails with a unit
    /// attention before it is executed.
    fn preempt(&self) -> Result<()> {
        let options = ["--key", KEYS[1], "--victim", KEYS[0], "--type", "we-ro"];
        self.expect_status(1, &["preempt"], &options, 0)?;
        let options = ["--key", KEYS[0], "--ignore-existing"];
        let stderr = self.expect_status(0, &["register"], &options, UNIT_ATTENTION)?;
        ensure!(stderr.contains("REGISTRATIONS PREEMPTED"), "{stderr}");
        self.expect_keys(&KEYS[1..])?;
        self.expect_status(
            0,
            &["reserve"],
            &["--key", KEYS[0], "--type", "we-ro"],
            CONFLICT,
        )?;
        Ok(())
    }

    fn unregister(&self) -> Result<()> {
        self.expect_status(1, &["release"], &["--key", KEYS[1]], 0)?;
        self.expect_status(1, &["unregister"], &["--key", KEYS[1]], 0)?;
        self.expect_keys(&[])
    }

    /// The port that registered and reserved stands for a host that is gone. Each command that an
    /// operator may try first names the procedure of `prhctl clear --help`, which then succeeds.
    fn left_over_reservation(&self) -> Result<()> {
        const DEAD: &str = "0xdead";
        const TYPE: [&str; 2] = ["--type", "we-ro"];
        self.expect_status(0, &["register"], &["--key", DEAD], 0)?;
        self.expect_status(0, &["reserve"], &[&["--key", DEAD], &TYPE[..]].concat(), 0)?;
        for (subcommand, options) in [
            ("clear", &[][..]),
            ("release", &TYPE),
            ("release", &[]),
            ("reserve", &TYPE),
            ("unregister", &[]),
            ("preempt", &["--victim", DEAD, "--type", "we-ro"]),
        ] {
            let output = self.run(1, &[subcommand], &[&["--key", DEAD], options].concat())?;
            ensure!(output.status != Some(0), "{}", output.line);
            output
                .expect_stderr(&["held with key 0xdead", "'prhctl clear --help'"])?
                .expect_no("again later")?;
        }
        self.expect_status(1, &["register"], &["--key", "0x1"], 0)?;
        self.expect_status(1, &["clear"], &["--key", "0x1"], 0)?;
        self.expect_keys(&[])?;
        let reservation = self.query_json(1, "reservation")?;
        ensure!(reservation["reservation"].is_null(), "{reservation:#}");
        Ok(())
    }

    fn run(&self, port: usize, subcommand: &[&str], options: &[&str]) -> Result<Output> {
        self.prhctl
            .run(subcommand, &self.ports[port].block, options)
    }

    /// Runs `prhctl` and checks its exit status. Returns its stderr.
    fn expect_status(
        &self,
        port: usize,
        command: &[&str],
        options: &[&str],
        status: i32,
    ) -> Result<String> {
        let output = self.run(port, command, options)?;
        Ok(output.expect_status(status)?.stderr)
    }

    /// Returns the JSON document of a query.
    fn query_json(&self, port: usize, command: &str) -> Result<Value> {
        self.prhctl.query(command, &self.ports[port].block)
    }

    /// Checks that `prhctl` and `sg_persist` see these keys through both ports.
    fn expect_keys(&self, keys: &[&str]) -> Result<()> {
        for (index, port) in self.ports.iter().enumerate() {
            let seen = self.query_json(index, "keys")?;
            ensure!(seen["keys"] == json!(keys), "{seen:#}");
            let mut sg_persist = process::command("sg_persist");
            let text = process::text(sg_persist.args(["-n", "-i", "-k"]).arg(&port.block))?;
            let lines = text
                .lines()
                .map(str::trim)
                .filter(|line| line.starts_with("0x"));
            ensure!(lines.eq(keys.iter().copied()), "sg_persist: {text}");
        }
        Ok(())
    }
}
