// SPDX-License-Identifier: MIT OR Apache-2.0

//! Completions that bash, fish and zsh offer.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use clap_complete::Shell as ScriptShell;
use pr_testkit::namespace::mount_namespace;
use pr_testkit::shells::{Completion, Line, Shell};

use crate::support::{Run, prhctl as prhctl_command};

const LINES: &[Line<'_>] = &[
    ("prhctl stat", &["status"], &["file"]),
    (
        "prhctl ",
        &["list", "keys", "completion"],
        &["file", "--json"],
    ),
    ("prhctl reserve d --type ", &TYPES, &["file", "--key", "1"]),
    (
        "prhctl reserve d --type we",
        &["we", "we-ro", "we-ar"],
        &["ea"],
    ),
    (
        "prhctl reserve d --type=ea",
        &["ea", "ea-ro", "ea-ar"],
        &["we"],
    ),
    ("prhctl preempt d --victim 1 --type ", &TYPES, &["file"]),
    ("prhctl release d --type ", &TYPES, &["file"]),
    ("prhctl lun create d --types ", &TYPES, &["file"]),
    (
        "prhctl lun create d --types we,ea-",
        &["ea-ro", "ea-ar"],
        &["we", "ea"],
    ),
    (
        "prhctl lun create d --without ",
        &["aptpl", "spec-i-pt", "all-tg-pt"],
        &["file"],
    ),
    (
        "prhctl decode --service-action ",
        &["reserve", "preempt-and-abort"],
        &["file"],
    ),
    ("prhctl completion ", &["bash", "fish", "zsh"], &["file"]),
    ("prhctl --color ", &["auto", "always", "never"], &["file"]),
    ("prhctl reserve d --key ", &[], &["file", "dir"]),
    ("prhctl register d --old-key ", &[], &["file", "dir"]),
    ("prhctl preempt d --victim ", &[], &["file", "dir"]),
    ("prhctl move d --to ", &[], &["file", "dir"]),
    ("prhctl --timeout ", &[], &["file", "dir"]),
    ("prhctl decode ", &[], &["file", "dir"]),
    ("prhctl -k ", &["file", "socket", "dir"], &[]),
    ("prhctl lun show ", &["dir"], &["file"]),
    ("prhctl status ", &["file", "dir"], &["--json"]),
    ("prhctl status fi", &["file"], &["dir"]),
    ("prhctl status dir/", &["dir/port"], &["file"]),
    ("prhctl status --ti", &["--timeout"], &["file", "--json"]),
];

const TYPES: [&str; 6] = ["we", "ea", "we-ro", "ea-ro", "we-ar", "ea-ar"];

/// A directory with files, in which shells complete command lines.
struct TestDir(tempfile::TempDir);

impl TestDir {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        fs::create_dir(dir.path().join("dir")).unwrap();
        fs::write(dir.path().join("dir/port"), "").unwrap();
        std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        TestDir(dir)
    }

    #[track_caller]
    fn check(&self, shell: Shell, wrapper: &[String], line: &Line<'_>) {
        let script = match shell {
            Shell::Bash => ScriptShell::Bash,
            Shell::Fish => ScriptShell::Fish,
            Shell::Zsh => ScriptShell::Zsh,
        };
        let completion = Completion {
            shell,
            program: "prhctl",
            script: &prhctl::completion_script(script),
            dir: self.0.path(),
            bin: Path::new(env!("CARGO_BIN_EXE_prhctl")).parent().unwrap(),
            wrapper,
        };
        completion.check(line);
    }
}

/// Replaces /dev and /sys/block by directories of the test.
pub(crate) const MOUNT: &str = "\
mount --bind /dev/null dev/null
mount --bind /dev/tty dev/tty
mount --rbind /dev/pts dev/pts
mount --rbind dev /dev
mount --bind sys /sys/block";

