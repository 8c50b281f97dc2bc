//! Checks at the start that the required programs are installed.

use anyhow::{Result, bail};

use super::{ORIGINAL_HELPER, Scenario};
use crate::guest::UDEVD;
use pr_testkit::process::find;

/// Programs that every scenario needs, with their Debian packages.
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

/// Programs for multipath maps.
const NEEDED_FOR_MULTIPATH: [(&str, &str); 5] = [
    ("kpartx", "kpartx"),
    ("mpathpersist", "multipath-tools"),
    ("multipathd", "multipath-tools"),
    (UDEVD, "udev"),
    ("udevadm", "udev"),
];

/// Programs for libvirt. Its QEMU driver is a library that libvirtd loads if it is installed.
const NEEDED_FOR_LIBVIRT: [(&str, &str); 3] = [
    (
        "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so",
        "libvirt-daemon-driver-qemu",
    ),
    ("libvirtd", "libvirt-daemon"),
    ("virsh", "libvirt-clients"),
];

/// Programs to delay commands of a helper or to kill it during a command.
const NEEDED_FOR_INJECTION: [(&str, &str); 1] = [("strace", "strace")];

/// Programs to enable units; systemd need not be running.
const NEEDED_FOR_PACKAGES: [(&str, &str); 1] = [("systemctl", "systemd")];

/// Returns the programs that a scenario needs additionally, with their packages.
fn needed_for(scenario: Scenario) -> &'static [(&'static str, &'static str)] {
    match scenario {
        Scenario::Lio => &[],
        Scenario::Guest | Scenario::Multipath | Scenario::Bench => &NEEDED_FOR_MULTIPATH,
        Scenario::Libvirt => &NEEDED_FOR_LIBVIRT,
        Scenario::Sg | Scenario::Restart => &NEEDED_FOR_INJECTION,
        Scenario::Packages => &NEEDED_FOR_PACKAGES,
    }
}

/// Fails with a message that names all missing programs and the command that installs them.
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
        "missing: {}; install with: apt-get install {} (on Debian 12, preferably take QEMU from \
         bookworm-backports: add -t bookworm-backports)",
        programs.join(", "),
        packages.join(" ")
    );
}
