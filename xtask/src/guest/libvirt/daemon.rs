//! libvirtd in a machine without systemd, and virsh, which speaks with it.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::guest::{mount_new, write};
use crate::process::{command, poll, shown};

/// Whom Debian's libvirt runs QEMU as, which the package `libvirt-daemon-system` makes. It is not installed here: it is
/// for a host that runs machines.
pub(super) const USER: u32 = 64055;
const USER_NAME: &str = "libvirt-qemu";

/// Account that the helper serves as, which our packages create.
pub(super) const HELPER_USER: u32 = 64056;
const HELPER_NAME: &str = "qemu-pr-helper";

/// Where libvirt keeps a domain's sockets, in a folder for each.
pub(super) const DOMAINS: &str = "/var/lib/libvirt/qemu";

/// And what it knows of those that run, and of their helpers.
pub(super) const STATE: &str = "/run/libvirt/qemu";

const LOG: &str = "/run/libvirtd.log";

/// How long libvirtd may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Nobody is asked for a password: there is only root.
const DAEMON: &str = r#"
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
log_outputs = "3:stderr"
"#;

/// As Debian has it, but for what this machine lacks: security modules, and the daemon for logs.
fn driver(helper: &Path) -> String {
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

/// Starts libvirtd, for as long as there is this machine, and waits until it answers. `helper` is what it starts for
/// its machines.
pub(super) fn start(helper: &Path) -> Result<()> {
    mount_new("cgroup2", "/sys/fs/cgroup")?;
    add_user()?;
    for folder in ["/etc/libvirt", "/run/libvirt", "/var/log/libvirt/qemu"] {
        make(folder)?;
    }
    for folder in [DOMAINS, "/var/cache/libvirt/qemu"] {
        make(folder)?;
        give(Path::new(folder))?;
    }
    write(Path::new("/etc/libvirt/libvirtd.conf"), DAEMON)?;
    write(Path::new("/etc/libvirt/qemu.conf"), &driver(helper))?;
    // In the background (-d) it would not say why it does not start.
    let log = File::create(LOG).with_context(|| format!("cannot create {LOG}"))?;
    let mut daemon = command("libvirtd")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start libvirtd")?;
    let answers = poll(PATIENCE, || {
        let ended = daemon.try_wait()?;
        ensure!(ended.is_none(), "libvirtd has ended: {}", said());
        Ok(virsh(&["version"]).ok())
    })?;
    let versions = answers.with_context(|| format!("libvirtd does not answer: {}", said()))?;
    let running = versions.lines().find(|line| line.starts_with("Running"));
    println!("guest: libvirt: {}", running.unwrap_or(&versions));
    Ok(())
}

/// What libvirtd has said.
pub(super) fn said() -> String {
    fs::read_to_string(LOG).unwrap_or_else(|error| format!("({LOG}: {error})"))
}

/// Has libvirt do something. What it complains about is the error.
pub(super) fn virsh(words: &[&str]) -> Result<String> {
    let mut virsh = command("virsh");
    virsh
        .args(["--quiet", "--connect", "qemu:///system"])
        .args(words);
    let output = virsh.stdin(Stdio::null()).output();
    let output = output.context("cannot start virsh")?;
    ensure!(
        output.status.success(),
        "{}: {}",
        shown(&virsh),
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Makes something QEMU's user's own.
pub(super) fn give(path: &Path) -> Result<()> {
    chown(path, Some(USER), Some(USER))
        .with_context(|| format!("cannot give {} to QEMU's user", path.display()))
}

/// Adds QEMU's user, without which libvirtd does not start, and the account that our packages
/// create. QEMU's user gets `/dev/kvm`: libvirtd does not ask for KVM as root.
fn add_user() -> Result<()> {
    add_account(USER_NAME, USER)?;
    add_account(HELPER_NAME, HELPER_USER)?;
    fs::set_permissions("/dev/kvm", fs::Permissions::from_mode(0o660))
        .context("there is no /dev/kvm")?;
    give(Path::new("/dev/kvm"))
}

/// Adds an account with a group of the same name and number, unless it is there.
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

fn make(folder: &str) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {folder}"))
}
