// SPDX-License-Identifier: MIT OR Apache-2.0

//! Test of `prhctl` on iSCSI sessions: the owners of registrations, the cause of a conflict, two
//! paths without a map, a session with a new identifier, registrations without an owner, and a
//! session that lost its target.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::helper::{Helper, helper_stderr};
use super::iscsi_initiator::{self, login, logout};
use super::iscsi_target::enable;
use super::lio_target::Target;
use super::local_sessions::{DEFAULT_INTERFACE as INTERFACE, log_in, portal};
use super::prhctl_command::{ABORTED_COMMAND, Output, Prhctl};
use super::{Modules, read};
use pr_testkit::process::{poll, timed};

/// Names of two initiators of this machine. The second one stands for another host.
const NAME: &str = "iqn.2026-11.test:this-host";
const OTHER_NAME: &str = "iqn.2026-11.test:other-host";

/// Interfaces of open-iscsi besides the default one: with the first name, and with the second.
const SECOND_INTERFACE: &str = "second";
const OTHER_INTERFACE: &str = "other";

/// The only portal group.
const PORTAL_GROUP: u8 = 1;

/// Time in seconds after which a session without a connection fails: more than the five seconds
/// after which prhctl prints a note.
const REPLACEMENT_TIMEOUT: u32 = 7;

/// Time limit of the helper for a command, in seconds.
const IO_TIMEOUT: &str = "1";

/// Maximum time until a session has recovered.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// File with the report of the other host.
const REPORT: &str = "/run/report";

const KEY: &str = "0xa1";
const OTHER_KEY: &str = "0xb2";
const TYPE: [&str; 2] = ["--type", "we-ro"];

/// Runs all steps.
pub(super) fn run(
    prhctl: &Path,
    helper: &Path,
    target: &mut Target,
    modules: &Modules,
) -> Result<()> {
    let backstore = target.create_unit_without_ports()?;
    // The sessions are numbered in this order.
    let interfaces = [
        (INTERFACE, NAME),
        (OTHER_INTERFACE, OTHER_NAME),
        (SECOND_INTERFACE, NAME),
    ];
    timed("iSCSI sessions", || {
        log_in(
            &backstore,
            modules,
            PORTAL_GROUP,
            &interfaces,
            REPLACEMENT_TIMEOUT,
        )
    })?;
    let test = SessionTest {
        prhctl: Prhctl(prhctl),
        other: disk(OTHER_INTERFACE)?,
    };
    let running = Helper::start_with(helper, &["--io-timeout", IO_TIMEOUT], &[])?;
    let steps = timed("causes of conflicts", || test.causes_are_named())
        .and_then(|()| timed("paths without a map", || test.other_path_is_named()))
        .and_then(|()| timed("new session", || test.earlier_session_is_named()))
        .and_then(|()| timed("orphans", || test.orphans_are_removed()))
        .and_then(|()| timed("lost target", || test.blocked_path_is_named()));
    if let Err(error) = steps {
        let logs = (helper_stderr(), iscsi_initiator::log());
        return Err(error).with_context(|| format!("helper: {}; iscsid: {}", logs.0, logs.1));
    }
    running.stop()
}

/// Returns the disk of the session of an interface.
fn disk(interface: &str) -> Result<PathBuf> {
    let disk = iscsi_initiator::disk("ifacename", interface)?;
    Ok(Path::new("/dev").join(disk))
}

struct SessionTest<'a> {
    prhctl: Prhctl<'a>,
    /// The other host's disk.
    other: PathBuf,
}

