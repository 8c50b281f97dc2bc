// SPDX-License-Identifier: MIT OR Apache-2.0

//! Checks of the disks of virtual machines.

use helper_state::Registration;

use super::{mount_path, read};
use crate::block_device::BlockDevice;
use crate::commands::doctor::finding::Severity::{Problem, Warning};
use crate::commands::doctor::finding::{Check, Fault, Results};
use crate::commands::doctor::fix::Line;
use crate::commands::doctor::host::Host;
use crate::commands::doctor::subject::Subject;
use crate::known_disks::{KnownDisk, distinct, known_disks};

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "disk-shared-on-host",
        severity: Problem,
        consequence: "The disk sees the virtual machines as one initiator, so a reservation \
                      protects it from none of them.",
        run: disk_shared_on_host,
    },
    Check {
        id: "key-not-unique",
        severity: Problem,
        consequence: "A node that removes the key of the other one removes its own registration \
                      too.",
        run: key_not_unique,
    },
    Check {
        id: "path-not-registered",
        severity: Problem,
        consequence: "Writes through the path fail while the disk is reserved.",
        run: path_not_registered,
    },
    Check {
        id: "disk-in-use",
        severity: Problem,
        consequence: "The host writes to the guest's disk, which corrupts data, and its writes \
                      fail during a reservation.",
        run: disk_in_use,
    },
    Check {
        id: "disk-missing",
        severity: Problem,
        consequence: "The virtual machine does not start, or has lost its disk.",
        run: disk_missing,
    },
    Check {
        id: "path-unusable",
        severity: Warning,
        consequence: "The disk has fewer paths than configured, or none, and commands can wait for \
                      a path.",
        run: path_unusable,
    },
];

/// Advice against virtual machines that share a disk.
const MOVE: &str = "Run the virtual machines on different hosts.";

fn disk_shared_on_host(host: &Host, results: &mut Results) {
    let mut reported: Vec<String> = Vec::new();
    for disk in known_disks(&host.helpers) {
        let connected = connected(&disk);
        let clients = distinct(connected.iter().map(|one| one.client.as_str()));
        if clients.len() < 2 || disk.is_soft_lun() {
            continue;
        }
        reported.extend(disk.wwn.map(str::to_owned));
        let fault = Fault {
            what: format!(
                "{} are registered with {}",
                clients.join(" and "),
                name(&disk)
            ),
            evidence: format!("state of the helpers: {}", registrations(&connected)),
            fix: vec![Line::command("prhctl disks"), Line::comment(MOVE)],
        };
        results.add(subject(&disk, &clients), fault);
    }
    let guests = host.guest_disks();
    let running: Vec<_> = guests
        .iter()
        .filter(|disk| disk.vm.pid.is_some() && disk.disk.has_helper())
        .filter_map(|disk| Some((disk.device.as_ref()?.wwn()?, disk)))
        .collect();
    for wwn in distinct(running.iter().map(|(wwn, _)| wwn)) {
        let users = running.iter().filter(|(other, _)| other == wwn);
        let disks: Vec<_> = users.map(|(_, disk)| *disk).collect();
        let vms = distinct(disks.iter().map(|disk| disk.vm.name.clone()));
        if vms.len() < 2 || reported.contains(wwn) {
            continue;
        }
        let texts = disks
            .iter()
            .map(|disk| format!("{}: {}", disk.vm.source, disk.disk.text));
        let fault = Fault {
            what: format!("{} run on this host with the disk {wwn}", vms.join(" and ")),
            evidence: texts.collect::<Vec<_>>().join("; "),
            fix: vec![Line::comment(MOVE)],
        };
        let disks = distinct(disks.iter().map(|disk| disk.node.clone()));
        results.add(Subject { vms, disks }, fault);
    }
}

/// Returns the WWN or the nodes of a disk.
fn name(disk: &KnownDisk<'_>) -> String {
    let nodes = || disk.nodes().join(" ");
    disk.wwn.map_or_else(nodes, str::to_owned)
}

/// Returns the registrations of connected clients. A client that has gone can have moved to another
/// host.
fn connected<'a>(disk: &KnownDisk<'a>) -> Vec<&'a Registration> {
    let is_connected = |one: &&Registration| {
        let mut all = disk
            .devices
            .iter()
            .flat_map(|(_, disk)| &disk.registrations);
        all.any(|same| same.is_connected && same.key == one.key && same.client == one.client)
    };
    let registrations = disk.registrations().into_iter();
    registrations.filter(is_connected).collect()
}

fn registrations(registrations: &[&Registration]) -> String {
    let registrations = registrations.iter();
    let texts = registrations.map(|one| format!("{} {}", one.key, one.client));
    texts.collect::<Vec<_>>().join(", ")
}

fn subject(disk: &KnownDisk<'_>, clients: &[&str]) -> Subject {
    let nodes = disk.nodes().into_iter().map(|node| format!("/dev/{node}"));
    let path = disk.path().map(|path| path.to_string_lossy().into_owned());
    Subject {
        vms: clients.iter().map(|client| (*client).to_owned()).collect(),
        disks: nodes.chain(path).collect(),
    }
}

