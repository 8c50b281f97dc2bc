// SPDX-License-Identifier: MIT OR Apache-2.0

//! Checks of the processes of helpers.

use linux_util::procfs::status_value;

use super::read;
use crate::commands::doctor::finding::Severity::{Problem, Warning};
use crate::commands::doctor::finding::{Check, Fault, Results};
use crate::commands::doctor::fix::Line;
use crate::commands::doctor::host::{CAP_SYS_RAWIO, Host, is_own};
use crate::state::HelperState;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "rawio-missing",
        severity: Problem,
        consequence: "The kernel rejects the helper's commands, and guests get ABORTED COMMAND.",
        run: rawio_missing,
    },
    Check {
        id: "no-multipath-support",
        severity: Problem,
        consequence: "A registration reaches one path of the map only, and during a reservation \
                      writes through the other paths fail.",
        run: no_multipath_support,
    },
    Check {
        id: "excess-capabilities",
        severity: Warning,
        consequence: "A guest that takes over the helper gets these capabilities.",
        run: excess_capabilities,
    },
    Check {
        id: "sandbox-off",
        severity: Warning,
        consequence: "A guest that takes over the helper can use all system calls.",
        run: sandbox_off,
    },
    Check {
        id: "few-descriptors",
        severity: Warning,
        consequence: "The helper stops accepting virtual machines when a quarter of its \
                      descriptors are connections.",
        run: few_descriptors,
    },
    Check {
        id: "limit-reached",
        severity: Warning,
        consequence: "Connections were rejected or delayed, or commands were answered with BUSY.",
        run: limit_reached,
    },
];

/// The number of descriptors below which a warning is given; the usual soft limit.
const MIN_DESCRIPTORS: u64 = 1024;

const RESTART: &str = "systemctl restart qemu-pr-helper.service";

/// Returns the change of a helper's options, and its restart.
fn change(host: &Host, helper: &HelperState, options: &str) -> Vec<Line> {
    match host.is_of_unit(helper) {
        true => vec![
            Line::command("systemctl edit --full qemu-pr-helper.service").note(options),
            Line::command(RESTART),
        ],
        false => vec![
            Line::comment(format!("Change the start of the helper: {options}.")),
            restart(host, helper),
        ],
    }
}

/// Returns the restart of a helper.
fn restart(host: &Host, helper: &HelperState) -> Line {
    match host.is_of_unit(helper) {
        true => Line::command(RESTART),
        false => Line::comment(format!(
            "The {} is not of the unit: start it again where it was started, with libvirt by a \
             start of the virtual machine.",
            helper.process
        )),
    }
}

/// Returns the names of capabilities, or their numbers.
fn names(mask: u64) -> String {
    let name = |bit: u32| match bit {
        0 => "CAP_CHOWN".to_owned(),
        1 => "CAP_DAC_OVERRIDE".to_owned(),
        2 => "CAP_DAC_READ_SEARCH".to_owned(),
        6 => "CAP_SETGID".to_owned(),
        7 => "CAP_SETUID".to_owned(),
        12 => "CAP_NET_ADMIN".to_owned(),
        17 => "CAP_SYS_RAWIO".to_owned(),
        19 => "CAP_SYS_PTRACE".to_owned(),
        21 => "CAP_SYS_ADMIN".to_owned(),
        bit => format!("number {bit}"),
    };
    let bits = (0..64).filter(|bit| mask & (1 << bit) != 0);
    let names: Vec<_> = bits.map(name).collect();
    match names.len() {
        0..=4 => names.join(", "),
        count => format!("{count} capabilities"),
    }
}

/// Calls `check` with each helper and a mask of its capabilities.
fn with_capabilities(
    host: &Host,
    results: &mut Results,
    name: &str,
    check: impl Fn(&HelperState, u64) -> Option<Fault>,
) {
    for helper in &host.helpers.0 {
        let pid = helper.process.pid;
        match host.capabilities(pid, name) {
            Some(mask) => {
                if let Some(fault) = check(helper, mask) {
                    results.add(host.subject_of(helper), fault);
                }
            }
            None => results.skip(format!("cannot read {name} in /proc/{pid}/status")),
        }
    }
}

fn rawio_missing(host: &Host, results: &mut Results) {
    with_capabilities(host, results, "CapEff", |helper, mask| {
        (mask & CAP_SYS_RAWIO == 0).then(|| Fault {
            what: format!("{} lacks CAP_SYS_RAWIO", helper.process),
            evidence: format!("/proc/{}/status: CapEff: {mask:016x}", helper.process.pid),
            fix: vec![
                Line::comment(
                    "Start the helper as root. In a container, add the capability SYS_RAWIO.",
                ),
                restart(host, helper),
            ],
        })
    });
}

