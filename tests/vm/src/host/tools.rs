// SPDX-License-Identifier: MIT OR Apache-2.0

//! Programs that the scenarios need, with their Debian packages.

use anyhow::{Result, bail};

use super::ORIGINAL_HELPER;
use super::root::Root;
use super::scenario::Scenario;
use crate::guest::UDEVD;
use pr_testkit::process::find;

/// A program and its Debian package.
type Tool = (&'static str, &'static str);

/// Programs of the host that boot a machine, and the ones in the nested guest's initramfs.
const ON_HOST: [Tool; 11] = [
    ("apt-cache", "apt"),
    ("apt-get", "apt"),
    ("busybox", "busybox-static"),
    ("depmod", "kmod"),
    ("dpkg", "dpkg"),
    ("ldd", "libc-bin"),
    ("modprobe", "kmod"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("setpriv", "util-linux"),
    ("sg_persist", "sg3-utils"),
    ("xz", "xz-utils"),
];

/// Programs that every scenario uses in the machine.
const IN_MACHINE: [Tool; 7] = [
    (ORIGINAL_HELPER, "qemu-system-common"),
    ("dd", "coreutils"),
    ("dmsetup", "dmsetup"),
    ("modprobe", "kmod"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("setpriv", "util-linux"),
    ("sg_persist", "sg3-utils"),
];

/// Programs for multipath maps.
const MULTIPATH: [Tool; 5] = [
    ("kpartx", "kpartx"),
    ("mpathpersist", "multipath-tools"),
    ("multipathd", "multipath-tools"),
    (UDEVD, "udev"),
    ("udevadm", "udev"),
];

/// Programs for a network and an iSCSI initiator.
const ISCSI: [Tool; 4] = [
    ("ip", "iproute2"),
    ("iscsiadm", "open-iscsi"),
    ("iscsid", "open-iscsi"),
    ("ss", "iproute2"),
];

/// Programs for libvirt. Its QEMU driver is a library that libvirtd loads if it is installed.
const LIBVIRT: [Tool; 3] = [
    (
        "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so",
        "libvirt-daemon-driver-qemu",
    ),
    ("libvirtd", "libvirt-daemon"),
    ("virsh", "libvirt-clients"),
];

/// Programs to delay commands of a helper or to kill it during a command.
const INJECTION: [Tool; 1] = [("strace", "strace")];

/// Programs to enable units; systemd need not be running.
const PACKAGES: [Tool; 1] = [("systemctl", "systemd")];

/// Returns the programs that a scenario uses in the machine beside the common ones.
fn needed_for(scenario: Scenario) -> Vec<Tool> {
    match scenario {
        Scenario::Migration | Scenario::Lio | Scenario::Instructions => Vec::new(),
        Scenario::Guest | Scenario::Bench => MULTIPATH.to_vec(),
        Scenario::TwoHosts => [MULTIPATH.as_slice(), &ISCSI].concat(),
        Scenario::Multipath => [MULTIPATH.as_slice(), &INJECTION].concat(),
        Scenario::Libvirt => [LIBVIRT.as_slice(), &MULTIPATH, &ISCSI].concat(),
        Scenario::Sg => [INJECTION.as_slice(), &ISCSI].concat(),
        Scenario::Restart => INJECTION.to_vec(),
        Scenario::Packages => PACKAGES.to_vec(),
    }
}

/// Returns the packages of all programs that any scenario uses in the machine.
pub(crate) fn packages() -> Vec<&'static str> {
    let tools = [
        IN_MACHINE.as_slice(),
        &MULTIPATH,
        &ISCSI,
        &LIBVIRT,
        &INJECTION,
        &PACKAGES,
    ];
    packages_of(tools.concat())
}

fn packages_of(tools: Vec<Tool>) -> Vec<&'static str> {
    let mut packages: Vec<_> = tools.into_iter().map(|(_, package)| package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Fails with a message that names all missing programs and the command that installs them. A root
/// file system that is not the host's has been built with all packages.
pub(crate) fn check(scenarios: &[Scenario], roots: &[Root]) -> Result<()> {
    let mut needed = ON_HOST.to_vec();
    if roots.contains(&Root::Host) {
        needed.extend(IN_MACHINE);
        needed.extend(scenarios.iter().flat_map(|&scenario| needed_for(scenario)));
    }
    needed.retain(|(program, _)| find(program).is_none());
    if needed.is_empty() {
        return Ok(());
    }
    needed.sort_unstable();
    needed.dedup();
    let programs: Vec<_> = needed.iter().map(|(program, _)| *program).collect();
    bail!(
        "missing: {}; install with: apt-get install {} (on Debian 12, preferably take QEMU from \
         bookworm-backports: add -t bookworm-backports)",
        programs.join(", "),
        packages_of(needed).join(" ")
    );
}
