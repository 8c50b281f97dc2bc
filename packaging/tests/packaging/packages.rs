// SPDX-License-Identifier: MIT OR Apache-2.0

//! Builds both packages with a program of the system, and reads them with the distributions' tools.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use packaging::source_date::SourceDate;
use packaging::{PackageInputs, deb, rpm};
use pr_testkit::build::Installed;
use pr_testkit::process::{command, output, text};
use pr_testkit::table;

use super::tool;

const MAINTAINER: &str = "Packager <packager@example.com>";

static DEB: OnceLock<Package> = OnceLock::new();
static RPM: OnceLock<Package> = OnceLock::new();

/// A package, and the directory that it was built in.
pub(crate) struct Package {
    dir: PathBuf,
    pub(crate) path: PathBuf,
}

impl Package {
    /// Builds a package in `dir`.
    fn build(format: &str, dir: PathBuf) -> Self {
        // The tools read the library dependencies of the programs.
        let program = || PathBuf::from("/bin/true");
        let inputs = PackageInputs {
            programs: Installed {
                helper: program(),
                prhctl: program(),
            },
            source_date: SourceDate::from_epoch("1772323199").unwrap(),
            maintainer: MAINTAINER.to_owned(),
        };
        match format {
            "deb" => deb::build(&dir, &inputs),
            _ => rpm::build(&dir, &inputs),
        }
        .unwrap();
        let entries = fs::read_dir(&dir).unwrap();
        let mut paths = entries.map(|entry| entry.unwrap().path());
        let path = paths.find(|path| path.is_file()).unwrap();
        Self { dir, path }
    }

    /// Builds the package that the tests share, below `target`.
    fn build_shared(format: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format);
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap();
        }
        Self::build(format, dir)
    }

    /// Returns Debian's package. Skips the test without the tool that builds it.
    pub(crate) fn deb() -> Option<&'static Self> {
        tool("dpkg-gencontrol")?;
        Some(DEB.get_or_init(|| Self::build_shared("deb")))
    }

    /// Returns Fedora's package. Skips the test without the tool that builds it.
    pub(crate) fn rpm() -> Option<&'static Self> {
        tool("rpmbuild")?;
        Some(RPM.get_or_init(|| Self::build_shared("rpm")))
    }

    /// Returns the output of a tool for this package.
    pub(crate) fn read(&self, tool: &str, options: &[&str]) -> String {
        text(command(tool).env("TZ", "UTC").args(options).arg(&self.path)).unwrap()
    }

    /// Returns the paths of the staged files that the package installs.
    fn staged(&self) -> BTreeSet<String> {
        let format = self.path.extension().unwrap();
        let root = self.dir.join(format).join("root");
        let mut staged = BTreeSet::new();
        add_files(&root, &root, &mut staged);
        staged.retain(|path| !path.starts_with("/DEBIAN/"));
        staged
    }
}

fn add_files(root: &Path, dir: &Path, files: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            add_files(root, &path, files);
        } else {
            let path = path.strip_prefix(root).unwrap();
            files.insert(format!("/{}", path.display()));
        }
    }
}

/// Checks that a package has the staged files, and no others.
fn assert_are_staged(files: &BTreeSet<String>, package: &Package) {
    let staged = package.staged();
    table::assert_same(("the package", files), ("the staging directory", &staged));
}

fn assert_has_main_files(files: &BTreeSet<String>) {
    for path in [
        "/etc/apparmor.d/qemu-pr-helper",
        "/usr/bin/prhctl",
        "/usr/bin/qemu-pr-helper",
        "/usr/lib/systemd/system/qemu-pr-helper-exporter.service",
        "/usr/lib/systemd/system/qemu-pr-helper.service",
        "/usr/lib/systemd/system/qemu-pr-helper.socket",
        "/usr/lib/sysusers.d/qemu-pr-helper.conf",
        "/usr/share/bash-completion/completions/prhctl",
        "/usr/share/doc/qemu-pr-helper-rs/LICENSE-APACHE",
        "/usr/share/doc/qemu-pr-helper-rs/README.md",
        "/usr/share/doc/qemu-pr-helper-rs/copyright",
        "/usr/share/doc/qemu-pr-helper-rs/docs/multipath.md",
        "/usr/share/doc/qemu-pr-helper-rs/prometheus/alerts.yml",
        "/usr/share/doc/qemu-pr-helper-rs/prometheus/dashboard.json",
        "/usr/share/fish/vendor_completions.d/qemu-pr-helper.fish",
        "/usr/share/man/man1/prhctl-status.1.gz",
        "/usr/share/man/man8/qemu-pr-helper.8.gz",
    ] {
        assert!(files.contains(path), "{path}");
    }
    let is_license = |path: &&String| path.contains("/licenses/landlock-");
    assert!(files.iter().any(|path| is_license(&path)));
}

#[test]
fn packages_are_identical_when_built_twice() {
    for (format, package) in [("deb", Package::deb()), ("rpm", Package::rpm())] {
        let Some(package) = package else {
            continue;
        };
        let dir = tempfile::tempdir().unwrap();
        let again = Package::build(format, dir.path().to_owned());
        assert_eq!(package.path.file_name(), again.path.file_name());
        let identical = fs::read(&package.path).unwrap() == fs::read(&again.path).unwrap();
        assert!(identical, "{}", package.path.display());
    }
}

