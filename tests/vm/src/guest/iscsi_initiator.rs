// SPDX-License-Identifier: MIT OR Apache-2.0

//! The iSCSI initiator of Linux (open-iscsi), and its sessions.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::iscsi_target::TARGET_NAME;
use super::{Modules, read, write};
use pr_testkit::process::{command, poll, run};

/// Settings of iscsid and of the sessions, without the timeout after which a session without a
/// connection fails.
///
/// There are no pings, because an emulated machine can take longer for an answer than any useful
/// limit.
const ISCSID_CONF: &str = "\
node.session.auth.authmethod = None
node.conn[0].timeo.login_timeout = 15
node.conn[0].timeo.logout_timeout = 15
node.conn[0].timeo.noop_out_interval = 0
node.conn[0].timeo.noop_out_timeout = 0
node.session.initial_login_retry_max = 8
node.session.scan = auto
";

const LOG: &str = "/run/iscsid.log";

const SESSIONS: &str = "/sys/class/iscsi_session";

const TIMEOUT: Duration = Duration::from_secs(60);

/// Starts iscsid with an initiator name. A session fails `replacement_timeout` seconds after its
/// connection.
pub(super) fn start(modules: &Modules, name: &str, replacement_timeout: u32) -> Result<()> {
    for module in ["sd_mod", "sg", "scsi_dh_alua", "iscsi_tcp"] {
        modules.load(module)?;
    }
    for dir in ["/etc/iscsi", "/run/lock"] {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {dir}"))?;
    }
    let name = format!("InitiatorName={name}\n");
    write(Path::new("/etc/iscsi/initiatorname.iscsi"), &name)?;
    let timeout = format!("node.session.timeo.replacement_timeout = {replacement_timeout}\n");
    let settings = format!("{ISCSID_CONF}{timeout}");
    write(Path::new("/etc/iscsi/iscsid.conf"), &settings)?;
    start_iscsid()
}

/// Starts iscsid, which keeps the sessions, and waits until iscsiadm can reach it.
fn start_iscsid() -> Result<()> {
    let log = File::create(LOG).with_context(|| format!("cannot create {LOG}"))?;
    command("iscsid")
        .args(["--foreground", "--debug=1"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start iscsid")?;
    let socket = || {
        let sockets = read(Path::new("/proc/net/unix"))?;
        Ok(sockets.contains("ISCSIADM").then_some(()))
    };
    poll(TIMEOUT, socket)?.context("iscsid did not start")
}

/// Creates the record of a portal.
pub(super) fn create_record(number: u8, portal: &str) -> Result<()> {
    let group = format!("{portal},{number}");
    run(node(&group, None).args(["-o", "new"]))
}

/// Creates the records of a portal for several interfaces.
pub(super) fn discover(portal: &str, interfaces: &[&str]) -> Result<()> {
    let mut iscsiadm = command("iscsiadm");
    iscsiadm.args(["-m", "discovery", "-t", "sendtargets", "-o", "new"]);
    for interface in interfaces {
        iscsiadm.args(["-I", interface]);
    }
    run(iscsiadm.args(["-p", portal]))
}

/// Logs in to a portal, through all interfaces or one.
pub(super) fn login(portal: &str, interface: Option<&str>) -> Result<()> {
    run(node(portal, interface).arg("--login"))
}

/// Ends the session of an interface with a portal.
pub(super) fn logout(portal: &str, interface: &str) -> Result<()> {
    run(node(portal, Some(interface)).arg("--logout"))
}

fn node(portal: &str, interface: Option<&str>) -> Command {
    let mut iscsiadm = command("iscsiadm");
    iscsiadm.args(["-m", "node", "-T", TARGET_NAME, "-p", portal]);
    if let Some(interface) = interface {
        iscsiadm.args(["-I", interface]);
    }
    iscsiadm
}

/// Creates an interface with another initiator name.
pub(super) fn create_interface(interface: &str, initiator: &str) -> Result<()> {
    let iface = ["-m", "iface", "-I", interface, "-o"];
    run(command("iscsiadm").args(iface).arg("new"))?;
    run(command("iscsiadm").args(iface).args([
        "update",
        "-n",
        "iface.initiatorname",
        "-v",
        initiator,
    ]))
}

/// Waits for the disk of the session with a value in an attribute (`tpgt`, `initiatorname`), and
/// returns its name.
pub(super) fn disk(attribute: &str, value: &str) -> Result<String> {
    let disk = poll(TIMEOUT, || {
        for session in entries(Path::new(SESSIONS))? {
            if read(&session.join(attribute))? == value {
                return disk_of(&session.join("device"));
            }
        }
        Ok(None)
    })?;
    disk.with_context(|| format!("timed out waiting for the disk of {attribute} {value}"))
}

/// Returns the name of the disk below a session's device (`target0:0:0/0:0:0:0/block/sda`).
fn disk_of(session: &Path) -> Result<Option<String>> {
    for target in entries(session)? {
        if !is_named(&target, "target") {
            continue;
        }
        for device in entries(&target)? {
            let Ok(mut disks) = fs::read_dir(device.join("block")) else {
                continue;
            };
            if let Some(disk) = disks.next() {
                return Ok(disk?.file_name().into_string().ok());
            }
        }
    }
    Ok(None)
}

fn is_named(path: &Path, start: &str) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with(start))
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// Returns iscsid's log.
pub(super) fn log() -> String {
    fs::read_to_string(LOG).unwrap_or_else(|error| format!("({LOG}: {error})"))
}
