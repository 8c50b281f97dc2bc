//! `cargo xtask vm`: runs scenarios in virtual machines; this is the host's side.

mod cpio;
mod initramfs;
mod kernel;
mod qemu;
mod tools;

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::exit_status::ScenarioResult;
use kernel::Kernel;
use pr_testkit::build;
use pr_testkit::process::timed;
use qemu::{End, Machine};

/// Path of QEMU's helper in Debian's package qemu-system-common.
const ORIGINAL_HELPER: &str = "/usr/bin/qemu-pr-helper";

/// Maximum number of boots if the machine hangs. A single hang is a fault of the emulation and not
/// of the scenario: QEMU's emulation of AMD's virtualization (10.0.2) has hung in one of some
/// dozens of machines when it entered a nested guest. More than one hang in a row is our fault.
const ATTEMPTS: u32 = 3;

/// Arguments of `cargo xtask vm`.
#[derive(Args)]
pub(crate) struct Options {
    /// Scenarios to run [default: all but bench and packages]
    scenarios: Vec<Scenario>,
    /// Show the kernel's messages on the console
    #[arg(long)]
    keep_console: bool,
    /// Time limit of the machine of `sg`
    #[arg(long, value_name = "MINUTES", default_value_t = 15)]
    sg_limit: u64,
    /// Time limit of the machine of `guest`
    #[arg(long, value_name = "MINUTES", default_value_t = 10)]
    guest_limit: u64,
    /// Time limit of the machine of `multipath`
    #[arg(long, value_name = "MINUTES", default_value_t = 10)]
    multipath_limit: u64,
    /// Time limit of the machine of `lio`
    #[arg(long, value_name = "MINUTES", default_value_t = 10)]
    lio_limit: u64,
    /// Time limit of the machine of `libvirt`
    #[arg(long, value_name = "MINUTES", default_value_t = 10)]
    libvirt_limit: u64,
    /// Time limit of the machine of `restart`
    #[arg(long, value_name = "MINUTES", default_value_t = 10)]
    restart_limit: u64,
    /// Time limit of the machine of `bench`
    #[arg(long, value_name = "MINUTES", default_value_t = 15)]
    bench_limit: u64,
    /// Time limit of the machine of `packages`
    #[arg(long, value_name = "MINUTES", default_value_t = 10)]
    packages_limit: u64,
    /// Number of command sequences that `lio` sends
    #[arg(long, value_name = "NUMBER", default_value_t = 2000)]
    lio_sequences: u64,
    /// Seed of the random numbers of `lio` [default: the time]
    #[arg(long, value_name = "NUMBER")]
    lio_seed: Option<u64>,
}

/// A boot of a virtual machine and a test in it.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// The compatibility suite and prhctl on a real SCSI target with two initiator ports
    Sg,
    /// A nested QEMU guest that reserves a disk of that target, and a multipath map, through the
    /// helper
    Guest,
    /// Multipath maps of that target under multipathd: commands and faults, compared with a single
    /// path
    Multipath,
    /// Random command sequences to that target and to `soft-lun`
    Lio,
    /// Debian's libvirt: domains that reserve a disk of that target through helpers that libvirt
    /// starts and through ours
    Libvirt,
    /// A helper that is killed repeatedly under load, while its socket stays open
    Restart,
    /// Throughput and latency of commands to a disk of that target and a map, for our helper and
    /// QEMU's
    Bench,
    /// Debian's package beside the distribution's: installation, upgrade, removal, purge
    Packages,
}

impl Scenario {
    fn name(self) -> &'static str {
        match self {
            Self::Sg => "sg",
            Self::Guest => "guest",
            Self::Multipath => "multipath",
            Self::Lio => "lio",
            Self::Libvirt => "libvirt",
            Self::Restart => "restart",
            Self::Bench => "bench",
            Self::Packages => "packages",
        }
    }

    fn processors(self) -> u8 {
        match self {
            Self::Sg | Self::Multipath | Self::Lio | Self::Bench | Self::Packages => 2,
            // With two processors, QEMU's emulation of AMD's virtualization (10.0.2) seems to be
            // faulty: 3 of 18 nested guests crashed, one together with the machine. With one
            // processor, none of 27 crashed, and they were not slower.
            Self::Guest | Self::Libvirt | Self::Restart => 1,
        }
    }

    fn limit(self, options: &Options) -> Duration {
        let minutes = match self {
            Self::Sg => options.sg_limit,
            Self::Guest => options.guest_limit,
            Self::Multipath => options.multipath_limit,
            Self::Lio => options.lio_limit,
            Self::Libvirt => options.libvirt_limit,
            Self::Restart => options.restart_limit,
            Self::Bench => options.bench_limit,
            Self::Packages => options.packages_limit,
        };
        Duration::from_secs(minutes * 60)
    }
}

