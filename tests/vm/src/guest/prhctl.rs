// SPDX-License-Identifier: MIT OR Apache-2.0

//! Test of `prhctl` on a real SCSI target through both helpers; `sg_persist` checks the results.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::helper::{Helper, SOCKET, helper_stderr};
use super::lio_target::Port;
use pr_testkit::process::{self, command_line};

/// Keys of the two ports.
const KEYS: [&str; 2] = ["0x1001", "0x1002"];

/// Exit statuses of `sg_persist`, which `prhctl` shares (`sg3_utils(8)`).
const UNIT_ATTENTION: i32 = 6;
const CONFLICT: i32 = 24;

/// Runs all steps through `helper`: register, reserve, conflict, preempt, unit attention,
/// unregister.
pub(crate) fn run(prhctl: &Path, helper: &Path, ports: &[Port; 2]) -> Result<()> {
    let running = Helper::start(helper)?;
    let test = PrhctlTest { prhctl, ports };
    let steps = test
        .register_and_reserve()
        .and_then(|()| test.preempt())
        .and_then(|()| test.unregister());
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
    prhctl: &'a Path,
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

    /// Runs `prhctl` and checks its exit status. Returns its stderr.
    fn expect_status(
        &self,
        port: usize,
        command: &[&str],
        options: &[&str],
        status: i32,
    ) -> Result<String> {
        let mut prhctl = Command::new(self.prhctl);
        prhctl.args(["-k", SOCKET]).args(command);
        prhctl.arg(&self.ports[port].block).args(options);
        let output = prhctl.stdin(Stdio::null()).output();
        let output = output.with_context(|| format!("cannot start {}", command_line(&prhctl)))?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(status),
            "{} exited with {} instead of {status}: {stderr}",
            command_line(&prhctl),
            output.status
        );
        Ok(stderr)
    }

    /// Returns the JSON document of a query.
    fn query_json(&self, port: usize, command: &str) -> Result<Value> {
        let mut prhctl = Command::new(self.prhctl);
        prhctl
            .args(["-k", SOCKET, "--json", command])
            .arg(&self.ports[port].block);
        let text = process::text(&mut prhctl)?;
        serde_json::from_str(&text).with_context(|| text)
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