fn key_not_unique(host: &Host, results: &mut Results) {
    for disk in known_disks(&host.helpers) {
        if disk.is_soft_lun() {
            continue;
        }
        let all = connected(&disk);
        for key in distinct(all.iter().map(|one| one.key.as_str())) {
            let users = all.iter().filter(|one| one.key == key);
            let clients = distinct(users.map(|one| one.client.as_str()));
            if clients.len() > 1 {
                let fault = Fault {
                    what: format!("{} have the same key {key}", clients.join(" and ")),
                    evidence: format!("state of the helpers: {}: {key}", name(&disk)),
                    fix: vec![Line::comment(
                        "Give each node its own key in the cluster software, for example key= of \
                         fence_scsi.",
                    )],
                };
                results.add(subject(&disk, &clients), fault);
            }
        }
    }
}

fn path_not_registered(host: &Host, results: &mut Results) {
    for disk in known_disks(&host.helpers) {
        let paths = disk.unregistered_paths();
        if paths.is_empty() {
            continue;
        }
        let paths = paths.join(", ");
        let registrations = disk.registrations().into_iter();
        let clients = distinct(registrations.map(|one| one.client.as_str()));
        let fault = Fault {
            what: format!("paths of {} are not registered: {paths}", name(&disk)),
            evidence: format!("state of the helpers: {paths}: not-registered"),
            fix: vec![
                Line::command("multipathd show paths")
                    .note("multipathd registers a path that returns"),
                Line::comment("The next REGISTER of the guest on the map registers all paths."),
            ],
        };
        results.add(subject(&disk, &clients), fault);
    }
}

fn disk_in_use(host: &Host, results: &mut Results) {
    let Some(mounts) = read(host, results, "/proc/self/mountinfo") else {
        return results.skip("the list of mounts is missing");
    };
    for (device, subject) in host.guest_devices() {
        for user in uses(&device, &mounts) {
            let fault = Fault {
                what: format!(
                    "this host uses {}, a disk of {}",
                    device.node(),
                    subject.vms.join(", ")
                ),
                evidence: user.evidence,
                fix: vec![user.fix],
            };
            results.add(subject.clone(), fault);
        }
    }
}

/// Use of a device by the host.
struct Use {
    evidence: String,
    fix: Line,
}

/// Returns the uses of a device, its partitions, and the partitions of kpartx.
fn uses(device: &BlockDevice, mounts: &str) -> Vec<Use> {
    let mut uses = Vec::new();
    let mounted = device.number().and_then(|number| {
        let mut lines = mounts.lines();
        lines.find(|line| line.split(' ').nth(2) == Some(&number))
    });
    if let Some(line) = mounted {
        let dir = line.split(' ').nth(4).unwrap_or_default();
        uses.push(Use {
            evidence: format!(
                "/proc/self/mountinfo: {} is mounted at {dir}",
                device.node()
            ),
            fix: Line::command("umount").value(mount_path(dir)),
        });
    }
    for holder in device.holders() {
        if holder.is_multipath_map() {
            continue;
        }
        if holder.is_partition() {
            uses.extend(self::uses(&holder, mounts));
            continue;
        }
        let node = holder.node();
        let fix = match node.strip_prefix("/dev/mapper/") {
            Some(_) if holder.is_logical_volume() => Line::command("lvchange -an").value(&node),
            Some(name) => Line::command("dmsetup remove").value(name),
            None if holder.name().starts_with("md") => Line::command("mdadm --stop").value(&node),
            None => Line::comment(format!("Stop {node} with the program that has started it.")),
        };
        uses.push(Use {
            evidence: format!(
                "/sys/class/block/{}/holders/{}: {}",
                device.name(),
                holder.name(),
                holder.node()
            ),
            fix,
        });
    }
    let partitions = device.partitions();
    uses.extend(
        partitions
            .iter()
            .flat_map(|partition| self::uses(partition, mounts)),
    );
    uses
}

fn disk_missing(host: &Host, results: &mut Results) {
    for disk in host.guest_disks() {
        // scsi-generic has a character device.
        if disk.device.is_some() || disk.disk.driver == "scsi-generic" {
            continue;
        }
        let fault = Fault {
            what: format!("{} of {} does not exist", disk.node, disk.vm.name),
            evidence: disk.disk.text.clone(),
            fix: vec![Line::command("lsblk -S").and("multipathd show maps")],
        };
        results.add(disk.subject(), fault);
    }
}

fn path_unusable(host: &Host, results: &mut Results) {
    for (device, subject) in host.guest_devices() {
        for path in device.unusable_paths() {
            let (name, _) = path.split_once(' ').unwrap_or_default();
            let fault = Fault {
                what: format!("{}: {path}", device.node()),
                evidence: format!("/sys/block/{name}/device/state"),
                fix: vec![
                    Line::command("echo running >")
                        .value(format!("/sys/block/{name}/device/state"))
                        .note("if it is offline"),
                ],
            };
            results.add(subject.clone(), fault);
        }
    }
}
