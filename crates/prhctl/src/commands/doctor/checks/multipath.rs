// SPDX-License-Identifier: MIT OR Apache-2.0

//! Checks of multipath maps and multipathd. They apply to hosts with maps.

use std::fs;

use super::mount_path;
use crate::block_device::BlockDevice;
use crate::commands::doctor::finding::Severity::{Problem, Warning};
use crate::commands::doctor::finding::{Check, Fault, Results};
use crate::commands::doctor::fix::Line;
use crate::commands::doctor::host::Host;
use crate::commands::doctor::multipath_conf::Setting;
use crate::commands::doctor::subject::Subject;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "multipathd-missing",
        severity: Problem,
        consequence: "The helper rejects registrations on maps, and failed paths are not restored.",
        run: multipathd_missing,
    },
    Check {
        id: "reservation-key-missing",
        severity: Problem,
        consequence: "The helper rejects registrations on maps, because multipathd would not \
                      register a path that returns.",
        run: reservation_key_missing,
    },
    Check {
        id: "reservation-key-fixed",
        severity: Problem,
        consequence: "The helper rejects registrations on maps, unless the guest uses this key.",
        run: reservation_key_fixed,
    },
    Check {
        id: "prkeys-read-only",
        severity: Problem,
        consequence: "multipathd cannot store keys, so registrations on maps fail.",
        run: prkeys_read_only,
    },
    Check {
        id: "multipathd-old",
        severity: Warning,
        consequence: "multipathd can register a path that returns with a preempted key, so that a \
                      fenced host can write.",
        run: multipathd_old,
    },
    Check {
        id: "path-checker-directio",
        severity: Warning,
        consequence: "An Exclusive Access reservation makes multipathd fail the paths that may not \
                      read.",
        run: path_checker_directio,
    },
    Check {
        id: "queue-without-paths",
        severity: Warning,
        consequence: "Without paths, reads and writes of guests wait without limit, and a node \
                      does not notice that it has lost its disk.",
        run: queue_without_paths,
    },
    Check {
        id: "alua-handler-missing",
        severity: Warning,
        consequence: "The kernel does not follow changes of the access state, and does not request \
                      one when a map changes to other paths.",
        run: alua_handler_missing,
    },
];

/// First version of multipathd without the fault of `multipathd-old` (docs/multipath.md).
const FENCING_VERSION: [u32; 3] = [0, 13, 1];

/// File of keys without a setting.
const PRKEYS_FILE: &str = "/etc/multipath/prkeys";

const RECONFIGURE: &str = "multipathd reconfigure";

/// Returns the settings, unless the host has no maps.
fn settings(host: &Host, results: &mut Results) -> Option<Vec<Setting>> {
    if host.maps().is_empty() {
        return None;
    }
    match host.multipath_settings() {
        Ok(settings) => Some(settings),
        Err(reason) => {
            results.skip(reason);
            None
        }
    }
}

/// Returns a change of the configuration.
fn configure(section: &str, line: &str) -> Vec<Line> {
    vec![
        Line::comment("/etc/multipath.conf:"),
        Line::comment(format!("{section} {{")),
        Line::comment(format!("    {line}")),
        Line::comment("}"),
        Line::command(RECONFIGURE),
    ]
}

/// Returns the subject of a finding about maps. A machine with another disk is not concerned.
fn maps_subject(host: &Host) -> Subject {
    Subject {
        vms: Vec::new(),
        disks: host.maps().iter().map(BlockDevice::node).collect(),
    }
}

fn names(maps: &[BlockDevice]) -> String {
    let names: Vec<_> = maps.iter().map(BlockDevice::node).collect();
    names.join(", ")
}

fn multipathd_missing(host: &Host, results: &mut Results) {
    let maps = host.maps();
    if maps.is_empty() || !host.processes("multipathd").is_empty() {
        return;
    }
    let fault = Fault {
        what: format!(
            "multipathd does not run, and the host has maps: {}",
            names(&maps)
        ),
        evidence: "/proc: no process with the name multipathd".to_owned(),
        fix: vec![Line::command("systemctl enable --now multipathd.service")],
    };
    results.add(maps_subject(host), fault);
}

fn reservation_key_missing(host: &Host, results: &mut Results) {
    let Some(settings) = settings(host, results) else {
        return;
    };
    if settings.iter().any(|one| one.name == "reservation_key") {
        return;
    }
    let fault = Fault {
        what: "multipathd has no reservation_key, so it does not store keys".to_owned(),
        evidence: "/etc/multipath.conf: no reservation_key".to_owned(),
        fix: configure("defaults", "reservation_key file"),
    };
    results.add(maps_subject(host), fault);
}

fn reservation_key_fixed(host: &Host, results: &mut Results) {
    for setting in settings(host, results).into_iter().flatten() {
        if setting.name == "reservation_key" && setting.value != "file" {
            let fault = Fault {
                what: format!("multipathd has the fixed reservation_key {}", setting.value),
                evidence: setting.evidence(),
                fix: configure(&setting.section, "reservation_key file"),
            };
            results.add(maps_subject(host), fault);
        }
    }
}

