// SPDX-License-Identifier: MIT OR Apache-2.0

//! The lookup of the helper binary by `prhctl demo`: an installed copy of prhctl, in a mount
//! namespace in which the directories of distributions contain only what the test puts there.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use pr_testkit::namespace::mount_namespace;
use tempfile::TempDir;

use crate::demo::real_helper;
use crate::support::Run;

/// The help page of QEMU's helper, shortened.
const QEMU: &str = "#!/bin/sh\necho 'Persistent Reservation helper program for QEMU'\n";

/// Directories that take the place of those of distributions.
const SYSTEM: [&str; 2] = ["libexec", "lib/qemu"];

/// A directory with an installed copy of prhctl in `own`, and the directory `path` for `PATH`.
struct Installation {
    dir: TempDir,
    wrapper: Vec<String>,
}

impl Installation {
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        for name in ["own", "path", "libexec", "lib/qemu", "empty"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let alone = dir.path().join("own/prhctl");
        fs::copy(env!("CARGO_BIN_EXE_prhctl"), alone).unwrap();
        // A helper that is installed on this host is hidden. Directories that do not exist here
        // cannot contain one.
        let root = dir.path().display();
        let script = format!(
            "for name in {}; do\n\
             if [ -d /usr/$name ]; then mount --bind {root}/$name /usr/$name; fi\n\
             done\n\
             if [ -e /usr/bin/qemu-pr-helper ]; then\n\
             mount --bind /dev/null /usr/bin/qemu-pr-helper\n\
             fi",
            SYSTEM.join(" ")
        );
        let wrapper = mount_namespace(&script)?;
        Some(Installation { dir, wrapper })
    }

    fn binary(&self, dir: &str) -> PathBuf {
        self.dir.path().join(dir).join("qemu-pr-helper")
    }

    fn add_real(&self, dir: &str) {
        symlink(real_helper(), self.binary(dir)).unwrap();
    }

    fn add_qemu(&self, dir: &str) {
        fs::write(self.binary(dir), QEMU).unwrap();
        fs::set_permissions(self.binary(dir), Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self) -> Run {
        let path = ["empty", "path"].map(|name| self.dir.path().join(name));
        let path = format!("{}:{}:/usr/bin:/bin", path[0].display(), path[1].display());
        let (unshare, arguments) = self.wrapper.split_first().unwrap();
        let mut command = Command::new(unshare);
        command
            .args(arguments)
            .arg(self.dir.path().join("own/prhctl"))
            .args(["--json", "demo"])
            .env("PATH", path);
        Run::new(&mut command, "")
    }

    #[track_caller]
    fn expect(&self, binary: &Path) {
        let run = self.run();
        assert_eq!(run.status, 0, "{run:?}");
        assert_eq!(run.json()["helper"], binary.to_str().unwrap());
    }
}

/// Each helper that is added is found before the earlier ones.
#[test]
fn helper_is_looked_for_in_order() {
    let Some(installation) = Installation::new() else {
        return;
    };
    for dir in SYSTEM.into_iter().rev() {
        let system = Path::new("/usr").join(dir);
        if system.is_dir() {
            installation.add_real(dir);
            installation.expect(&system.join("qemu-pr-helper"));
        }
    }
    for dir in ["path", "own"] {
        installation.add_real(dir);
        installation.expect(&installation.binary(dir));
    }
}

#[test]
fn helper_of_qemu_is_skipped() {
    let Some(installation) = Installation::new() else {
        return;
    };
    installation.add_qemu("own");
    installation.add_real("path");
    installation.expect(&installation.binary("path"));
}

/// An installed copy builds nothing, although cargo has started this test.
#[test]
fn missing_helper_is_error() {
    let Some(installation) = Installation::new() else {
        return;
    };
    let missing = format!(
        "no qemu-pr-helper of this project in {}, in PATH, or in /usr/libexec, /usr/lib/qemu, \
         /usr/bin",
        installation.dir.path().join("own").display()
    );
    let remedy = "Name the helper binary with --helper, or build and install it in the source \
                  directory: cargo install --locked --path crates/qemu-pr-helper.";
    let check = |advice: &[&str]| {
        let run = installation.run();
        assert_eq!(run.status, 1, "{run:?}");
        let error = &run.json()["error"];
        assert_eq!(error["message"], missing);
        assert_eq!(error["advice"], serde_json::json!(advice));
    };
    check(&[remedy]);

    installation.add_qemu("path");
    let path = installation.binary("path");
    let other = format!(
        "{} is another helper, such as QEMU's: it has no soft LUNs.",
        path.display()
    );
    check(&[&other, remedy]);
}
