// SPDX-License-Identifier: MIT OR Apache-2.0

//! libvirtd in a machine without systemd, and virsh, its client.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::guest::{mount_new, write};
use pr_testkit::process::{command, command_line, poll};

/// User of QEMU under Debian's libvirt. The package `libvirt-daemon-system` creates it, but is not
/// installed here, because it is meant for virtualization hosts.
pub(super) const USER: u32 = 64055;
const USER_NAME: &str = "libvirt-qemu";

/// Account of the helper, which our packages create.
pub(super) const HELPER_USER: u32 = 64056;
const HELPER_NAME: &str = "qemu-pr-helper";

/// Directory in which libvirt keeps a directory with sockets for each domain.
pub(super) const DOMAINS_DIR: &str = "/var/lib/libvirt/qemu";

/// Directory of libvirt's state of running domains and their helpers.
pub(super) const STATE_DIR: &str = "/run/libvirt/qemu";

const LOG: &str = "/run/libvirtd.log";

/// Maximum time until libvirtd serves.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Disables authentication; the machine has no user but root.
const LIBVIRTD_CONF: &str = r#"
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
log_outputs = "3:stderr"
"#;

/// Returns Debian's configuration without what this machine lacks: security modules and the log
/// daemon.
fn qemu_conf(helper: &Path) -> String {
    format!(
        r#"
security_driver = "none"
user = "{USER_NAME}"
group = "{USER_NAME}"
stdio_handler = "file"
pr_helper = "{}"
"#,
        helper.display()
    )
}

/// Starts libvirtd, which runs until the machine ends, and waits until it responds. libvirtd starts
/// `helper` for its domains.
pub(super) fn start(helper: &Path) -> Result<()> {
    mount_new("cgroup2", "/sys/fs/cgroup")?;
    add_user()?;
    for dir in ["/etc/libvirt", "/run/libvirt", "/var/log/libvirt/qemu"] {
        create_dir(dir)?;
    }
    for dir in [DOMAINS_DIR, "/var/cache/libvirt/qemu"] {
        create_dir(dir)?;
        chown_to_qemu(Path::new(dir))?;
    }
    write(Path::new("/etc/libvirt/libvirtd.conf"), LIBVIRTD_CONF)?;
    write(Path::new("/etc/libvirt/qemu.conf"), &qemu_conf(helper))?;
    // In the background (-d) libvirtd would not report why it does not start.
    let log = File::create(LOG).with_context(|| format!("cannot create {LOG}"))?;
    let mut daemon = command("libvirtd")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start libvirtd")?;
    let answers = poll(START_TIMEOUT, || {
        let status = daemon.try_wait()?;
        ensure!(status.is_none(), "libvirtd exited: {}", libvirtd_log());
        Ok(virsh(&["version"]).ok())
    })?;
    let versions =
        answers.with_context(|| format!("libvirtd did not respond: {}", libvirtd_log()))?;
    let running = versions.lines().find(|line| line.starts_with("Running"));
    println!("guest: libvirt: {}", running.unwrap_or(&versions));
    Ok(())
}

/// Returns libvirtd's log.
pub(super) fn libvirtd_log() -> String {
    fs::read_to_string(LOG).unwrap_or_else(|error| format!("({LOG}: {error})"))
}

/// Runs a virsh command; its stderr is part of the error.
pub(super) fn virsh(arguments: &[&str]) -> Result<String> {
    let mut virsh = command("virsh");
    virsh
        .args(["--quiet", "--connect", "qemu:///system"])
        .args(arguments);
    let output = virsh.stdin(Stdio::null()).output();
    let output = output.context("cannot start virsh")?;
    ensure!(
        output.status.success(),
        "{}: {}",
        command_line(&virsh),
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Makes QEMU's user the owner of a file.
pub(super) fn chown_to_qemu(path: &Path) -> Result<()> {
    chown(path, Some(USER), Some(USER))
        .with_context(|| format!("cannot make QEMU's user the owner of {}", path.display()))
}

/// Adds QEMU's user, without which libvirtd does not start, and the account that our packages
/// create. QEMU's user becomes the owner of `/dev/kvm`, because libvirtd does not access KVM as
/// root.
fn add_user() -> Result<()> {
    add_account(USER_NAME, USER)?;
    add_account(HELPER_NAME, HELPER_USER)?;
    fs::set_permissions("/dev/kvm", fs::Permissions::from_mode(0o660))
        .context("cannot set the mode of /dev/kvm")?;
    chown_to_qemu(Path::new("/dev/kvm"))
}

/// Adds an account with a group of the same name and ID, unless it exists.
fn add_account(name: &str, id: u32) -> Result<()> {
    let append = |path: &str, line: &str| -> Result<()> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
        if text
            .lines()
            .any(|line| line.split(':').next() == Some(name))
        {
            return Ok(());
        }
        write(Path::new(path), &format!("{text}{line}\n"))
    };
    append("/etc/group", &format!("{name}:x:{id}:"))?;
    append(
        "/etc/passwd",
        &format!("{name}:x:{id}:{id}::/nonexistent:/usr/sbin/nologin"),
    )
}

fn create_dir(dir: &str) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {dir}"))
}