fn prkeys_read_only(host: &Host, results: &mut Results) {
    let Some(settings) = settings(host, results) else {
        return;
    };
    let mut files = settings.iter().filter(|one| one.name == "prkeys_file");
    let file = files.next_back().map_or(PRKEYS_FILE, |one| &one.value);
    // The mounts are those of multipathd, which writes the file.
    for pid in host.processes("multipathd") {
        let path = format!("/proc/{pid}/mountinfo");
        let Ok(Some(mounts)) = host.read(&path) else {
            results.skip(format!("cannot read {path}"));
            continue;
        };
        let Some((mount_point, options)) = mount_of(&mounts, file) else {
            continue;
        };
        if options.split(',').any(|option| option == "ro") {
            let fault = Fault {
                what: format!("multipathd cannot write {file}: the file system is read-only"),
                evidence: format!("{path}: {mount_point} {options}"),
                fix: vec![Line::command("mount -o remount,rw").value(mount_path(mount_point))],
            };
            results.add(maps_subject(host), fault);
        }
    }
}

/// Returns the mount point of a file and the options of the mount.
fn mount_of<'a>(mounts: &'a str, file: &str) -> Option<(&'a str, &'a str)> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(4);
        Some((fields.next()?, fields.next()?))
    });
    let contains = |(point, _): &(&str, &str)| {
        let rest = file.strip_prefix(point.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.starts_with('/'))
    };
    // A later mount covers an earlier one at the same point.
    mounts.filter(contains).max_by_key(|(point, _)| point.len())
}

fn multipathd_old(host: &Host, results: &mut Results) {
    if host.maps().is_empty() || host.processes("multipathd").is_empty() {
        return;
    }
    let help = match host.run("multipathd", &["help"]) {
        Ok(help) => help,
        Err(reason) => return results.skip(reason),
    };
    let Some(version) = version(&help) else {
        return results.skip("multipathd has sent no version");
    };
    if version < FENCING_VERSION {
        let [major, minor, patch] = version;
        let fault = Fault {
            what: format!("multipathd has version {major}.{minor}.{patch}, older than 0.13.1"),
            evidence: format!("multipathd help: multipath-tools v{major}.{minor}.{patch}"),
            fix: vec![
                Line::comment(
                    "Update multipath-tools to 0.13.1 or later. Until then, check after fencing, \
                     when paths have returned, that the key is gone:",
                ),
                Line::command("prhctl status DISK"),
            ],
        };
        results.add(maps_subject(host), fault);
    }
}

/// Returns the version at the beginning of multipathd's page of help.
fn version(help: &str) -> Option<[u32; 3]> {
    let (_, rest) = help.split_once("multipath-tools v")?;
    let mut numbers = rest.split_whitespace().next()?.split('.');
    let mut next = || numbers.next()?.parse().ok();
    Some([next()?, next()?, next()?])
}

fn path_checker_directio(host: &Host, results: &mut Results) {
    let maps = host.maps();
    if maps.is_empty() || host.processes("multipathd").is_empty() {
        return;
    }
    let paths = match host.run("multipathd", &["show", "paths", "format", "%d %c"]) {
        Ok(paths) => paths,
        Err(reason) => return results.skip(reason),
    };
    for map in maps {
        let names: Vec<_> = map.lower_devices().iter().map(BlockDevice::name).collect();
        let directio = paths.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next()?;
            let is_path = names.iter().any(|path| path == name);
            (is_path && words.next() == Some("directio")).then_some(name)
        });
        let directio: Vec<_> = directio.collect();
        if directio.is_empty() {
            continue;
        }
        let fault = Fault {
            what: format!(
                "multipathd checks {} of {} by reading",
                directio.join(", "),
                map.node()
            ),
            evidence: "multipathd show paths format '%d %c': directio".to_owned(),
            fix: configure("overrides", "path_checker tur"),
        };
        let disks = vec![map.node()];
        results.add(
            Subject {
                vms: Vec::new(),
                disks,
            },
            fault,
        );
    }
}

fn queue_without_paths(host: &Host, results: &mut Results) {
    for setting in settings(host, results).into_iter().flatten() {
        let queues = match setting.name.as_str() {
            "no_path_retry" => setting.value == "queue",
            "features" => setting.value.contains("queue_if_no_path"),
            _ => false,
        };
        if queues {
            let fault = Fault {
                what: "maps keep requests while they have no path".to_owned(),
                evidence: setting.evidence(),
                fix: configure(&setting.section, "no_path_retry 12"),
            };
            results.add(maps_subject(host), fault);
        }
    }
}

fn alua_handler_missing(host: &Host, results: &mut Results) {
    for map in host.maps() {
        for path in map.lower_devices() {
            let dir = host.path(format!("/sys/class/block/{}/device", path.name()));
            // TPGS, the support of asymmetric access, in the standard INQUIRY data (SPC-4, 6.6.2).
            let inquiry = fs::read(dir.join("inquiry")).unwrap_or_default();
            let has_alua = inquiry.get(5).is_some_and(|byte| byte & 0x30 != 0);
            let handler = fs::read_to_string(dir.join("dh_state")).unwrap_or_default();
            if has_alua && handler.trim() == "detached" {
                let fault = Fault {
                    what: format!(
                        "{}, a path of {}, has asymmetric access, and no handler for it",
                        path.name(),
                        map.node()
                    ),
                    evidence: format!("/sys/block/{}/device/dh_state: detached", path.name()),
                    fix: vec![
                        Line::command("modprobe scsi_dh_alua"),
                        Line::command("echo alua >")
                            .value(format!("/sys/block/{}/device/dh_state", path.name())),
                    ],
                };
                let disks = vec![map.node()];
                results.add(
                    Subject {
                        vms: Vec::new(),
                        disks,
                    },
                    fault,
                );
            }
        }
    }
}
