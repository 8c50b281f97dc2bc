//! Tests that read both packages with the distributions' tools, if these are installed.

use std::collections::BTreeSet;
use std::path::Path;

use super::file::File;
use super::*;
use pr_testkit::process;

const MAINTAINER: &str = "Packager <packager@example.com>";
const SOURCE_DATE: SourceDate = SourceDate {
    time: 1_772_323_199,
};

/// Returns the files of a package with fake programs.
fn files(family: Family) -> Vec<File> {
    let dir = tempfile::tempdir().unwrap();
    let program = |name| {
        let path = dir.path().join(name);
        fs::write(&path, b"\0GLIBC_2.34\0").unwrap();
        path
    };
    let programs = Installed {
        helper: program("qemu-pr-helper"),
        prhctl: program("prhctl"),
    };
    package_files::files(&programs, &SOURCE_DATE, family, MAINTAINER).unwrap()
}

/// Returns the output of a tool for a package; `None` if the tool is not installed.
fn tool_output(tool: &str, options: &[&str], package: &Path) -> Option<String> {
    if process::find(tool).is_none() {
        println!("skipped: {tool} is not installed");
        return None;
    }
    Some(process::text(process::command(tool).args(options).arg(package)).unwrap())
}

fn paths(files: &[File]) -> BTreeSet<String> {
    files.iter().map(|file| file.path.clone()).collect()
}

#[test]
fn packages_have_the_main_files() {
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
        let licenses = paths
            .iter()
            .filter(|path| path.contains("/licenses/landlock-"));
        assert!(licenses.count() > 0);
    }
}

#[test]
fn dpkg_lists_the_files_of_the_package() {
    let files = files(Family::Debian);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("package.deb");
    let package = deb::package(&files, &SOURCE_DATE, MAINTAINER).unwrap();
    assert_eq!(
        package,
        deb::package(&files, &SOURCE_DATE, MAINTAINER).unwrap()
    );
    write(&path, &package).unwrap();
    let Some(listing) = tool_output("dpkg-deb", &["--contents"], &path) else {
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
    let control = tool_output("dpkg-deb", &["--field"], &path).unwrap();
    for line in [
        "Package: qemu-pr-helper-rs",
        "Maintainer: Packager <packager@example.com>",
        "Depends: libc6 (>= 2.34), libgcc-s1, passwd",
    ] {
        assert!(control.lines().any(|other| other == line), "{control}");
    }
    assert!(!control.contains('%'), "{control}");
}

#[test]
fn rpm_lists_the_files_of_the_package() {
    let files = files(Family::Fedora);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("package.rpm");
    let package = rpm::package(&files, &SOURCE_DATE, MAINTAINER).unwrap();
    assert_eq!(
        package,
        rpm::package(&files, &SOURCE_DATE, MAINTAINER).unwrap()
    );
    write(&path, &package).unwrap();
    let Some(listing) = tool_output("rpm", &["-qpl"], &path) else {
        return;
    };
    let listed: BTreeSet<_> = listing.lines().map(str::to_owned).collect();
    let missing: Vec<_> = paths(&files).difference(&listed).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
    let configuration = tool_output("rpm", &["-qpc"], &path).unwrap();
    assert_eq!(configuration.trim(), "/etc/apparmor.d/qemu-pr-helper");
    assert_eq!(
        tool_output("rpm", &["-qp", "--conflicts"], &path)
            .unwrap()
            .trim(),
        "qemu-pr-helper"
    );
    let provided = tool_output("rpm", &["-qp", "--provides"], &path).unwrap();
    assert!(provided.contains("\nqemu-pr-helper = 0"), "{provided}");
    let requirements = tool_output("rpm", &["-qp", "--requires"], &path).unwrap();
    assert!(
        requirements.contains("libc.so.6(GLIBC_2.34)(64bit)"),
        "{requirements}"
    );
    tool_output("rpm", &["-K"], &path);
}

#[test]
fn maintainer_scripts_are_posix_shell() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging");
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
                .arg(Path::new(dir).join(name)),
        )
        .unwrap();
    }
}
