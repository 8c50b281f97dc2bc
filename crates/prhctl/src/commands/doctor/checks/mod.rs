// SPDX-License-Identifier: MIT OR Apache-2.0

//! The checks, in the order of their importance. docs/doctor.md lists them.

mod disk;
mod helper;
mod lvm;
mod multipath;
mod service;
mod socket;
mod vm;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use super::finding::{Check, Results};
use super::fix::Line;
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
fn change_vm(host: &Host, vm: &super::vm::Vm, libvirt: &str, qemu: &str) -> Vec<Line> {
    match host.is_libvirt(vm) {
        true => vec![
            Line::command("virsh edit").value(&vm.name),
            Line::comment(libvirt),
            Line::comment("Then shut the machine down and start it again."),
        ],
        false => vec![Line::comment(format!("Start QEMU with {qemu}"))],
    }
}

/// Returns a path of `mountinfo`, in which the kernel writes some bytes as `\040`.
fn mount_path(field: &str) -> OsString {
    let mut bytes = Vec::new();
    let mut rest = field.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = after.split_first_chunk::<3>().filter(|_| first == b'\\');
        let escaped = escaped.and_then(|(digits, after)| {
            let digits = str::from_utf8(digits).ok()?;
            Some((u8::from_str_radix(digits, 8).ok()?, after))
        });
        let (byte, after) = escaped.unwrap_or((first, after));
        bytes.push(byte);
        rest = after;
    }
    OsString::from_vec(bytes)
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