fn excess_capabilities(host: &Host, results: &mut Results) {
    with_capabilities(host, results, "CapPrm", |helper, mask| {
        let excess = mask & !CAP_SYS_RAWIO;
        (excess != 0).then(|| Fault {
            what: format!(
                "{} has more capabilities than it needs: {}",
                helper.process,
                names(excess)
            ),
            evidence: format!("/proc/{}/status: CapPrm: {mask:016x}", helper.process.pid),
            fix: match is_own(&helper.process) {
                true => vec![restart(host, helper)],
                false => install(),
            },
        })
    });
}

/// Returns the replacement of QEMU's own helper.
fn install() -> Vec<Line> {
    vec![
        Line::command("apt install ./qemu-pr-helper-rs_*.deb").note("Debian"),
        Line::command("dnf swap qemu-pr-helper ./qemu-pr-helper-rs-*.rpm").note("Fedora"),
        Line::comment("Then restart the helper, or with libvirt the virtual machine."),
    ]
}

fn no_multipath_support(host: &Host, results: &mut Results) {
    for helper in &host.helpers.0 {
        if is_own(&helper.process) {
            continue;
        }
        let users = host.vms_of(helper);
        let disks = host.guest_disks();
        let mut maps = disks
            .iter()
            .filter(|disk| disk.is_map() && disk.disk.has_helper());
        // Without the sockets of the helper, each machine can be one that uses it.
        let Some(disk) = maps.find(|disk| users.is_empty() || users.contains(&disk.vm.name)) else {
            continue;
        };
        let path = format!("/proc/{}/maps", helper.process.pid);
        let Some(maps) = read(host, results, &path) else {
            continue;
        };
        if !maps.contains("libmpathpersist") {
            let fault = Fault {
                what: format!(
                    "{} is QEMU's own without multipath support, and {} has the map {}",
                    helper.process, disk.vm.name, disk.node
                ),
                evidence: format!("{path}: no libmpathpersist"),
                fix: install(),
            };
            results.add(disk.subject(), fault);
        }
    }
}

fn sandbox_off(host: &Host, results: &mut Results) {
    for helper in host.helpers.0.iter().filter(|one| is_own(&one.process)) {
        let pid = helper.process.pid;
        match status_value(&helper.process.dir, "Seccomp").as_deref() {
            Some("0") => {
                let fault = Fault {
                    what: format!("{} runs without its sandbox", helper.process),
                    evidence: format!("/proc/{pid}/status: Seccomp: 0"),
                    fix: change(host, helper, "remove --sandbox=off"),
                };
                results.add(host.subject_of(helper), fault);
            }
            Some(_) => {}
            None => results.skip(format!("cannot read Seccomp in /proc/{pid}/status")),
        }
    }
}

fn few_descriptors(host: &Host, results: &mut Results) {
    for helper in &host.helpers.0 {
        let path = format!("/proc/{}/limits", helper.process.pid);
        let Some(limits) = read(host, results, &path) else {
            continue;
        };
        let mut lines = limits.lines();
        let Some(line) = lines.find(|line| line.starts_with("Max open files")) else {
            continue;
        };
        let soft = line.split_whitespace().nth(3);
        let is_low = soft.and_then(|soft| soft.parse::<u64>().ok());
        if is_low.is_some_and(|limit| limit < MIN_DESCRIPTORS) {
            let fault = Fault {
                what: format!(
                    "{} may open {} files only",
                    helper.process,
                    soft.unwrap_or_default()
                ),
                evidence: format!("{path}: {}", line.trim()),
                fix: match host.is_of_unit(helper) {
                    true => vec![
                        Line::command("systemctl edit qemu-pr-helper.service"),
                        Line::comment("[Service]"),
                        Line::comment("LimitNOFILE=65536"),
                        Line::command(RESTART),
                    ],
                    false => change(host, helper, "raise the limit: ulimit -n 65536"),
                },
            };
            results.add(host.subject_of(helper), fault);
        }
    }
}

fn limit_reached(host: &Host, results: &mut Results) {
    for helper in &host.helpers.0 {
        let Ok(state) = &helper.state else {
            if is_own(&helper.process) {
                results.skip(format!("cannot read the state of the {}", helper.process));
            }
            continue;
        };
        let limits = state.limits;
        let reached = [
            (
                "rejected_connections",
                limits.rejected_connections,
                "--max-clients-per-process",
            ),
            (
                "accept_pauses",
                limits.accept_pauses,
                "--max-clients, LimitNOFILE=",
            ),
            (
                "busy_devices",
                limits.busy_devices,
                "--max-commands-per-device",
            ),
            ("busy_threads", limits.busy_threads, "TasksMax=, MemoryMax="),
        ];
        for (name, count, setting) in reached {
            if count > 0 {
                let fault = Fault {
                    what: format!("{} has reached a limit {count} times", helper.process),
                    evidence: format!("state of the helper: {name} = {count}"),
                    fix: change(host, helper, &format!("raise {setting}")),
                };
                results.add(host.subject_of(helper), fault);
            }
        }
    }
}