#[test]
fn dpkg_lists_the_files_of_the_package() {
    let Some(package) = Package::deb() else {
        return;
    };
    let listing = package.read("dpkg-deb", &["--contents"]);
    let mut files = BTreeSet::new();
    for line in listing.lines() {
        let columns: Vec<_> = line.split_whitespace().collect();
        let [mode, owner, _, day, time, path] = columns[..] else {
            panic!("{line}");
        };
        assert_eq!((owner, day, time), ("root/root", "2026-02-28", "23:59"));
        let expected = match path {
            path if path.ends_with('/') => "drwxr-xr-x",
            path if path.starts_with("./usr/bin/") => "-rwxr-xr-x",
            _ => "-rw-r--r--",
        };
        assert_eq!(mode, expected, "{path}");
        if !path.ends_with('/') {
            files.insert(path.trim_start_matches('.').to_owned());
        }
    }
    assert_are_staged(&files, package);
    assert_has_main_files(&files);
    for path in [
        "/usr/share/doc/qemu-pr-helper-rs/changelog.Debian.gz",
        "/usr/share/zsh/vendor-completions/_prhctl",
    ] {
        assert!(files.contains(path), "{path}");
    }
}

#[test]
fn dpkg_reads_the_control_file() {
    let Some(package) = Package::deb() else {
        return;
    };
    let control = package.read("dpkg-deb", &["--field"]);
    for line in [
        "Package: qemu-pr-helper-rs",
        "Maintainer: Packager <packager@example.com>",
        concat!("Version: ", env!("CARGO_PKG_VERSION"), "-1"),
    ] {
        assert!(control.lines().any(|other| other == line), "{control}");
    }
    let depends = control.lines().find(|line| line.starts_with("Depends: "));
    let depends = depends.unwrap();
    assert!(depends.starts_with("Depends: libc6 (>= 2."), "{depends}");
    assert!(depends.ends_with(", passwd"), "{depends}");
    assert!(!control.contains(['%', '$']), "{control}");
    let scripts = output(command("dpkg-deb").arg("--info").arg(&package.path).args([
        "preinst",
        "postinst",
        "prerm",
        "postrm",
        "conffiles",
    ]));
    let scripts = String::from_utf8(scripts.unwrap()).unwrap();
    assert_eq!(scripts.matches("#!/bin/sh").count(), 4);
    assert!(scripts.ends_with("\n/etc/apparmor.d/qemu-pr-helper\n"));
}

#[test]
fn rpm_lists_the_files_of_the_package() {
    let Some(package) = Package::rpm() else {
        return;
    };
    let format = "--qf=[%{FILEMODES:perms} %{FILEUSERNAME} %{FILEMTIMES} %{FILENAMES}\n]";
    let listing = package.read("rpm", &["-qp", format]);
    let mut files = BTreeSet::new();
    for line in listing.lines() {
        let columns: Vec<_> = line.split(' ').collect();
        let [mode, user, time, path] = columns[..] else {
            panic!("{line}");
        };
        assert_eq!((user, time), ("root", "1772323199"), "{line}");
        if mode.starts_with('d') {
            // Directories of other packages are not in the package.
            assert!(path.starts_with("/usr/share/doc/qemu-pr-helper-rs"));
            continue;
        }
        let is_program = path.starts_with("/usr/bin/");
        let expected = if is_program {
            "-rwxr-xr-x"
        } else {
            "-rw-r--r--"
        };
        assert_eq!(mode, expected, "{path}");
        files.insert(path.to_owned());
    }
    assert_are_staged(&files, package);
    assert_has_main_files(&files);
    assert!(files.contains("/usr/share/zsh/site-functions/_prhctl"));
    let configuration = package.read("rpm", &["-qp", "--qf=[%{FILEFLAGS:fflags} %{FILENAMES}\n]"]);
    let mut configuration = configuration.lines().filter(|line| line.starts_with('c'));
    // A change of the administrator is kept.
    assert_eq!(
        configuration.next(),
        Some("cn /etc/apparmor.d/qemu-pr-helper")
    );
    assert_eq!(configuration.next(), None);
}

#[test]
fn rpm_reads_the_package_header() {
    let Some(package) = Package::rpm() else {
        return;
    };
    let conflicts = package.read("rpm", &["-qp", "--conflicts"]);
    assert_eq!(conflicts.trim(), "qemu-pr-helper");
    let provided = package.read("rpm", &["-qp", "--provides"]);
    let version = concat!("qemu-pr-helper = ", env!("CARGO_PKG_VERSION"), "-1");
    assert!(provided.lines().any(|line| line == version), "{provided}");
    let required = package.read("rpm", &["-qp", "--requires"]);
    assert!(required.contains("libc.so.6(GLIBC_2."), "{required}");
    let header = package.read(
        "rpm",
        &["-qp", "--qf=%{BUILDHOST} %{BUILDTIME} %{PACKAGER}"],
    );
    assert_eq!(header, format!("localhost 1772323199 {MAINTAINER}"));
    package.read("rpm", &["-K"]);
}

#[test]
fn maintainer_scripts_are_posix_shell() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("deb");
    for name in ["preinst", "postinst", "prerm", "postrm"] {
        output(command("sh").arg("-n").arg(dir.join(name))).unwrap();
    }
    let Some(package) = Package::rpm() else {
        return;
    };
    for tag in ["POSTIN", "PREUN", "POSTUN"] {
        let script = package.read("rpm", &["-qp", &format!("--qf=%{{{tag}}}")]);
        assert!(script.contains("systemctl"), "{tag}: {script}");
        output(command("sh").args(["-nc", &script])).unwrap();
    }
}
