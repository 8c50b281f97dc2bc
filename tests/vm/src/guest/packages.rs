// SPDX-License-Identifier: MIT OR Apache-2.0

//! Scenario `packages`: installs Debian's package beside the distribution's, upgrades, removes and
//! purges it, on a root directory that discards all changes at the end.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use super::uptime;
use pr_testkit::process::{command, output, run as run_command, text, timed};

const NAME: &str = "qemu-pr-helper-rs";

/// Path of the distribution's helper, and of ours after the installation.
const HELPER: &str = "/usr/bin/qemu-pr-helper";
/// Link that exists if the socket is enabled.
const ENABLED: &str = "/etc/systemd/system/sockets.target.wants/qemu-pr-helper.socket";

/// Diverted files: paths of our package that the distribution's packages have, or could have in the
/// future.
const DIVERTED: [&str; 4] = [
    HELPER,
    "/usr/lib/systemd/system/qemu-pr-helper.service",
    "/usr/lib/systemd/system/qemu-pr-helper.socket",
    "/usr/share/man/man8/qemu-pr-helper.8.gz",
];

/// Programs of the host for this scenario.
#[derive(Args)]
pub(crate) struct Options {
    /// The package
    #[arg(long)]
    deb: PathBuf,
}

/// Installs, upgrades and removes the package.
pub(crate) fn run(options: &Options) -> Result<()> {
    println!("guest: ready after {} s", uptime()?);
    let before = Originals::read();
    ensure!(
        before.has(HELPER),
        "the distribution's helper is not installed"
    );
    timed("install", || install(&options.deb))?;
    let files = text(command("dpkg").args(["--listfiles", NAME]))?;
    timed("upgrade", || install(&options.deb))?;
    timed("remove", || remove(&before, &files))
}

/// Triggers of other packages are skipped; rebuilding the index of all manual pages takes minutes
/// here.
fn dpkg(action: &str) -> Command {
    let mut dpkg = command("dpkg");
    dpkg.args(["--no-triggers", action]);
    dpkg
}

fn install(package: &Path) -> Result<()> {
    run_command(dpkg("--install").arg(package))?;
    let version = text(command(HELPER).arg("--version"))?;
    ensure!(version.starts_with("qemu-pr-helper 0"), "{version}");
    text(command("prhctl").arg("--version"))?;
    let diverted = format!("{HELPER}.distrib");
    let version = text(command(&diverted).arg("--version"))?;
    ensure!(version.contains("QEMU"), "{diverted} printed {version}");
    // dpkg prints the files that differ from the package.
    let changed = text(command("dpkg").args(["--verify", NAME]))?;
    ensure!(changed.is_empty(), "{changed}");
    ensure!(
        !Path::new(ENABLED).exists(),
        "the package enabled the socket"
    );
    Ok(())
}

fn remove(before: &Originals, files: &str) -> Result<()> {
    output(command("systemctl").args(["enable", "qemu-pr-helper.socket"]))?;
    ensure!(
        fs::symlink_metadata(ENABLED).is_ok(),
        "the socket is not enabled"
    );
    run_command(dpkg("--remove").arg(NAME))?;
    before.expect_restored()?;
    ensure!(
        fs::symlink_metadata(ENABLED).is_err(),
        "{ENABLED} was not removed"
    );
    run_command(dpkg("--purge").arg(NAME))?;
    before.expect_restored()?;
    let left: Vec<_> = files
        .lines()
        .filter(|path| Path::new(path).exists() && !before.has(path))
        // Directories shared with other packages stay.
        .filter(|path| !Path::new(path).is_dir() || path.contains(NAME))
        .collect();
    ensure!(left.is_empty(), "not removed: {left:?}");
    let diversions = text(command("dpkg-divert").args(["--list", "*qemu-pr-helper*"]))?;
    ensure!(diversions.is_empty(), "{diversions}");
    Ok(())
}

/// Files of the distribution's packages without our package.
struct Originals(BTreeMap<&'static str, Vec<u8>>);

impl Originals {
    fn read() -> Self {
        let contents = DIVERTED.map(|path| Some((path, fs::read(path).ok()?)));
        Self(contents.into_iter().flatten().collect())
    }

    fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    fn expect_restored(&self) -> Result<()> {
        let now = Self::read();
        ensure!(
            now.0.keys().eq(self.0.keys()),
            "the distribution's files were {:?} and are {:?}",
            self.0.keys(),
            now.0.keys()
        );
        ensure!(now.0 == self.0, "the distribution's files have changed");
        let diverted = DIVERTED.map(|path| format!("{path}.distrib"));
        let diverted = diverted.iter().find(|path| Path::new(path).exists());
        ensure!(diverted.is_none(), "{diverted:?} was not removed");
        let version =
            text(command(HELPER).arg("--version")).context("the distribution's helper")?;
        ensure!(version.contains("QEMU"), "{version}");
        Ok(())
    }
}