impl SessionTest<'_> {
    /// Runs a change of a disk with a key.
    fn change(&self, subcommand: &str, disk: &Path, key: &str, more: &[&str]) -> Result<Output> {
        let options = [&["--key", key], more].concat();
        self.prhctl.run(&[subcommand], disk, &options)
    }

    /// Runs a change, which must succeed.
    fn expect_good(&self, subcommand: &str, disk: &Path, key: &str, more: &[&str]) -> Result<()> {
        let output = self.change(subcommand, disk, key, more)?;
        output.expect_status(0).map(drop)
    }

    /// Runs a change, which must be rejected with this cause and no other.
    fn expect_cause(
        &self,
        subcommand: &str,
        (disk, key): (&Path, &str),
        more: &[&str],
        causes: &[&str],
    ) -> Result<()> {
        let output = self.change(subcommand, disk, key, more)?;
        ensure!(output.status != Some(0), "{}", output.line);
        output.expect_stderr(causes)?.expect_no("Either")?;
        Ok(())
    }

    fn causes_are_named(&self) -> Result<()> {
        let (own, other) = (&disk(INTERFACE)?, &self.other);
        self.expect_good("register", own, KEY, &[])?;
        self.expect_good("register", other, OTHER_KEY, &[])?;
        self.expect_owners(own, &[(KEY, "this-path"), (OTHER_KEY, "other-host")])?;
        self.expect_owners(other, &[(KEY, "other-host"), (OTHER_KEY, "this-path")])?;

        let registered = "is already registered, with key 0xa1: to replace it, use --old-key 0xa1";
        self.expect_cause("register", (own, "0x5"), &[], &[registered])?;

        self.expect_good("reserve", other, OTHER_KEY, &TYPE)?;
        let holder = format!("{OTHER_NAME},i,0x00023d000002 holds the reservation");
        let access = "has access under this type";
        self.expect_cause("reserve", (own, KEY), &TYPE, &[&holder, access])?;
        let type_differs = "holds the reservation already, with another type";
        let options = ["--type", "ea-ro"];
        self.expect_cause("reserve", (other, OTHER_KEY), &options, &[type_differs])?;
        let kind = "The type of the reservation is Write Exclusive - Registrants Only";
        self.expect_cause("release", (other, OTHER_KEY), &options, &[kind])?;

        // Two nodes with one key.
        self.expect_good("register", other, KEY, &["--old-key", OTHER_KEY])?;
        let both = "Both ports are registered with key 0xa1";
        self.expect_cause("reserve", (own, KEY), &TYPE, &[&holder, both])?;
        self.expect_good("unregister", own, KEY, &[])?;
        let foreign = format!("not registered; the key 0xa1 is that of {OTHER_NAME},i,");
        self.expect_cause("reserve", (own, KEY), &TYPE, &[&foreign])?;
        self.expect_good("clear", other, KEY, &[])
    }

    /// A host registers each of its paths with one key, without a map, as `fence_scsi` does on
    /// disks with two ports.
    fn other_path_is_named(&self) -> Result<()> {
        let [first, second] = &[disk(INTERFACE)?, disk(SECOND_INTERFACE)?];
        for path in [first, second] {
            self.expect_good("register", path, KEY, &[])?;
        }
        let both = [(KEY, "other-path"), (KEY, "this-path")];
        self.expect_owners(first, &both)?;
        self.expect_owners(second, &both)?;
        self.expect_good("reserve", first, KEY, &TYPE)?;
        let victim = ["--victim", KEY, "--type", "we-ro"];
        let output = self.change("preempt", second, KEY, &victim)?;
        output
            .expect_status(0)?
            .expect_stdout(&["other ports with this key have lost their registrations"])?;
        let unregistered = format!("that of another path of this host, {NAME},i,0x00023d000003.");
        // The report of the PREEMPT comes first.
        self.expect_cause("clear", (first, KEY), &[], &["REGISTRATIONS PREEMPTED"])?;
        self.expect_cause("clear", (first, KEY), &[], &[&unregistered])?;
        self.expect_good("unregister", second, KEY, &[])
    }

    /// A login gives the session a new identifier, as after a restart of the host.
    fn earlier_session_is_named(&self) -> Result<()> {
        let before = disk(INTERFACE)?;
        self.expect_good("register", &before, KEY, &[])?;
        self.expect_good("reserve", &before, KEY, &TYPE)?;
        logout(&portal(PORTAL_GROUP), INTERFACE)?;
        login(&portal(PORTAL_GROUP), Some(INTERFACE))?;
        let own = &disk(INTERFACE)?;
        let status = self.prhctl.run(&["status"], own, &[])?.expect_status(0)?;
        status.expect_stdout(&[&format!(
            "{NAME},i,0x00023d000001 (this host, earlier session)"
        )])?;
        let cause =
            format!("registered by {NAME},i,0x00023d000001, an earlier iSCSI session of this host");
        for (subcommand, options) in [
            ("reserve", &TYPE[..]),
            ("release", &TYPE),
            ("clear", &[]),
            ("unregister", &[]),
            ("preempt", &["--victim", KEY, "--type", "we-ro"]),
        ] {
            let step = "--key NEW --victim 0xa1 --type we-ro";
            self.expect_cause(subcommand, (own, KEY), options, &[&cause, step])?;
        }
        // The steps that the advice names.
        self.expect_good("register", own, "0xfeed", &[])?;
        let victim = ["--victim", KEY, "--type", "we-ro"];
        self.expect_good("preempt", own, "0xfeed", &victim)?;
        self.expect_owners(own, &[("0xfeed", "this-path")])?;
        self.expect_good("unregister", own, "0xfeed", &[])
    }

    /// Registrations remain of a machine and a host that were killed, of a migrated machine, and of
    /// a session with another identifier.
    fn orphans_are_removed(&self) -> Result<()> {
        let (own, other) = (&disk(INTERFACE)?, &self.other);
        // The other host reports what happened to it.
        self.prhctl.query("status", other)?;

        self.expect_good("register", own, KEY, &[])?;
        let machine = File::open(own).context("cannot open the disk")?;
        self.expect_verdicts(own, &[(KEY, "unknown")])?;
        self.expect_not_reaped(own, KEY, "has the disk open")?;
        drop(machine);
        self.expect_verdicts(own, &[(KEY, "orphan")])?;
        self.expect_good("reap", own, KEY, &[])?;

        self.expect_good("register", other, OTHER_KEY, &[])?;
        self.expect_verdicts(own, &[(OTHER_KEY, "unknown")])?;
        self.expect_not_reaped(own, OTHER_KEY, "made by another host")?;
        let port = format!("{OTHER_NAME},i,0x00023d000002");
        self.expect_good("reap", own, OTHER_KEY, &["--powered-off", &port])?;
        self.expect_owners(own, &[])?;

        // A machine with one key migrates from the own host to the other one.
        self.prhctl.query("status", other)?;
        for disk in [own, other] {
            self.expect_good("register", disk, KEY, &[])?;
        }
        self.expect_good("reap", own, KEY, &[])?;
        self.expect_owners(own, &[(KEY, "other-host")])?;
        let report = self.prhctl.query("orphans", other)?.to_string();
        fs::write(REPORT, report).with_context(|| format!("cannot write {REPORT}"))?;
        self.expect_good("reap", own, KEY, &["--known", REPORT])?;
        self.expect_owners(own, &[])?;

        self.prhctl.query("status", other)?;
        self.expect_good("register", other, OTHER_KEY, &[])?;
        self.expect_good("register", own, KEY, &[])?;
        self.expect_good("reserve", own, KEY, &TYPE)?;
        logout(&portal(PORTAL_GROUP), INTERFACE)?;
        login(&portal(PORTAL_GROUP), Some(INTERFACE))?;
        let own = &disk(INTERFACE)?;
        self.expect_verdicts(own, &[(KEY, "orphan"), (OTHER_KEY, "unknown")])?;
        self.expect_not_reaped(own, KEY, "holds the reservation")?;
        self.expect_good("unregister", other, OTHER_KEY, &[])?;
        self.expect_good("reap", own, KEY, &[])?;
        self.expect_owners(own, &[])
    }

    /// Checks key and verdict of each registration, in any order.
    fn expect_verdicts(&self, disk: &Path, expected: &[(&str, &str)]) -> Result<()> {
        let orphans = self.prhctl.query("orphans", disk)?;
        expect_members(&orphans, "verdict", expected)
    }

    /// Runs `prhctl reap`, which must remove nothing, for this reason.
    fn expect_not_reaped(&self, disk: &Path, key: &str, reason: &str) -> Result<()> {
        let output = self.change("reap", disk, key, &[])?;
        output.expect_status(1)?.expect_stderr(&[reason]).map(drop)
    }

    /// The kernel holds commands while the transport waits for the target, whatever their time
    /// limit is.
    fn blocked_path_is_named(&self) -> Result<()> {
        let own = &disk(INTERFACE)?;
        let name = own.file_name().and_then(|name| name.to_str());
        let name = name.context("invalid path")?;
        enable(PORTAL_GROUP, false)?;
        let start = Instant::now();
        let lost = self.change("register", own, KEY, &[]);
        let time = start.elapsed();
        enable(PORTAL_GROUP, true)?;
        lost?.expect_status(ABORTED_COMMAND)?.expect_stderr(&[
            "has not answered for 5 seconds",
            &format!("{name} is blocked: its transport has lost the target"),
            &format!("{name} is transport-offline"),
        ])?;
        println!("guest: the answer came after {time:?}, with --io-timeout {IO_TIMEOUT}");
        let state = PathBuf::from(format!("/sys/block/{name}/device/state"));
        let recovered = poll(RECOVERY_TIMEOUT, || {
            Ok((read(&state)? == "running").then_some(()))
        })?;
        recovered.with_context(|| format!("{name} did not recover"))?;
        self.expect_owners(own, &[])
    }

    /// Checks key and owner of each registration, in any order.
    fn expect_owners(&self, disk: &Path, expected: &[(&str, &str)]) -> Result<()> {
        let status = self.prhctl.query("status", disk)?;
        expect_members(&status, "owner", expected)
    }
}

/// Checks the key and another member of each registration in a document, in any order.
fn expect_members(document: &Value, member: &str, expected: &[(&str, &str)]) -> Result<()> {
    let all = document["registrations"].as_array();
    let all = all.context("no registrations")?;
    let mut seen: Vec<_> = all
        .iter()
        .map(|one| json!([one["key"], one[member]]))
        .collect();
    seen.sort_by_key(ToString::to_string);
    let expected: Vec<_> = expected.iter().map(|pair| json!(pair)).collect();
    ensure!(seen == expected, "{document:#}");
    Ok(())
}
