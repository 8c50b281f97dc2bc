// SPDX-License-Identifier: MIT OR Apache-2.0

//! Checks of the configuration of virtual machines.

use super::{change_vm, read};
use crate::block_device::{BlockDevice, PartKind};
use crate::commands::doctor::finding::Severity::{Problem, Warning};
use crate::commands::doctor::finding::{Check, Fault, Results};
use crate::commands::doctor::fix::Line;
use crate::commands::doctor::host::{CAP_SYS_RAWIO, GuestDisk, Host};
use crate::commands::doctor::subject::Subject;
use crate::commands::doctor::vm::Vm;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "emulated-device",
        severity: Problem,
        consequence: "QEMU emulates the disk and rejects PERSISTENT RESERVE OUT.",
        run: emulated_device,
    },
    Check {
        id: "part-of-disk",
        severity: Problem,
        consequence: "The helper rejects reservation commands, because they would apply to the \
                      whole disk.",
        run: part_of_disk,
    },
    Check {
        id: "path-of-map",
        severity: Problem,
        consequence: "A registration covers one path only, and the disk is lost with that path.",
        run: path_of_map,
    },
    Check {
        id: "helper-not-configured",
        severity: Warning,
        consequence: "Reservation commands of the guest fail, because QEMU lacks CAP_SYS_RAWIO, or \
                      reach one path of the map only.",
        run: helper_not_configured,
    },
    Check {
        id: "errors-ignored",
        severity: Problem,
        consequence: "A read or write that fails is reported to the guest as successful.",
        run: errors_ignored,
    },
    Check {
        id: "errors-stop",
        severity: Warning,
        consequence: "An I/O error pauses the virtual machine, in older versions of QEMU also the \
                      RESERVATION CONFLICT that a fenced node must get.",
        run: errors_stop,
    },
    Check {
        id: "migrate-pr-off",
        severity: Warning,
        consequence: "A live migration leaves registrations and reservation at the source host.",
        run: migrate_pr_off,
    },
    Check {
        id: "old-machine-type",
        severity: Warning,
        consequence: "A live migration leaves registrations and reservation at the source host.",
        run: old_machine_type,
    },
];

/// Major version of QEMU from which `migrate-pr` is on by default in machine types.
const MIGRATE_PR_VERSION: u32 = 11;

fn emulated_device(host: &Host, results: &mut Results) {
    for disk in host.guest_disks() {
        if disk.disk.is_passthrough() {
            continue;
        }
        let what = format!(
            "{} has {} as {}, and a helper for its reservations",
            disk.vm.name, disk.node, disk.disk.driver
        );
        let libvirt = "Use <disk type='block' device='lun'> and <target bus='scsi'/>.";
        let fix = change_vm(host, disk.vm, libvirt, "-device scsi-block for this disk.");
        add(results, &disk, what, fix);
    }
}

/// Adds a fault of a disk, with its text as evidence.
fn add(results: &mut Results, disk: &GuestDisk<'_>, what: String, fix: Vec<Line>) {
    let evidence = match disk.vm.pid {
        Some(_) => format!("{}: {}", disk.vm.source, disk.disk.text),
        None => disk.disk.text.clone(),
    };
    let fault = Fault {
        what,
        evidence,
        fix,
    };
    results.add(disk.subject(), fault);
}

/// Calls `check` with each disk that is, or lies on, another device: its kind and the names of the
/// other devices.
fn parts(
    host: &Host,
    check: impl Fn(&GuestDisk<'_>, PartKind, String) -> Option<String>,
    results: &mut Results,
) {
    for disk in host.guest_disks() {
        let Some(part) = disk.device.as_ref().and_then(BlockDevice::part) else {
            continue;
        };
        let of = part.of.join(", ");
        if let Some(what) = check(&disk, part.kind, of.clone()) {
            let libvirt = format!("Use <source dev='{of}'>.");
            let qemu = format!("filename={of} for this disk.");
            let fix = change_vm(host, disk.vm, &libvirt, &qemu);
            add(results, &disk, what, fix);
        }
    }
}

fn part_of_disk(host: &Host, results: &mut Results) {
    let check = |disk: &GuestDisk<'_>, kind: PartKind, of: String| {
        let kind = match kind {
            PartKind::Path => return None,
            PartKind::Partition => "partition",
            PartKind::Volume => "volume",
        };
        Some(format!(
            "{} has {}, a {kind} of {of}",
            disk.vm.name, disk.node
        ))
    };
    parts(host, check, results);
}

fn path_of_map(host: &Host, results: &mut Results) {
    let check = |disk: &GuestDisk<'_>, kind: PartKind, of: String| {
        let text = format!("{} has {}, a path of the map {of}", disk.vm.name, disk.node);
        (kind == PartKind::Path).then_some(text)
    };
    parts(host, check, results);
}

