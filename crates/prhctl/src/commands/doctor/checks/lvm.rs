// SPDX-License-Identifier: MIT OR Apache-2.0

//! Check of LVM on the host.

use super::read;
use crate::block_device::BlockDevice;
use crate::commands::doctor::finding::Severity::Warning;
use crate::commands::doctor::finding::{Check, Fault, Results};
use crate::commands::doctor::fix::Line;
use crate::commands::doctor::host::Host;
use crate::commands::doctor::lvm_filter::{Effect, Filter};
use crate::known_disks::distinct;

pub(super) const CHECKS: &[Check] = &[Check {
    id: "lvm-scans-disk",
    severity: Warning,
    consequence: "LVM of the host can activate the guest's volumes and write to them.",
    run: lvm_scans_disk,
}];

const CONFIG: &str = "/etc/lvm/lvm.conf";

/// Directory of files with the only devices that LVM uses.
const DEVICES_DIR: &str = "/etc/lvm/devices";

/// Property of a device in the database of udev: the type of its contents.
const CONTENTS: &str = "E:ID_FS_TYPE=LVM2_member";

/// A physical volume on a guest's disk.
struct PhysicalVolume {
    node: String,
    /// All names in `/dev`.
    names: Vec<String>,
    /// Names by which a devices file can list it.
    ids: Vec<String>,
    evidence: String,
}

fn lvm_scans_disk(host: &Host, results: &mut Results) {
    if !host.exists(CONFIG) {
        return;
    }
    for (device, subject) in host.guest_devices() {
        let parts = [vec![device.clone()], device.partitions()].concat();
        let volumes: Vec<_> = parts
            .iter()
            .filter_map(|part| physical_volume(host, results, part))
            .collect();
        for volume in volumes {
            let settings = match host.run("lvmconfig", &["--typeconfig", "full", "devices"]) {
                Ok(settings) => settings,
                Err(reason) => return results.skip(reason),
            };
            let Some((reason, fix)) = use_of(host, results, &settings, &volume) else {
                continue;
            };
            let fault = Fault {
                what: format!(
                    "{}, a disk of {}, has a physical volume, and LVM of the host uses it",
                    device.node(),
                    subject.vms.join(", ")
                ),
                evidence: format!("{}; {reason}", volume.evidence),
                fix,
            };
            results.add(subject.clone(), fault);
        }
    }
}

/// Returns why LVM uses a physical volume, and the change; `None` if it does not, or if that is not
/// known.
fn use_of(
    host: &Host,
    results: &mut Results,
    settings: &str,
    volume: &PhysicalVolume,
) -> Option<(String, Vec<Line>)> {
    let setting = |name: &str| {
        let mut lines = settings
            .lines()
            .filter_map(|line| line.trim().split_once('='));
        lines
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    };
    let uses_file = setting("use_devicesfile").map(|value| value == "1");
    if uses_file == Some(true) {
        let name = setting("devicesfile").unwrap_or("system.devices");
        let path = format!("{DEVICES_DIR}/{}", name.trim_matches('"'));
        // Without the file, LVM uses the filters.
        if host.exists(&path) {
            let entries = read(host, results, &path)?;
            let line = entries.lines().find(|line| lists(line, volume))?;
            let fix = Line::command("lvmdevices --deldev").value(&volume.node);
            return Some((format!("{path}: {line}"), vec![fix]));
        }
    }
    let filters = ["filter", "global_filter"].map(|name| (name, setting(name).unwrap_or("[]")));
    let effects = filters.map(|(_, value)| Filter::parse(value).effect(&volume.names));
    if effects.contains(&Effect::Rejected) {
        return None;
    }
    let texts = filters.map(|(name, value)| format!("{name}={value}"));
    if effects.contains(&Effect::Unknown) {
        results.skip(format!(
            "a filter of LVM is not evaluated: {}",
            texts.join(" ")
        ));
        return None;
    }
    let names = volume.names.join(" ");
    let reason = format!("lvmconfig: {} accepts a name of: {names}", texts.join(" "));
    Some((reason, exclude(uses_file)))
}

/// Returns the use of a devices file, or of a filter if LVM has no devices files.
fn exclude(uses_file: Option<bool>) -> Vec<Line> {
    let section = Line::comment(format!("{CONFIG}, section devices:"));
    let import = Line::command("vgimportdevices VG").note("for each volume group of the host only");
    match uses_file {
        Some(true) => vec![import],
        Some(false) => vec![section, Line::comment("use_devicesfile = 1"), import],
        None => vec![
            section,
            Line::comment("global_filter = [ \"a|^/dev/disk/by-id/DISK$|\", \"r|.*|\" ]"),
            Line::comment("with an element \"a|…|\" for each physical volume of the host."),
        ],
    }
}

/// Returns whether a line of a devices file is for the physical volume, or for another one on its
/// disk.
fn lists(line: &str, volume: &PhysicalVolume) -> bool {
    let mut words = line.split_whitespace();
    let id = words.find_map(|word| word.strip_prefix("IDNAME="));
    id.is_some_and(|id| volume.ids.iter().any(|own| own == id))
}

/// Returns the physical volume on a device; `None` if udev has found none.
fn physical_volume(
    host: &Host,
    results: &mut Results,
    device: &BlockDevice,
) -> Option<PhysicalVolume> {
    let path = format!("/run/udev/data/b{}", device.number()?);
    let properties = read(host, results, &path)?;
    if !properties.lines().any(|line| line == CONTENTS) {
        return None;
    }
    let node = device.node();
    let links = properties
        .lines()
        .filter_map(|line| line.strip_prefix("S:"));
    let own = [node.clone(), format!("/dev/{}", device.name())];
    let names = own
        .into_iter()
        .chain(links.map(|link| format!("/dev/{link}")));
    let names = distinct(names);
    let uuid = read(
        host,
        results,
        &format!("/sys/class/block/{}/dm/uuid", device.name()),
    );
    let uuid = uuid.map(|uuid| uuid.trim_end().to_owned());
    Some(PhysicalVolume {
        node,
        ids: names
            .iter()
            .cloned()
            .chain(uuid)
            .chain(device.wwn())
            .collect(),
        names,
        evidence: format!("{path}: {CONTENTS}"),
    })
}
