// SPDX-License-Identifier: MIT OR Apache-2.0

//! Check of LVM on the host.

use super::read;
use crate::block_device::BlockDevice;
use crate::commands::doctor::finding::Severity::Warning;
use crate::commands::doctor::finding::{Check, Fault, Results};
use crate::commands::doctor::fix::Line;
use crate::commands::doctor::host::Host;

pub(super) const CHECKS: &[Check] = &[Check {
    id: "lvm-scans-disk",
    severity: Warning,
    consequence: "LVM of the host can activate the guest's volumes and write to them.",
    run: lvm_scans_disk,
}];

/// File with the only devices that LVM uses.
const DEVICES_FILE: &str = "/etc/lvm/devices/system.devices";

const CONFIG: &str = "/etc/lvm/lvm.conf";

/// Property of a device in the database of udev: the type of its contents.
const CONTENTS: &str = "E:ID_FS_TYPE=LVM2_member";

fn lvm_scans_disk(host: &Host, results: &mut Results) {
    if host.exists(DEVICES_FILE) || !host.exists(CONFIG) {
        return;
    }
    let Some(config) = read(host, results, CONFIG) else {
        return;
    };
    if config.lines().any(is_filter) {
        return;
    }
    for (device, subject) in host.guest_devices() {
        let members: Vec<_> = [vec![device.clone()], device.partitions()]
            .concat()
            .into_iter()
            .filter_map(|one| member(host, results, &one))
            .collect();
        let Some(evidence) = members.into_iter().next() else {
            continue;
        };
        let fault = Fault {
            what: format!(
                "{}, a disk of {}, is a physical volume, and LVM of the host does not exclude it",
                device.node(),
                subject.vms.join(", ")
            ),
            evidence: format!("{evidence}; {CONFIG}: no filter; no {DEVICES_FILE}"),
            fix: vec![
                Line::comment(format!("{CONFIG}, section devices:")),
                Line::comment(format!(
                    "global_filter = [ \"r|^{}.*|\", \"a|.*|\" ]",
                    device.node()
                )),
            ],
        };
        results.add(subject, fault);
    }
}

/// Returns whether a line of `lvm.conf` sets a filter.
fn is_filter(line: &str) -> bool {
    let name = line.split_once('=').map(|(name, _)| name.trim());
    matches!(name, Some("filter" | "global_filter"))
}

/// Returns the evidence that a device is a physical volume.
fn member(host: &Host, results: &mut Results, device: &BlockDevice) -> Option<String> {
    let path = format!("/run/udev/data/b{}", device.number()?);
    let properties = read(host, results, &path)?;
    let is_member = properties.lines().any(|line| line == CONTENTS);
    is_member.then(|| format!("{path}: {CONTENTS}"))
}
