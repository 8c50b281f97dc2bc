//! What an operator sees: `prhctl` on a real SCSI target, through both helpers, with `sg_persist` as the
//! witness.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::helper::{Helper, SOCKET, complaints};
use super::lio::Port;
use crate::process::{self, shown};

/// Keys of the two ports.
const KEYS: [&str; 2] = ["0x1001", "0x1002"];

/// Exit statuses of `sg_persist`, which are those of `prhctl` (`sg3_utils(8)`).
const UNIT_ATTENTION: i32 = 6;
const CONFLICT: i32 = 24;

/// Registers, reserves, is refused, preempts, is told, and leaves, each command through `helper`.
pub(crate) fn run(prhctl: &Path, helper: &Path, ports: &[Port; 2]) -> Result<()> {
    let running = Helper::start(helper)?;
    let operator = Operator { prhctl, ports };
    let steps = operator
        .register_and_reserve()
        .and_then(|()| operator.fence())
        .and_then(|()| operator.leave());
    if let Err(error) = steps {
        let said = complaints();
        return Err(error)
            .with_context(|| format!("with {}, which said: {said}", helper.display()));
    }
    println!(
        "guest: prhctl agrees with sg_persist, with {}",
        helper.display()
    );
    running.stop()
}

struct Operator<'a> {
    prhctl: &'a Path,
    ports: &'a [Port; 2],
}

impl Operator<'_> {
    fn register_and_reserve(&self) -> Result<()> {
        for (place, key) in KEYS.iter().enumerate() {
            self.ends(place, &["register"], &["--key", key], 0)?;
        }
        self.ends(0, &["reserve"], &["--key", KEYS[0], "--type", "we-ro"], 0)?;
        self.ends(
            1,
            &["reserve"],
            &["--key", KEYS[1], "--type", "ea"],
            CONFLICT,
        )?;

        let status = self.document(1, "status")?;
        let registration = |place: usize, holder: bool| {
            let number = self.ports[place].number;
            json!({
                "key": KEYS[place],
                "relative_target_port": number,
                "transport_id": format!("sas,50014050000000{number:02}"),
                "holds": holder,
            })
        };
        let seen: Vec<Value> = status["registrations"]
            .as_array()
            .context("no registrations")?
            .iter()
            .map(|one| {
                json!({
                    "key": one["key"],
                    "relative_target_port": one["relative_target_port"],
                    "transport_id": one["transport_id"],
                    // A holder's registration says what it holds.
                    "holds": !one["reservation"].is_null(),
                })
            })
            .collect();
        let expected = vec![registration(0, true), registration(1, false)];
        ensure!(seen == expected, "{status:#}");
        self.witness(&KEYS)?;
        let reservation = self.document(0, "reservation")?;
        let kind = &reservation["reservation"]["type"];
        ensure!(
            kind == "write-exclusive-registrants-only",
            "{reservation:#}"
        );
        let capabilities = self.document(0, "capabilities")?;
        ensure!(capabilities["all_target_ports"] == true, "{capabilities:#}");
        Ok(())
    }

    /// The second port preempts the first, which is told so before its next change is done.
    fn fence(&self) -> Result<()> {
        let options = ["--key", KEYS[1], "--victim", KEYS[0], "--type", "we-ro"];
        self.ends(1, &["preempt"], &options, 0)?;
        let options = ["--key", KEYS[0], "--ignore-existing"];
        let told = self.ends(0, &["register"], &options, UNIT_ATTENTION)?;
        ensure!(told.contains("REGISTRATIONS PREEMPTED"), "{told}");
        self.witness(&KEYS[1..])?;
        self.ends(
            0,
            &["reserve"],
            &["--key", KEYS[0], "--type", "we-ro"],
            CONFLICT,
        )?;
        Ok(())
    }

    fn leave(&self) -> Result<()> {
        self.ends(1, &["release"], &["--key", KEYS[1]], 0)?;
        self.ends(1, &["unregister"], &["--key", KEYS[1]], 0)?;
        self.witness(&[])
    }

    /// Runs `prhctl`, which has to end with a status. Gives what it said on standard error.
    fn ends(&self, port: usize, command: &[&str], options: &[&str], status: i32) -> Result<String> {
        let mut prhctl = Command::new(self.prhctl);
        prhctl.args(["-k", SOCKET]).args(command);
        prhctl.arg(&self.ports[port].block).args(options);
        let output = prhctl.stdin(Stdio::null()).output();
        let output = output.with_context(|| format!("cannot start {}", shown(&prhctl)))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(status),
            "{} ended with {}, and not with {status}: {said}",
            shown(&prhctl),
            output.status
        );
        Ok(said)
    }

    /// What `prhctl` answers to programs.
    fn document(&self, port: usize, command: &str) -> Result<Value> {
        let mut prhctl = Command::new(self.prhctl);
        prhctl
            .args(["-k", SOCKET, "--json", command])
            .arg(&self.ports[port].block);
        let text = process::text(&mut prhctl)?;
        serde_json::from_str(&text).with_context(|| text)
    }

    /// `prhctl` and `sg_persist` have to see these keys, whichever port they ask.
    fn witness(&self, keys: &[&str]) -> Result<()> {
        for (place, port) in self.ports.iter().enumerate() {
            let seen = self.document(place, "keys")?;
            ensure!(seen["keys"] == json!(keys), "{seen:#}");
            let mut witness = process::command("sg_persist");
            let text = process::text(witness.args(["-n", "-i", "-k"]).arg(&port.block))?;
            let lines = text
                .lines()
                .map(str::trim)
                .filter(|line| line.starts_with("0x"));
            ensure!(lines.eq(keys.iter().copied()), "sg_persist: {text}");
        }
        Ok(())
    }
}
