//! Scenario `packages`: Debian's package is installed beside the distribution's, upgraded, removed and purged, on a
//! root folder that is this machine's own and of which nothing lasts.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use super::uptime;
use crate::process::{command, output, run as run_command, text, timed};

const NAME: &str = "qemu-pr-helper-rs";

/// Where the distribution's helper is, and then ours.
const HELPER: &str = "/usr/bin/qemu-pr-helper";
/// What enabling the socket makes.
const ENABLED: &str = "/etc/systemd/system/sockets.target.wants/qemu-pr-helper.socket";

/// Files that step aside: what the distribution's packages have at paths of ours, or may come to have.
const DIVERTED: [&str; 4] = [
    HELPER,
    "/usr/lib/systemd/system/qemu-pr-helper.service",
    "/usr/lib/systemd/system/qemu-pr-helper.socket",
    "/usr/share/man/man8/qemu-pr-helper.8.gz",
];

/// What the host has built for this scenario.
#[derive(Args)]
pub(crate) struct Options {
    /// The package
    #[arg(long)]
    deb: PathBuf,
}

/// Installs and removes it.
pub(crate) fn run(options: &Options) -> Result<()> {
    println!("guest: ready after {} s", uptime()?);
    let before = Originals::read();
    ensure!(
        before.has(HELPER),
        "the distribution's helper is not installed"
    );
    timed("install", || install(&options.deb))?;
    let ours = text(command("dpkg").args(["--listfiles", NAME]))?;
    timed("upgrade", || install(&options.deb))?;
    timed("remove", || remove(&before, &ours))
}

/// Without what other packages do then: an index of all manual pages takes minutes here.
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
    let aside = format!("{HELPER}.distrib");
    let version = text(command(&aside).arg("--version"))?;
    ensure!(version.contains("QEMU"), "{aside} says {version}");
    // It prints what is not as it was in the package.
    let changed = text(command("dpkg").args(["--verify", NAME]))?;
    ensure!(changed.is_empty(), "{changed}");
    ensure!(
        !Path::new(ENABLED).exists(),
        "the socket is enabled by itself"
    );
    Ok(())
}

fn remove(before: &Originals, ours: &str) -> Result<()> {
    output(command("systemctl").args(["enable", "qemu-pr-helper.socket"]))?;
    ensure!(
        fs::symlink_metadata(ENABLED).is_ok(),
        "the socket is not enabled"
    );
    run_command(dpkg("--remove").arg(NAME))?;
    before.are_back()?;
    ensure!(fs::symlink_metadata(ENABLED).is_err(), "{ENABLED} is left");
    run_command(dpkg("--purge").arg(NAME))?;
    before.are_back()?;
    let left: Vec<_> = ours
        .lines()
        .filter(|path| Path::new(path).exists() && !before.has(path))
        // Folders that others have too stay.
        .filter(|path| !Path::new(path).is_dir() || path.contains(NAME))
        .collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    let diversions = text(command("dpkg-divert").args(["--list", "*qemu-pr-helper*"]))?;
    ensure!(diversions.is_empty(), "{diversions}");
    Ok(())
}

/// The distribution's files, as they are without our package.
struct Originals(BTreeMap<&'static str, Vec<u8>>);

impl Originals {
    fn read() -> Self {
        let there = DIVERTED.map(|path| Some((path, fs::read(path).ok()?)));
        Self(there.into_iter().flatten().collect())
    }

    fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    fn are_back(&self) -> Result<()> {
        let now = Self::read();
        ensure!(
            now.0.keys().eq(self.0.keys()),
            "instead of {:?} there are {:?}",
            self.0.keys(),
            now.0.keys()
        );
        ensure!(now.0 == self.0, "the distribution's files have changed");
        let aside = DIVERTED.map(|path| format!("{path}.distrib"));
        let aside = aside.iter().find(|path| Path::new(path).exists());
        ensure!(aside.is_none(), "{aside:?} is left");
        let version =
            text(command(HELPER).arg("--version")).context("the distribution's helper")?;
        ensure!(version.contains("QEMU"), "{version}");
        Ok(())
    }
}
