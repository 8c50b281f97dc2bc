// SPDX-License-Identifier: MIT OR Apache-2.0

//! The checks, in the order of their importance. docs/doctor.md lists them.

mod disk;
mod helper;
mod lvm;
mod multipath;
mod service;
mod socket;
mod vm;

use super::finding::{Check, Results};
use super::host::Host;

const GROUPS: [&[Check]; 7] = [
    service::CHECKS,
    socket::CHECKS,
    helper::CHECKS,
    vm::CHECKS,
    disk::CHECKS,
    lvm::CHECKS,
    multipath::CHECKS,
];

/// Returns all checks.
pub(super) fn all() -> impl Iterator<Item = &'static Check> {
    GROUPS.into_iter().flatten()
}

/// Returns the lines of a change of a virtual machine's configuration.
fn change_vm(host: &Host, vm: &super::vm::Vm, libvirt: &str, qemu: &str) -> Vec<String> {
    match host.is_libvirt(vm) {
        true => vec![
            format!("virsh edit {}", vm.name),
            format!("# {libvirt}"),
            "# Then shut the machine down and start it again.".to_owned(),
        ],
        false => vec![format!("# Start QEMU with {qemu}")],
    }
}

/// Adds the reason why a file was not read, and returns its contents.
fn read(host: &Host, results: &mut Results, path: &str) -> Option<String> {
    match host.read(path) {
        Ok(text) => text,
        Err(reason) => {
            results.skip(reason);
            None
        }
    }
}
