//! The guest side: what runs in the virtual machine, one scenario at a time.

mod bench;
mod comparison;
mod disk_limit;
mod helper;
mod init;
mod initiator;
mod libvirt;
mod lio;
mod maps;
mod multipath;
mod nested;
mod operator;
mod packages;
mod process_table;
pub(crate) mod pulse;
mod reservations;
mod restart;
pub(crate) mod serial;
mod strace;
mod suite;
mod tracing;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};
use rustix::mount::{MountFlags, mount};

use crate::process::{command, run as run_command};

pub(crate) use multipath::UDEVD;

/// Arguments of the hidden `guest-init`.
#[derive(Args)]
pub(crate) struct Options {
    /// The folder that the kernel package was unpacked into
    #[arg(long)]
    modules: PathBuf,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    Bench(bench::Options),
    Sg(suite::Options),
    Guest(reservations::Options),
    Lio(comparison::Options),
    Multipath(multipath::Options),
    Libvirt(libvirt::Options),
    Restart(restart::Options),
    Packages(packages::Options),
}

/// Loads kernel modules from where the package was unpacked.
pub(crate) struct Modules(PathBuf);

impl Modules {
    /// Loads a module and what it needs.
    pub(crate) fn load(&self, name: &str) -> Result<()> {
        run_command(command("modprobe").arg("--dirname").arg(&self.0).arg(name))
    }
}

/// The first process starts itself again; that one runs the scenario.
pub(crate) fn run(options: &Options) -> Result<()> {
    if rustix::process::getpid().is_init() {
        return init::run();
    }
    ensure!(
        init::is_parent(),
        "guest-init is for the first process of a machine that cargo xtask vm boots"
    );
    let modules = Modules(options.modules.clone());
    println!("guest: up after {} s", uptime()?);
    match &options.scenario {
        Scenario::Bench(options) => bench::run(options, &modules),
        Scenario::Sg(options) => suite::run(options, &modules),
        Scenario::Guest(options) => reservations::run(options, &modules),
        Scenario::Lio(options) => comparison::run(options, &modules),
        Scenario::Multipath(options) => multipath::run(options, &modules),
        Scenario::Libvirt(options) => libvirt::run(options, &modules),
        Scenario::Restart(options) => restart::run(options, &modules),
        Scenario::Packages(options) => packages::run(options),
    }
}

/// Mounts a file system that has no source, on a folder that is made if it is not there.
fn mount_new(kind: &str, on: &str) -> Result<()> {
    fs::create_dir_all(on).with_context(|| format!("cannot create {on}"))?;
    mount(kind, on, kind, MountFlags::empty(), None)
        .with_context(|| format!("cannot mount {kind} on {on}"))
}

/// How long the kernel has been running, in seconds.
fn uptime() -> Result<String> {
    let text = read(Path::new("/proc/uptime"))?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}

/// Reads one of the kernel's files, without the line end.
fn read(path: &Path) -> Result<String> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.trim_end().to_owned())
}

/// Writes to one of the kernel's files.
fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {text:?} to {}", path.display()))
}
