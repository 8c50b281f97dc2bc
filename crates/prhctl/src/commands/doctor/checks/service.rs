// SPDX-License-Identifier: MIT OR Apache-2.0

//! Checks of the helper's service, and of what the system denies the helper.

use crate::commands::doctor::finding::Severity::Problem;
use crate::commands::doctor::finding::{Check, Fault, Results};
use crate::commands::doctor::fix::Line;
use crate::commands::doctor::host::{DEFAULT_SOCKET, Host};
use crate::commands::doctor::subject::Subject;
use std::path::Path;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "helper-missing",
        severity: Problem,
        consequence: "No virtual machine can send reservation commands.",
        run: helper_missing,
    },
    Check {
        id: "unit-failed",
        severity: Problem,
        consequence: "Virtual machines that use the socket of the unit cannot send reservation \
                      commands.",
        run: unit_failed,
    },
    Check {
        id: "private-devices",
        severity: Problem,
        consequence: "The helper lacks CAP_SYS_RAWIO and the device nodes of paths, so commands \
                      fail.",
        run: private_devices,
    },
    Check {
        id: "access-denied",
        severity: Problem,
        consequence: "Commands fail, or the helper does not start, where AppArmor or SELinux \
                      denies the access.",
        run: access_denied,
    },
];

const SERVICE: &str = "qemu-pr-helper.service";
const SOCKET: &str = "qemu-pr-helper.socket";

fn helper_missing(host: &Host, results: &mut Results) {
    let is_expected = host.listening().contains(Path::new(DEFAULT_SOCKET));
    if !host.helpers.0.is_empty() || is_expected || host.has_managed_vm() {
        return;
    }
    let what = format!(
        "no helper runs, no process listens on {DEFAULT_SOCKET}, and libvirt starts no helper"
    );
    let fault = Fault {
        what,
        evidence: "/proc: no process with the name qemu-pr-helper; /proc/net/unix".to_owned(),
        fix: vec![Line::command("systemctl enable --now").value(SOCKET)],
    };
    results.add(Subject::host(), fault);
}

/// Asks systemd for properties of a unit, as lines.
fn show(host: &Host, results: &mut Results, properties: &str, unit: &str) -> Option<String> {
    if !host.exists("/run/systemd/system") {
        results.skip("systemd does not run, so the helper has no unit");
        return None;
    }
    match host.run("systemctl", &["show", "-p", properties, unit]) {
        Ok(lines) => Some(lines),
        Err(reason) => {
            results.skip(reason);
            None
        }
    }
}

fn unit_failed(host: &Host, results: &mut Results) {
    for unit in [SERVICE, SOCKET] {
        let Some(state) = show(host, results, "ActiveState,Result", unit) else {
            return;
        };
        let lines: Vec<_> = state.lines().collect();
        if lines.contains(&"ActiveState=failed") {
            let fault = Fault {
                what: format!("{unit} has failed"),
                evidence: format!("systemctl show {unit}: {}", lines.join(" ")),
                fix: vec![
                    Line::command("journalctl -n 20 -u")
                        .value(unit)
                        .note("the reason"),
                    Line::command("systemctl reset-failed")
                        .value(unit)
                        .and("systemctl restart")
                        .value(unit),
                ],
            };
            results.add(Subject::host(), fault);
        }
    }
}

fn private_devices(host: &Host, results: &mut Results) {
    let value = show(host, results, "PrivateDevices", SERVICE);
    if value.is_some_and(|line| line.trim() == "PrivateDevices=yes") {
        let fault = Fault {
            what: format!("{SERVICE} has PrivateDevices=yes"),
            evidence: format!("systemctl show {SERVICE}: PrivateDevices=yes"),
            fix: vec![
                Line::command("systemctl edit").value(SERVICE),
                Line::comment("[Service]"),
                Line::comment("PrivateDevices=no"),
                Line::command("systemctl restart").value(SERVICE),
            ],
        };
        results.add(Subject::host(), fault);
    }
}

/// Returns whether a denial is one of the helper: by its command, profile or type. A denial of
/// another program can name the helper's socket.
fn is_of_helper(line: &str) -> bool {
    const NAME: &str = "qemu-pr-helper";
    let value = |label: &str| {
        let (_, rest) = line.split_once(label)?;
        Some(rest.split(['"', ' ']).next().unwrap_or(rest))
    };
    let profile = value(" profile=\"").and_then(|profile| profile.rsplit('/').next());
    let context = value(" scontext=").and_then(|context| context.split(':').nth(2));
    value(" comm=\"") == Some(NAME)
        || profile == Some(NAME)
        || context.is_some_and(|kind| kind.contains("pr_helper"))
}

fn access_denied(host: &Host, results: &mut Results) {
    let journals = ["/run/log/journal", "/var/log/journal"];
    if !journals.iter().any(|dir| host.exists(dir)) {
        return results.skip("the host has no system journal");
    }
    let arguments = [
        "-q",
        "--no-pager",
        "--since=-1d",
        "--grep=qemu-pr-helper",
        "_TRANSPORT=kernel",
        "+",
        "_TRANSPORT=audit",
    ];
    let log = match host.run("journalctl", &arguments) {
        Ok(log) => log,
        Err(reason) => return results.skip(reason),
    };
    let app_armor = |line: &&str| line.contains("apparmor=\"DENIED\"");
    let se_linux = |line: &&str| line.contains("avc:") && line.contains("denied");
    let last = |is_denial: &dyn Fn(&&str) -> bool| {
        let denials = log
            .lines()
            .filter(|line| is_denial(line) && is_of_helper(line));
        denials.last()
    };
    let fixes = [
        (
            "AppArmor",
            last(&app_armor),
            vec![
                Line::comment(
                    "Add a rule for the denied file to /etc/apparmor.d/local/qemu-pr-helper",
                ),
                Line::command("apparmor_parser -r /etc/apparmor.d/qemu-pr-helper"),
            ],
        ),
        (
            "SELinux",
            last(&se_linux),
            vec![Line::command(
                "restorecon -v \"$(command -v qemu-pr-helper)\"",
            )],
        ),
    ];
    for (module, denial, fix) in fixes {
        if let Some(line) = denial {
            let fault = Fault {
                what: format!("{module} has denied the helper an access within a day"),
                evidence: format!("journalctl: {}", line.trim()),
                fix,
            };
            results.add(Subject::host(), fault);
        }
    }
}