fn helper_not_configured(host: &Host, results: &mut Results) {
    for disk in host.guest_disks() {
        if disk.disk.has_helper() {
            continue;
        }
        let has_capability = match disk.vm.pid {
            Some(pid) => host
                .capabilities(pid, "CapEff")
                .is_some_and(|mask| mask & CAP_SYS_RAWIO != 0),
            None => disk.disk.property("rawio") == Some("on"),
        };
        if has_capability && !disk.is_map() {
            continue;
        }
        let what = format!("{} has {} without a helper", disk.vm.name, disk.node);
        let libvirt = "Add <reservations managed='yes'/> to <source> of the disk.";
        let qemu = "-object pr-manager-helper,id=helper0,path=/run/qemu-pr-helper.sock, and \
                    pr-manager=helper0 in -blockdev of the disk.";
        let fix = change_vm(host, disk.vm, libvirt, qemu);
        add(results, &disk, what, fix);
    }
}

/// Adds a fault for each disk that has one of these policies.
fn policies(host: &Host, results: &mut Results, policy: &str) {
    for disk in host.guest_disks() {
        let names = ["werror", "rerror"].into_iter();
        let names: Vec<_> = names
            .filter(|name| disk.disk.property(name) == Some(policy))
            .map(|name| format!("{name}={policy}"))
            .collect();
        if names.is_empty() {
            continue;
        }
        let what = format!(
            "{} has {} with {}",
            disk.vm.name,
            disk.node,
            names.join(", ")
        );
        let libvirt = "Use <driver error_policy='report' rerror_policy='report'/> for the disk.";
        let qemu = "werror=report,rerror=report for the disk.";
        let fix = change_vm(host, disk.vm, libvirt, qemu);
        add(results, &disk, what, fix);
    }
}

fn errors_ignored(host: &Host, results: &mut Results) {
    policies(host, results, "ignore");
}

fn errors_stop(host: &Host, results: &mut Results) {
    policies(host, results, "stop");
}

fn migrate_pr_off(host: &Host, results: &mut Results) {
    for disk in host.guest_disks() {
        if disk.disk.has_helper() && disk.disk.property("migrate-pr") == Some("off") {
            let what = format!("{} has {} with migrate-pr=off", disk.vm.name, disk.node);
            let libvirt = "Use <reservations migration='yes'> for the disk.";
            let fix = change_vm(host, disk.vm, libvirt, "migrate-pr=on for the disk.");
            add(results, &disk, what, fix);
        }
    }
}

fn old_machine_type(host: &Host, results: &mut Results) {
    for vm in &host.vms {
        let mut disks = vm.disks.iter().filter(|disk| disk.has_helper());
        if !disks.any(|disk| disk.property("migrate-pr").is_none()) {
            continue;
        }
        let Some(machine) = vm.machine.as_deref() else {
            continue;
        };
        let Some(kind) = major_version(machine).filter(|major| *major < MIGRATE_PR_VERSION) else {
            continue;
        };
        let Some((line, version)) = qemu_version(host, results, vm) else {
            continue;
        };
        if version < MIGRATE_PR_VERSION {
            continue;
        }
        let what = format!(
            "{} has a machine type of QEMU {kind}, {machine}, in which migrate-pr is off",
            vm.name
        );
        let libvirt = "Use <reservations migration='yes'> for the disk, or a machine type of 11.0 \
                       or later.";
        let fault = Fault {
            what,
            evidence: format!("{}: {machine}; {line}", vm.source),
            fix: change_vm(host, vm, libvirt, "migrate-pr=on for the disk."),
        };
        let vms = vec![vm.name.clone()];
        results.add(
            Subject {
                vms,
                disks: Vec::new(),
            },
            fault,
        );
    }
}

/// Returns the version in a machine type such as `pc-q35-10.0`.
fn major_version(machine: &str) -> Option<u32> {
    let (_, version) = machine.rsplit_once('-')?;
    let (major, _) = version.split_once('.')?;
    major.parse().ok()
}

/// Returns the line of libvirt's log of the machine with QEMU's version, and the major version.
fn qemu_version(host: &Host, results: &mut Results, vm: &Vm) -> Option<(String, u32)> {
    const LABEL: &str = "qemu version: ";
    let path = vm
        .file_name()
        .map(|name| format!("/var/log/libvirt/qemu/{name}.log"));
    let found = path.and_then(|path| {
        let log = read(host, results, &path)?;
        let (index, line) = log
            .lines()
            .enumerate()
            .filter(|(_, line)| line.contains(LABEL))
            .last()?;
        let (_, version) = line.split_once(LABEL)?;
        let (major, rest) = version.split_once('.')?;
        let minor = rest.split(['.', ',']).next()?;
        let line = format!("{path}:{}: {LABEL}{major}.{minor}", index + 1);
        Some((line, major.parse().ok()?))
    });
    if found.is_none() {
        results.skip(format!("the version of QEMU of {} is not known", vm.name));
    }
    found
}
