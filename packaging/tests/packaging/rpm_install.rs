// SPDX-License-Identifier: MIT OR Apache-2.0

//! Installs and removes the rpm package below a temporary root directory.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use pr_testkit::process::{self, command};

use super::packages::Package;
use super::tool;

/// Tools that the scriptlets call. Each notes its arguments and fails, which the package tolerates.
const TOOL: &str = "#!/bin/sh\necho \"${0##*/} $*\" >>/calls\nexit 1\n";

/// Runs rpm below `root`; fails if a scriptlet fails.
fn rpm(root: &Path, action: &str, target: &str) {
    let mut rpm = command("rpm");
    rpm.arg(format!("--root={}", root.display()));
    rpm.args(["--dbpath=/var/lib/rpm", "--nodeps", action, target]);
    let output = rpm.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !stderr.contains("scriptlet") && !stderr.contains("line "),
        "{}: {}: {stderr}",
        process::command_line(&rpm),
        output.status
    );
}

/// Returns the files and directories below `root` without rpm's database.
fn paths(root: &Path) -> BTreeSet<String> {
    let mut find = Command::new("find");
    find.arg(root)
        .args(["-path", "*/lib/rpm", "-prune", "-o", "-print"]);
    let listing = process::text(&mut find).unwrap();
    listing.lines().map(str::to_owned).collect()
}

/// Creates a system without systemd-sysusers, with this shell.
fn create_root(root: &Path, shell: &Path) {
    for dir in [
        "bin",
        "dev",
        "etc/apparmor.d",
        "usr/bin",
        "usr/share/doc",
        "var/lib/rpm",
    ] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::copy(shell, root.join("bin/sh")).unwrap();
    for file in ["dev/null", "calls"] {
        fs::write(root.join(file), "").unwrap();
    }
    for tool in ["getent", "systemctl", "useradd"] {
        let path = root.join("bin").join(tool);
        fs::write(&path, TOOL).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn rpm_installs_and_removes_the_package() {
    if !rustix::process::geteuid().is_root() {
        return pr_testkit::skip("rpm needs root to run scriptlets below another root directory");
    }
    let (Some(shell), Some(package)) = (tool("busybox"), Package::rpm()) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    create_root(root, Path::new(shell.get_program()));
    let before = paths(root);
    rpm(root, "--install", package.path.to_str().unwrap());
    assert!(root.join("usr/bin/prhctl").exists());
    rpm(root, "--verify", "qemu-pr-helper-rs");
    rpm(root, "--erase", "qemu-pr-helper-rs");
    let calls = fs::read_to_string(root.join("calls")).unwrap();
    for call in [
        "getent passwd qemu-pr-helper",
        "useradd --system --user-group",
        "systemctl --no-reload preset qemu-pr-helper.socket",
        "systemctl --no-reload disable --now qemu-pr-helper.socket",
    ] {
        assert!(calls.contains(call), "{call}: {calls}");
    }
    // Directories of other packages, which rpm creates as needed, stay.
    let after = paths(root);
    let left = after.difference(&before);
    let left: Vec<_> = left
        .filter(|path| !Path::new(path).is_dir() || path.contains("qemu-pr-helper"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(before.is_subset(&after));
}
