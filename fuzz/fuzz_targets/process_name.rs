// SPDX-License-Identifier: MIT OR Apache-2.0

//! Names of a process: they are bounded, and have no control characters, whatever the process has
//! chosen.

#![cfg_attr(fuzzing, no_main)]

use fuzz::input::halves;
use qemu_pr_helper::names::process_name::identify;

fuzz::target!(run);

/// Input: the control groups and the arguments of a process. Its program is QEMU.
fn run(bytes: &[u8]) {
    let (cgroup, cmdline) = halves(bytes);
    let process = identify(cgroup, cmdline, b"qemu-kvm\n");
    let vm = process.vm.as_ref();
    let names = [Some(&process.name), process.unit.as_ref()];
    let names = names
        .into_iter()
        .chain([vm.map(|vm| &vm.name), vm.and_then(|vm| vm.uuid.as_ref())]);
    for name in names.flatten() {
        assert!(name.len() <= 256);
        assert!(!name.chars().any(char::is_control));
    }
    assert!(vm.is_none_or(|vm| vm.name == process.name));
}