/// Runs the scenarios one after another. A failed scenario does not stop the others.
pub(crate) fn run(options: &Options) -> Result<()> {
    let scenarios = match options.scenarios.as_slice() {
        // The scenarios that need no manual evaluation.
        [] => &[
            Scenario::Sg,
            Scenario::Guest,
            Scenario::Multipath,
            Scenario::Lio,
            Scenario::Libvirt,
            Scenario::Restart,
        ],
        named => named,
    };
    tools::check(scenarios)?;
    let dir = build::target_dir()?.join("vm");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let kernel = timed("kernel", || kernel::get_kernel(&dir))?;
    println!("vm: Linux {}", kernel.release());

    let mut failed = Vec::new();
    for &scenario in scenarios {
        let name = scenario.name();
        if let Err(error) = run_one(scenario, &dir, &kernel, options) {
            eprintln!("vm: {name} FAILED: {error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn run_one(scenario: Scenario, dir: &Path, kernel: &Kernel, options: &Options) -> Result<()> {
    let name = scenario.name();
    println!("vm: {name}");
    let args = timed("build", || match scenario {
        Scenario::Sg => sg_args(),
        Scenario::Multipath => multipath_args(),
        Scenario::Guest => guest_args(dir, kernel),
        Scenario::Lio => lio_args(options),
        Scenario::Libvirt | Scenario::Restart => release_args(name, dir, kernel),
        Scenario::Packages => packages_args(),
        Scenario::Bench => bench_args(),
    })?;
    let initramfs = dir.join(format!("{name}.initramfs"));
    initramfs::for_host_root(kernel, &guest_command(kernel, args)?, &initramfs)?;
    let log = dir.join(format!("{name}.log"));
    let machine = Machine {
        kernel: &kernel.image(),
        initramfs: &initramfs,
        log: &log,
        heartbeat: &dir.join(format!("{name}.pulse")),
        processors: scenario.processors(),
        limit: scenario.limit(options),
        keep_console: options.keep_console,
    };
    let mut attempts = 1..=ATTEMPTS;
    let log = log.display();
    let status = loop {
        let Some(attempt) = attempts.next() else {
            bail!("the machine hung in each of {ATTEMPTS} attempts; see the end of {log}");
        };
        match timed("virtual machine", || machine.run())? {
            End::Exited(status) => break status,
            End::Hung => {
                eprintln!("vm: {name}: the machine hung in attempt {attempt}");
            }
        }
    };
    match ScenarioResult::from_exit_status(status) {
        Some(ScenarioResult::Success) => println!("vm: {name} passed; console log: {log}"),
        Some(ScenarioResult::Failure) => bail!("the scenario failed; console log: {log}"),
        None => {
            bail!("the machine ended before the scenario (QEMU: {status}); see the end of {log}")
        }
    }
    Ok(())
}

/// Returns the command line of the machine's first process: this executable, which has the same
/// path in the machine because it has the host's root directory.
fn guest_command(kernel: &Kernel, scenario: Vec<OsString>) -> Result<Vec<OsString>> {
    let executable = std::env::current_exe().context("cannot find this program's own path")?;
    let mut args: Vec<OsString> = vec![executable.into(), "guest-init".into()];
    args.extend(["--modules".into(), kernel.root().into()]);
    args.extend(scenario);
    Ok(args)
}

fn sg_args() -> Result<Vec<OsString>> {
    let mut args = compat_args("sg")?;
    args.extend(["--prhctl".into(), build::debug("prhctl")?.into()]);
    args.extend(["--helper".into(), ORIGINAL_HELPER.into()]);
    let helper = build::debug("qemu-pr-helper")?;
    args.extend(["--helper".into(), helper.clone().into()]);
    args.extend(["--traced".into(), helper.into()]);
    Ok(args)
}

fn multipath_args() -> Result<Vec<OsString>> {
    let mut args = compat_args("multipath")?;
    args.extend(["--helper".into(), build::debug("qemu-pr-helper")?.into()]);
    Ok(args)
}

fn compat_args(scenario: &str) -> Result<Vec<OsString>> {
    // Cargo builds the helper together with the suite that starts it.
    let compat = build::compat()?;
    let mut args: Vec<OsString> = vec![scenario.into()];
    args.extend(["--compat".into(), compat.executable.into()]);
    args.extend(["--dir".into(), compat.dir.into()]);
    Ok(args)
}

fn lio_args(options: &Options) -> Result<Vec<OsString>> {
    let comparison = build::lio()?;
    let mut args: Vec<OsString> = vec!["lio".into()];
    args.extend(["--comparison".into(), comparison.executable.into()]);
    args.extend(["--dir".into(), comparison.dir.into()]);
    args.push(format!("--sequences={}", options.lio_sequences).into());
    args.extend(options.lio_seed.map(|seed| format!("--seed={seed}").into()));
    Ok(args)
}

fn bench_args() -> Result<Vec<OsString>> {
    let mut args: Vec<OsString> = vec!["bench".into()];
    args.extend(["--bench".into(), build::release("bench")?.into()]);
    args.extend(["--helper".into(), build::release("qemu-pr-helper")?.into()]);
    args.extend(["--original".into(), ORIGINAL_HELPER.into()]);
    Ok(args)
}

fn packages_args() -> Result<Vec<OsString>> {
    Ok(vec![
        "packages".into(),
        "--deb".into(),
        build::debian_package()?.into(),
    ])
}

fn guest_args(dir: &Path, kernel: &Kernel) -> Result<Vec<OsString>> {
    let mut args = nested_args("guest", dir, kernel)?;
    args.extend(["--original".into(), ORIGINAL_HELPER.into()]);
    args.extend(["--helper".into(), build::debug("qemu-pr-helper")?.into()]);
    Ok(args)
}

/// Returns the arguments of a scenario with a nested guest and the release build of the helper.
fn release_args(scenario: &str, dir: &Path, kernel: &Kernel) -> Result<Vec<OsString>> {
    let mut args = nested_args(scenario, dir, kernel)?;
    let helper = build::release("qemu-pr-helper")?;
    args.extend(["--helper".into(), helper.into()]);
    Ok(args)
}

fn nested_args(scenario: &str, dir: &Path, kernel: &Kernel) -> Result<Vec<OsString>> {
    let nested = dir.join("nested.initramfs");
    initramfs::for_nested_guest(kernel, &nested)?;
    let mut args: Vec<OsString> = vec![scenario.into()];
    args.extend(["--kernel".into(), kernel.image().into()]);
    args.extend(["--initramfs".into(), nested.into()]);
    Ok(args)
}
