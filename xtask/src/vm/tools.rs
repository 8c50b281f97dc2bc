//! Checks that the programs that a run needs are there, before anything else is done.

use anyhow::{Result, bail};

use super::ORIGINAL_HELPER;
use crate::guest::UDEVD;
use crate::process::find;

/// Each program with the Debian package that it is in.
const NEEDED: [(&str, &str); 13] = [
    ("apt-cache", "apt"),
    ("apt-get", "apt"),
    ("busybox", "busybox-static"),
    ("dd", "coreutils"),
    ("depmod", "kmod"),
    ("dmsetup", "dmsetup"),
    ("dpkg", "dpkg"),
    ("ldd", "libc-bin"),
    ("modprobe", "kmod"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("setpriv", "util-linux"),
    ("sg_persist", "sg3-utils"),
    ("xz", "xz-utils"),
];

/// And for real multipath maps.
const NEEDED_FOR_MULTIPATH: [(&str, &str); 5] = [
    ("kpartx", "kpartx"),
    ("mpathpersist", "multipath-tools"),
    ("multipathd", "multipath-tools"),
    (UDEVD, "udev"),
    ("udevadm", "udev"),
];

/// Fails with one message that names everything missing and the command that installs it.
pub(crate) fn check(for_multipath: bool) -> Result<()> {
    let others = NEEDED_FOR_MULTIPATH.into_iter().filter(|_| for_multipath);
    let mut missing: Vec<_> = NEEDED
        .into_iter()
        .chain(others)
        .filter(|(program, _)| find(program).is_none())
        .collect();
    if find(ORIGINAL_HELPER).is_none() {
        missing.push((ORIGINAL_HELPER, "qemu-system-common"));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let (programs, mut packages): (Vec<_>, Vec<_>) = missing.into_iter().unzip();
    packages.sort_unstable();
    packages.dedup();
    bail!(
        "missing: {}; install with: apt-get install {} (on Debian 12 QEMU is best taken from \
         bookworm-backports: add -t bookworm-backports)",
        programs.join(", "),
        packages.join(" ")
    );
}
