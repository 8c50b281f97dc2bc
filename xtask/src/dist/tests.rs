//! Both packages as the distributions' own tools read them, where they are installed.

use std::collections::BTreeSet;
use std::path::Path;

use super::contents::File;
use super::*;
use crate::process;

const MAINTAINER: &str = "Somebody <somebody@example.com>";
const EDITION: Edition = Edition {
    time: 1_772_323_199,
};

/// What packages have in them, with programs that are none.
fn files(family: Family) -> Vec<File> {
    let folder = tempfile::tempdir().unwrap();
    let program = |name| {
        let path = folder.path().join(name);
        fs::write(&path, b"\0GLIBC_2.34\0").unwrap();
        path
    };
    let programs = Installed {
        helper: program("qemu-pr-helper"),
        prhctl: program("prhctl"),
    };
    contents::files(&programs, &EDITION, family, MAINTAINER).unwrap()
}

/// What a tool prints of a package, or `None` if there is no such tool.
fn printed(tool: &str, options: &[&str], package: &Path) -> Option<String> {
    if process::find(tool).is_none() {
        println!("skipped: no {tool}");
        return None;
    }
    Some(process::text(process::command(tool).args(options).arg(package)).unwrap())
}

fn paths(files: &[File]) -> BTreeSet<String> {
    files.iter().map(|file| file.path.clone()).collect()
}

#[test]
fn packages_have_what_an_administrator_looks_for() {
    for family in [Family::Debian, Family::Fedora] {
        let files = files(family);
        let paths = paths(&files);
        for path in [
            "/etc/apparmor.d/qemu-pr-helper",
            "/usr/bin/prhctl",
            "/usr/bin/qemu-pr-helper",
            "/usr/lib/systemd/system/qemu-pr-helper.service",
            "/usr/lib/systemd/system/qemu-pr-helper.socket",
            "/usr/lib/sysusers.d/qemu-pr-helper.conf",
            "/usr/share/bash-completion/completions/prhctl",
            "/usr/share/doc/qemu-pr-helper-rs/LICENSE-APACHE",
            "/usr/share/doc/qemu-pr-helper-rs/README.md",
            "/usr/share/doc/qemu-pr-helper-rs/copyright",
            "/usr/share/doc/qemu-pr-helper-rs/docs/multipath.md",
            "/usr/share/fish/vendor_completions.d/qemu-pr-helper.fish",
            "/usr/share/man/man1/prhctl-status.1.gz",
            "/usr/share/man/man8/qemu-pr-helper.8.gz",
        ] {
            assert!(paths.contains(path), "{path}");
        }
        assert_eq!(paths.len(), files.len());
        let licences = paths
            .iter()
            .filter(|path| path.contains("/licenses/landlock-"));
        assert!(licences.count() > 0);
    }
}

#[test]
fn dpkg_finds_the_files_in_the_package() {
    let files = files(Family::Debian);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("package.deb");
    let package = deb::package(&files, &EDITION, MAINTAINER).unwrap();
    assert_eq!(package, deb::package(&files, &EDITION, MAINTAINER).unwrap());
    write(&path, &package).unwrap();
    let Some(listing) = printed("dpkg-deb", &["--contents"], &path) else {
        return;
    };
    let listed = listing.lines().filter(|line| line.starts_with('-'));
    let listed: BTreeSet<_> = listed
        .map(|line| {
            assert!(line.contains(" root/root "), "{line}");
            format!(
                "/{}",
                line.split_whitespace()
                    .last()
                    .unwrap()
                    .trim_start_matches("./")
            )
        })
        .collect();
    assert_eq!(listed, paths(&files));
    assert!(
        listing.contains("-rwxr-xr-x root/root        12 2026-02-28"),
        "{listing}"
    );
    let control = printed("dpkg-deb", &["--field"], &path).unwrap();
    for line in [
        "Package: qemu-pr-helper-rs",
        "Maintainer: Somebody <somebody@example.com>",
        "Depends: libc6 (>= 2.34), libgcc-s1, passwd",
    ] {
        assert!(control.lines().any(|other| other == line), "{control}");
    }
    assert!(!control.contains('%'), "{control}");
}

#[test]
fn rpm_finds_the_files_in_the_package() {
    let files = files(Family::Fedora);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("package.rpm");
    let package = rpm::package(&files, &EDITION, MAINTAINER).unwrap();
    assert_eq!(package, rpm::package(&files, &EDITION, MAINTAINER).unwrap());
    write(&path, &package).unwrap();
    let Some(listing) = printed("rpm", &["-qpl"], &path) else {
        return;
    };
    let listed: BTreeSet<_> = listing.lines().map(str::to_owned).collect();
    let missing: Vec<_> = paths(&files).difference(&listed).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
    let configuration = printed("rpm", &["-qpc"], &path).unwrap();
    assert_eq!(configuration.trim(), "/etc/apparmor.d/qemu-pr-helper");
    assert_eq!(
        printed("rpm", &["-qp", "--conflicts"], &path)
            .unwrap()
            .trim(),
        "qemu-pr-helper"
    );
    let provided = printed("rpm", &["-qp", "--provides"], &path).unwrap();
    assert!(provided.contains("\nqemu-pr-helper = 0"), "{provided}");
    let needed = printed("rpm", &["-qp", "--requires"], &path).unwrap();
    assert!(needed.contains("libc.so.6(GLIBC_2.34)(64bit)"), "{needed}");
    printed("rpm", &["-K"], &path);
}

#[test]
fn scripts_are_ones_that_the_smallest_shell_takes() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../dist");
    for name in [
        "deb/preinst",
        "deb/postinst",
        "deb/prerm",
        "deb/postrm",
        "rpm/post",
        "rpm/preun",
        "rpm/postun",
    ] {
        process::output(
            process::command("sh")
                .arg("-n")
                .arg(Path::new(folder).join(name)),
        )
        .unwrap();
    }
}
