// SPDX-License-Identifier: MIT OR Apache-2.0

//! Scenarios inside the virtual machine; this is the guest's side of `cargo xtask vm`.

mod bench;
mod compat;
mod disk_limit;
mod guest_reservations;
pub(crate) mod heartbeat;
mod helper;
mod init;
mod initiator;
mod instructions;
mod iscsi_initiator;
mod iscsi_sessions;
mod iscsi_target;
mod libvirt;
mod lio_comparison;
mod lio_target;
mod live_migration;
mod local_sessions;
mod maps;
mod migration;
mod multipath;
mod nested_guest;
mod packages;
mod prhctl;
mod prhctl_command;
mod process_table;
mod qmp;
mod restart;
pub(crate) mod serial;
mod strace;
mod tracing;
mod two_hosts;
mod validate;
mod watchdog_check;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};
use rustix::mount::{MountFlags, mount};

use pr_testkit::process::{command, run as run_command};

pub(crate) use multipath::UDEVD;

/// Arguments of the hidden `guest-init`.
#[derive(Args)]
pub(crate) struct Options {
    /// Directory of the unpacked kernel package
    #[arg(long)]
    modules: PathBuf,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    Bench(bench::Options),
    Instructions(bench::Options),
    Sg(compat::Options),
    Guest(guest_reservations::Options),
    Lio(lio_comparison::Options),
    Multipath(multipath::Options),
    Migration(nested_guest::Programs),
    TwoHosts(two_hosts::Options),
    Libvirt(libvirt::Options),
    Restart(nested_guest::Programs),
    Packages(packages::Options),
}

/// Kernel modules of the unpacked package.
pub(crate) struct Modules(PathBuf);

impl Modules {
    /// Loads a module and its dependencies.
    pub(crate) fn load(&self, name: &str) -> Result<()> {
        self.load_with_options(name, &[])
    }

    /// Loads a module with these options, and its dependencies.
    fn load_with_options(&self, name: &str, options: &[&str]) -> Result<()> {
        let mut modprobe = command("modprobe");
        modprobe.arg("--dirname").arg(&self.0).arg(name);
        run_command(modprobe.args(options))
    }
}

/// Runs the scenario. The first process starts this program again for it.
pub(crate) fn run(options: &Options) -> Result<()> {
    if rustix::process::getpid().is_init() {
        return init::run();
    }
    ensure!(
        init::is_scenario_process(),
        "guest-init can only run as the first process of a machine of cargo xtask vm"
    );
    let modules = Modules(options.modules.clone());
    println!("guest: up after {} s", uptime()?);
    match &options.scenario {
        Scenario::Bench(options) => bench::run(options, &modules),
        Scenario::Instructions(options) => instructions::run(options, &modules),
        Scenario::Sg(options) => compat::run(options, &modules),
        Scenario::Guest(options) => guest_reservations::run(options, &modules),
        Scenario::Lio(options) => lio_comparison::run(options, &modules),
        Scenario::Multipath(options) => multipath::run(options, &modules),
        Scenario::Migration(options) => migration::run(options, &modules),
        Scenario::TwoHosts(options) => two_hosts::run(options, &modules),
        Scenario::Libvirt(options) => libvirt::run(options, &modules),
        Scenario::Restart(options) => restart::run(options, &modules),
        Scenario::Packages(options) => packages::run(options),
    }
}

/// Mounts a file system without a source on a directory, which is created if necessary.
fn mount_new(kind: &str, on: &str) -> Result<()> {
    fs::create_dir_all(on).with_context(|| format!("cannot create {on}"))?;
    mount(kind, on, kind, MountFlags::empty(), None)
        .with_context(|| format!("cannot mount {kind} on {on}"))
}

/// Returns the kernel's uptime in seconds.
fn uptime() -> Result<String> {
    let text = read(Path::new("/proc/uptime"))?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}

/// Reads a file of procfs, sysfs or configfs without the trailing newline.
fn read(path: &Path) -> Result<String> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.trim_end().to_owned())
}

/// Writes to such a file.
fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {text:?} to {}", path.display()))
}