/// Creates a SCSI disk with a persistent name that contains a colon, its partition, a map with two
/// paths, and a disk that is not a SCSI disk.
fn create_devices(dir: &Path) {
    for name in ["dev/pts", "dev/disk/by-id", "dev/mapper"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    for name in [
        "null",
        "tty",
        "sda",
        "sdb",
        "sdc",
        "dm-0",
        "nvme0n1",
        "mapper/control",
    ] {
        fs::write(dir.join("dev").join(name), "").unwrap();
    }
    symlink("pts/ptmx", dir.join("dev/ptmx")).unwrap();
    symlink("/proc/self/fd", dir.join("dev/fd")).unwrap();
    symlink("../dm-0", dir.join("dev/mapper/mpatha")).unwrap();
    for (link, target) in [
        ("scsi-0:1", "sda"),
        ("scsi-0:1-part1", "sda1"),
        ("wwn-0x5", "sdb"),
        ("dm-uuid-mpath-5", "dm-0"),
        ("nvme-eui.1", "nvme0n1"),
    ] {
        let link = dir.join("dev/disk/by-id").join(link);
        symlink(format!("../../{target}"), link).unwrap();
    }
    for disk in ["sda", "sdb", "sdc"] {
        let device = dir.join("sys").join(disk).join("device");
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("type"), "0\n").unwrap();
        fs::write(device.join("vendor"), "LIO-ORG\n").unwrap();
    }
    let map = dir.join("sys/dm-0");
    for name in ["dm", "slaves"] {
        fs::create_dir_all(map.join(name)).unwrap();
    }
    fs::write(map.join("dm/name"), "mpatha\n").unwrap();
    fs::write(map.join("dm/uuid"), "mpath-5\n").unwrap();
    for path in ["sdb", "sdc"] {
        let path = dir.join("sys").join(path);
        symlink(&path, map.join("slaves").join(path.file_name().unwrap())).unwrap();
        fs::create_dir(path.join("holders")).unwrap();
        symlink(&map, path.join("holders/dm-0")).unwrap();
    }
    fs::create_dir_all(dir.join("sys/nvme0n1/device")).unwrap();
}

#[test]
fn shells_offer_disks_and_maps() {
    let dir = TestDir::new();
    create_devices(dir.0.path());
    let Some(wrapper) = mount_namespace(MOUNT) else {
        return;
    };
    let by_id = |name: &str| format!("/dev/disk/by-id/{name}");
    let (disk, map) = (by_id("scsi-0:1"), by_id("dm-uuid-mpath-5"));
    let (path, nvme, part) = (
        by_id("wwn-0x5"),
        by_id("nvme-eui.1"),
        by_id("scsi-0:1-part1"),
    );
    let wanted = [disk.as_str(), "/dev/sda", &map, "/dev/mapper/mpatha"];
    let unwanted = [
        &path,
        &nvme,
        &part,
        "/dev/sdb",
        "/dev/nvme0n1",
        "file",
        "--json",
    ];
    for shell in Shell::ALL {
        if !shell.is_installed() {
            continue;
        }
        for line in [
            "prhctl status ",
            "prhctl status file ",
            "prhctl reserve --key 1 ",
        ] {
            dir.check(shell, &wrapper, &(line, &wanted, &unwanted));
        }
        let line = "prhctl status /dev/disk/by-id/scsi-0:";
        dir.check(shell, &wrapper, &(line, &[&disk], &[&map]));
        // Any device can be named.
        let line = "prhctl status /dev/nvm";
        dir.check(shell, &wrapper, &(line, &["/dev/nvme0n1"], &["/dev/sda"]));
    }
}

fn check_lines(shell: Shell) {
    if !shell.is_installed() {
        return;
    }
    let dir = TestDir::new();
    for line in LINES {
        dir.check(shell, &[], line);
    }
}

#[test]
fn bash_offers_values() {
    check_lines(Shell::Bash);
}

#[test]
fn fish_offers_values() {
    check_lines(Shell::Fish);
}

#[test]
fn zsh_offers_values() {
    check_lines(Shell::Zsh);
}

/// Every visible option and subcommand is offered.
#[test]
fn options_and_subcommands_are_offered() {
    let dir = tempfile::tempdir().unwrap();
    let mut commands = vec![(prhctl::command_line(), "prhctl".to_owned())];
    let mut options = 0;
    while let Some((mut command, line)) = commands.pop() {
        command.build();
        let offered = |word: &str| {
            let words = ["--", &line, word].join(" ");
            let mut prhctl = prhctl_command(dir.path(), &words);
            Run::new(prhctl.env("PRHCTL_COMPLETE", "fish"), "").success()
        };
        let has = |text: &str, name: &str| {
            text.lines()
                .any(|line| line.split('\t').next() == Some(name))
        };
        let text = offered("--");
        for option in command
            .get_arguments()
            .filter_map(|argument| argument.get_long())
        {
            assert!(
                has(&text, &format!("--{option}")),
                "{line} --{option}: {text}"
            );
            options += 1;
        }
        let text = offered("");
        for inner in command
            .get_subcommands()
            .filter(|command| command.get_name() != "help")
        {
            assert!(has(&text, inner.get_name()), "{line} {inner}: {text}");
            commands.push((inner.clone(), format!("{line} {inner}")));
        }
    }
    assert!(options > 100, "{options}");
}

#[test]
fn unknown_shell_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut prhctl = prhctl_command(dir.path(), "-- prhctl st");
    let run = Run::new(prhctl.env("PRHCTL_COMPLETE", "csh"), "");
    run.expect_failure(1, &["prhctl: unknown shell `csh`"]);
}
