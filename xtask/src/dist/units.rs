//! The units for systemd, as systemd itself judges them where it is installed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use qemu_pr_helper::sandbox::syscalls;

use crate::process;

const SOCKET: &str = include_str!("../../../dist/systemd/qemu-pr-helper.socket");
const SERVICE: &str = include_str!("../../../dist/systemd/qemu-pr-helper.service");
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../dist/systemd");

/// What `systemd-analyze security` may say at most, in tenths; docs/security.md has what it says.
const EXPOSURE: &str = "22";

/// `systemd-analyze`, if there is one that knows `security --offline` (systemd 250).
fn analyze() -> Option<Command> {
    let program = process::find("systemd-analyze")?;
    let version = process::text(Command::new(&program).arg("--version")).ok()?;
    let version: u32 = version.split_whitespace().nth(1)?.parse().ok()?;
    if version < 250 {
        println!("skipped: systemd {version}");
        return None;
    }
    Some(Command::new(program))
}

#[test]
fn systemd_takes_every_line() {
    let Some(mut analyze) = analyze() else {
        return println!("skipped: no systemd-analyze");
    };
    // Where the program is not installed, its path is no mistake of the unit's.
    let folder = tempfile::tempdir().unwrap();
    let service = SERVICE.replace("/usr/bin/qemu-pr-helper", "/bin/true");
    let units = [("socket", SOCKET), ("service", &service)].map(|(kind, text)| {
        let path = folder.path().join(format!("qemu-pr-helper.{kind}"));
        fs::write(&path, text).unwrap();
        path
    });
    let output = analyze.args(["verify", "--man=no"]).args(units);
    let output = output.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<_> = said
        .lines()
        .filter(|line| line.contains("qemu-pr-helper"))
        .collect();
    assert!(said.is_empty() && output.status.success(), "{said:#?}");
}

#[test]
fn the_service_is_no_more_exposed_than_the_documents_say() {
    let Some(mut analyze) = analyze() else {
        return println!("skipped: no systemd-analyze");
    };
    analyze.args(["security", "--offline=true", "--no-pager"]);
    analyze.arg(format!("--threshold={EXPOSURE}"));
    analyze.arg(Path::new(FOLDER).join("qemu-pr-helper.service"));
    process::output(&mut analyze).unwrap();
    let (whole, tenths) = EXPOSURE.split_at(1);
    let words = format!("exposure level {whole}.{tenths}");
    assert!(include_str!("../../../docs/security.md").contains(&words));
}

/// Sets of system calls that the service may make, expanded by systemd.
fn allowed(analyze: &Path) -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for filter in SERVICE
        .lines()
        .filter_map(|line| line.strip_prefix("SystemCallFilter="))
    {
        let (names, is_taken) = match filter.strip_prefix('~') {
            Some(names) => (names, true),
            None => (filter, false),
        };
        for name in names
            .split_whitespace()
            .flat_map(|name| members(analyze, name))
        {
            if is_taken {
                allowed.remove(&name);
            } else {
                allowed.insert(name);
            }
        }
    }
    allowed
}

/// A set's calls, those of sets in it too; a name that is no set is a call.
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
fn the_helper_may_make_its_system_calls() {
    let Some(analyze) = analyze() else {
        return println!("skipped: no systemd-analyze");
    };
    let allowed = allowed(Path::new(analyze.get_program()));
    let listed = [syscalls::BASE, syscalls::LEGACY, syscalls::SOFT_LUNS].concat();
    let names = listed.iter().map(|call| call.name);
    let missing: Vec<_> = names.filter(|name| !allowed.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Creates the account below a directory of its own, as the packages do on the host.
#[test]
fn sysusers_creates_the_account() {
    let Some(program) = process::find("systemd-sysusers") else {
        return println!("skipped: no systemd-sysusers");
    };
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let mut sysusers = Command::new(program);
    sysusers.arg(format!("--root={}", root.path().display()));
    sysusers.arg(Path::new(FOLDER).join("../sysusers/qemu-pr-helper.conf"));
    process::output(&mut sysusers).unwrap();
    let passwd = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    let name = format!("{}:", qemu_pr_helper::process::privileges::DEFAULT_ACCOUNT);
    let line = passwd.lines().find(|line| line.starts_with(&name));
    assert!(line.unwrap().ends_with(":/:/usr/sbin/nologin"), "{passwd}");
    let user = SERVICE.lines().find_map(|line| line.split_once(" -u "));
    assert_eq!(
        user.unwrap().1,
        qemu_pr_helper::process::privileges::DEFAULT_ACCOUNT
    );
}

#[test]
fn apparmor_takes_the_profile() {
    if process::find("apparmor_parser").is_none() {
        return println!("skipped: no apparmor_parser");
    }
    let mut parser = process::command("apparmor_parser");
    parser.args(["--skip-kernel-load", "--skip-cache"]);
    parser.arg(Path::new(FOLDER).join("../apparmor/qemu-pr-helper"));
    process::output(&mut parser).unwrap();
}
