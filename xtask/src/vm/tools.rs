//! Checks that the programs that a run needs are there, before anything else is done.

use anyhow::{Result, bail};

use super::{ORIGINAL_HELPER, Scenario};
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

/// And for libvirt. Its driver for QEMU is a library that libvirtd loads if it is there.
const NEEDED_FOR_LIBVIRT: [(&str, &str); 3] = [
    (
        "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so",
        "libvirt-daemon-driver-qemu",
    ),
    ("libvirtd", "libvirt-daemon"),
    ("virsh", "libvirt-clients"),
];

/// And to delay a helper's command, or to kill a helper in the middle of one.
const NEEDED_FOR_INJECTION: [(&str, &str); 1] = [("strace", "strace")];

/// And to enable units, which needs no systemd that runs.
const NEEDED_FOR_PACKAGES: [(&str, &str); 1] = [("systemctl", "systemd")];

/// Programs with their packages that a scenario needs besides.
fn needed_for(scenario: Scenario) -> &'static [(&'static str, &'static str)] {
    match scenario {
        Scenario::Lio => &[],
        Scenario::Guest | Scenario::Multipath | Scenario::Bench => &NEEDED_FOR_MULTIPATH,
        Scenario::Libvirt => &NEEDED_FOR_LIBVIRT,
        Scenario::Sg | Scenario::Restart => &NEEDED_FOR_INJECTION,
        Scenario::Packages => &NEEDED_FOR_PACKAGES,
    }
}

/// Fails with one message that names everything missing and the command that installs it.
pub(crate) fn check(scenarios: &[Scenario]) -> Result<()> {
    let others = scenarios
        .iter()
        .flat_map(|&scenario| needed_for(scenario))
        .copied();
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
    missing.sort_unstable();
    missing.dedup();
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
