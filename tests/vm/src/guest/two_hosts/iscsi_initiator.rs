// SPDX-License-Identifier: MIT OR Apache-2.0

//! A host's iSCSI sessions, one for each portal of the target.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::iscsi_target::{PORTALS, TARGET_NAME, initiator_name};
use super::network;
use crate::guest::{Modules, read, write};
use crate::role::Role;
use pr_testkit::process::{command, poll, run};

/// Settings of iscsid and of the sessions.
///
/// A session fails one second after its connection. There are no pings, because an emulated machine
/// can take longer for an answer than any useful limit.
const ISCSID_CONF: &str = "\
node.session.auth.authmethod = None
node.session.timeo.replacement_timeout = 1
node.conn[0].timeo.login_timeout = 15
node.conn[0].timeo.logout_timeout = 15
node.conn[0].timeo.noop_out_interval = 0
node.conn[0].timeo.noop_out_timeout = 0
node.session.initial_login_retry_max = 8
node.session.scan = auto
";

const LOG: &str = "/run/iscsid.log";

const TIMEOUT: Duration = Duration::from_secs(60);

/// Logs in to the portals, and returns the names of their disks (`sda`), in the order of the
/// portals.
pub(super) fn login(host: Role, modules: &Modules) -> Result<[String; 2]> {
    for module in ["sd_mod", "sg", "scsi_dh_alua", "iscsi_tcp", "tcp_diag"] {
        modules.load(module)?;
    }
    for dir in ["/etc/iscsi", "/run/lock"] {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {dir}"))?;
    }
    let name = format!("InitiatorName={}\n", initiator_name(host));
    write(Path::new("/etc/iscsi/initiatorname.iscsi"), &name)?;
    write(Path::new("/etc/iscsi/iscsid.conf"), ISCSID_CONF)?;
    start_iscsid()?;
    for number in PORTALS {
        let portal = network::portal(number);
        let record = ["-m", "node", "-T", TARGET_NAME, "-p"];
        let group = format!("{portal},{number}");
        run(command("iscsiadm")
            .args(record)
            .arg(group)
            .args(["-o", "new"]))?;
        run(command("iscsiadm").args(record).arg(portal).arg("--login"))?;
    }
    let [one, two] = PORTALS.map(disk);
    Ok([one?, two?])
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

/// Closes the connections to a portal, so that the kernel notices at once that the network is
/// interrupted.
pub(super) fn close_connections(portal: u8) -> Result<()> {
    run(command("ss").args(["--kill", "dst", &network::portal(portal)]))
}

/// Waits for the disk of the session with a portal, and returns its name.
fn disk(portal: u8) -> Result<String> {
    let disk = poll(TIMEOUT, || {
        for session in entries(Path::new("/sys/class/iscsi_session"))? {
            if read(&session.join("tpgt"))? == portal.to_string() {
                return disk_of(&session.join("device"));
            }
        }
        Ok(None)
    })?;
    disk.with_context(|| format!("timed out waiting for the disk of portal {portal}"))
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
