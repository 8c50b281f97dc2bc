// SPDX-License-Identifier: MIT OR Apache-2.0

//! The systemd units, the system account and the profile for `AppArmor`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use qemu_pr_helper::sandbox::syscalls;

use pr_testkit::process;

use super::tool;

const SOCKET: &str = include_str!("../../systemd/qemu-pr-helper.socket");
const SERVICE: &str = include_str!("../../systemd/qemu-pr-helper.service");
const EXPORTER: &str = include_str!("../../systemd/qemu-pr-helper-exporter.service");
const SYSTEMD_DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd");

/// Maximum exposure level of `systemd-analyze security` of each service, in tenths.
/// docs/security.md states the levels.
const EXPOSURES: [(&str, &str); 2] = [
    ("qemu-pr-helper.service", "22"),
    ("qemu-pr-helper-exporter.service", "14"),
];

/// Returns `systemd-analyze` if it is installed and supports `security --offline` (systemd 250).
fn analyze() -> Option<Command> {
    let analyze = tool("systemd-analyze")?;
    let version = process::text(Command::new(analyze.get_program()).arg("--version")).ok()?;
    let version: u32 = version.split_whitespace().nth(1)?.parse().ok()?;
    if version < 250 {
        pr_testkit::skip(&format!("systemd {version} is older than 250"));
        return None;
    }
    Some(analyze)
}

#[test]
fn systemd_verifies_the_units() {
    let Some(mut analyze) = analyze() else {
        return;
    };
    // A missing program is not an error of the unit.
    let dir = tempfile::tempdir().unwrap();
    let service = SERVICE.replace("/usr/bin/qemu-pr-helper", "/bin/true");
    let exporter = EXPORTER.replace("/usr/bin/prhctl", "/bin/true");
    let units = [
        (".socket", SOCKET),
        (".service", &service),
        ("-exporter.service", &exporter),
    ]
    .map(|(name, text)| {
        let path = dir.path().join(format!("qemu-pr-helper{name}"));
        fs::write(&path, text).unwrap();
        path
    });
    let output = analyze.args(["verify", "--man=no"]).args(units);
    let output = output.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stderr: Vec<_> = stderr
        .lines()
        .filter(|line| line.contains("qemu-pr-helper"))
        .collect();
    assert!(stderr.is_empty() && output.status.success(), "{stderr:#?}");
}

#[test]
fn exposure_of_services_is_as_documented() {
    for (service, exposure) in EXPOSURES {
        let Some(mut analyze) = analyze() else {
            return;
        };
        analyze.args(["security", "--offline=true", "--no-pager"]);
        analyze.arg(format!("--threshold={exposure}"));
        analyze.arg(Path::new(SYSTEMD_DIR).join(service));
        process::output(&mut analyze).unwrap();
        let (whole, tenths) = exposure.split_at(1);
        let level = format!("exposure level {whole}.{tenths}");
        assert!(include_str!("../../../docs/security.md").contains(&level));
    }
}

/// Returns the system calls that the service may make; systemd expands the sets.
fn allowed(analyze: &Path) -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for filter in SERVICE
        .lines()
        .filter_map(|line| line.strip_prefix("SystemCallFilter="))
    {
        let (names, is_denied) = match filter.strip_prefix('~') {
            Some(names) => (names, true),
            None => (filter, false),
        };
        for name in names
            .split_whitespace()
            .flat_map(|name| members(analyze, name))
        {
            if is_denied {
                allowed.remove(&name);
            } else {
                allowed.insert(name);
            }
        }
    }
    allowed
}

/// Returns the calls of a set and of the sets in it. A name without `@` is a call.
fn members(analyze: &Path, name: &str) -> Vec<String> {
    if !name.starts_with('@') {
        return vec![name.to_owned()];
    }
    let listing = process::text(Command::new(analyze).args(["syscall-filter", name])).unwrap();
    let names = listing.lines().skip(1).map(str::trim);
    names
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .flat_map(|name| members(analyze, name))
        .collect()
}

#[test]
fn service_allows_the_helpers_system_calls() {
    let Some(analyze) = analyze() else {
        return;
    };
    let allowed = allowed(Path::new(analyze.get_program()));
    let listed = [syscalls::BASE, syscalls::LEGACY, syscalls::SOFT_LUNS].concat();
    let names = listed.iter().map(|call| call.name);
    let missing: Vec<_> = names.filter(|name| !allowed.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Creates the account below a temporary root directory, with the tool that the packages use on the
/// host.
#[test]
fn sysusers_creates_the_account() {
    let Some(mut sysusers) = tool("systemd-sysusers") else {
        return;
    };
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    sysusers.arg(format!("--root={}", root.path().display()));
    sysusers.arg(Path::new(SYSTEMD_DIR).join("../sysusers/qemu-pr-helper.conf"));
    process::output(&mut sysusers).unwrap();
    let passwd = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    let name = format!("{}:", qemu_pr_helper::process::privileges::DEFAULT_ACCOUNT);
    let line = passwd.lines().find(|line| line.starts_with(&name));
    assert!(line.unwrap().ends_with(":/:/usr/sbin/nologin"), "{passwd}");
    let user = EXPORTER.lines().find_map(|line| line.strip_prefix("User="));
    assert_eq!(
        user.unwrap(),
        qemu_pr_helper::process::privileges::DEFAULT_ACCOUNT
    );
    let user = SERVICE.lines().find_map(|line| line.split_once(" -u "));
    assert_eq!(
        user.unwrap().1,
        qemu_pr_helper::process::privileges::DEFAULT_ACCOUNT
    );
}

#[test]
fn apparmor_parses_the_profile() {
    let Some(mut parser) = tool("apparmor_parser") else {
        return;
    };
    parser.args(["--skip-kernel-load", "--skip-cache"]);
    parser.arg(Path::new(SYSTEMD_DIR).join("../apparmor/qemu-pr-helper"));
    process::output(&mut parser).unwrap();
}
