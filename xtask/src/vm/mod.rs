//! The host side of `cargo xtask vm`: what one run is, in order.

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

use crate::build;
use crate::dist;
use crate::process::timed;
use crate::verdict::Verdict;
use kernel::Kernel;
use qemu::{End, Machine};

/// QEMU's own helper, where Debian's package qemu-system-common puts it.
const ORIGINAL_HELPER: &str = "/usr/bin/qemu-pr-helper";

/// How often a machine is booted that stands still. That is a fault of the emulation and says nothing of
/// what runs in it: QEMU's emulation of AMD's virtualisation (10.0.2) has stopped one machine in some
/// dozens while it entered a nested guest. More than one in a row is a fault of ours.
const ATTEMPTS: u32 = 3;

/// Arguments of `cargo xtask vm`.
#[derive(Args)]
pub(crate) struct Options {
    /// Which scenarios to run [default: all but bench]
    scenarios: Vec<Scenario>,
    /// Keep the kernel's own messages on the console
    #[arg(long)]
    keep_console: bool,
    /// How many minutes the machine of `sg` may take
    #[arg(long, value_name = "MINUTES", default_value_t = 15)]
    sg_limit: u64,
    /// How many minutes the machine of `guest` may take
    #[arg(long, value_name = "MINUTES", default_value_t = 10)]
    guest_limit: u64,
    /// How many minutes the machine of `multipath` may take
    #[arg(long, value_name = "MINUTES", default_value_t = 10)]
    multipath_limit: u64,
    /// How many minutes the machine of `lio` may take
    #[arg(long, value_name = "MINUTES", default_value_t = 10)]
    lio_limit: u64,
    /// How many minutes the machine of `libvirt` may take
    #[arg(long, value_name = "MINUTES", default_value_t = 10)]
    libvirt_limit: u64,
    /// How many minutes the machine of `restart` may take
    #[arg(long, value_name = "MINUTES", default_value_t = 10)]
    restart_limit: u64,
    /// How many minutes the machine of `bench` may take
    #[arg(long, value_name = "MINUTES", default_value_t = 15)]
    bench_limit: u64,
    /// How many minutes the machine of `packages` may take
    #[arg(long, value_name = "MINUTES", default_value_t = 10)]
    packages_limit: u64,
    /// How many sequences `lio` sends
    #[arg(long, value_name = "NUMBER", default_value_t = 2000)]
    lio_sequences: u64,
    /// Where the random numbers of `lio` begin [default: the time]
    #[arg(long, value_name = "NUMBER")]
    lio_seed: Option<u64>,
}

/// One boot of a virtual machine and what happens in it.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// The compatibility suite and prhctl on a real SCSI target with two initiator ports
    Sg,
    /// A nested QEMU guest that reserves a disk of that target, and a map, through the helper
    Guest,
    /// Maps that multipathd has made over that target: commands and faults, beside a single path
    Multipath,
    /// Random sequences of commands to that target and to the software logical unit
    Lio,
    /// Debian's libvirt, with machines that reserve a disk of that target through helpers of its own and of ours
    Libvirt,
    /// A helper that is killed again and again under load, while its socket stays open
    Restart,
    /// Commands for a disk of that target, through the helper and QEMU's, and for such a map: how many, how fast
    Bench,
    /// Debian's package beside the distribution's: installed, upgraded, removed, purged
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
            // With two, QEMU's emulation of AMD's virtualisation does not seem sound (10.0.2): 3 of
            // 18 nested guests died, one with the whole machine. With one, none of 27 did, and they
            // were not slower.
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

/// Runs the scenarios one after another; the first one that fails does not stop the others.
pub(crate) fn run(options: &Options) -> Result<()> {
    let scenarios = match options.scenarios.as_slice() {
        // Those that judge.
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
    let folder = build::target_folder()?.join("vm");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let kernel = timed("kernel", || kernel::get(&folder))?;
    println!("xtask: Linux {}", kernel.release());

    let mut failed = Vec::new();
    for &scenario in scenarios {
        let name = scenario.name();
        if let Err(error) = run_one(scenario, &folder, &kernel, options) {
            eprintln!("xtask: {name} FAILED: {error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn run_one(scenario: Scenario, folder: &Path, kernel: &Kernel, options: &Options) -> Result<()> {
    let name = scenario.name();
    println!("xtask: {name}");
    let words = timed("build", || match scenario {
        Scenario::Sg => sg_words(),
        Scenario::Multipath => multipath_words(),
        Scenario::Guest => guest_words(folder, kernel),
        Scenario::Lio => lio_words(options),
        Scenario::Libvirt | Scenario::Restart => released_words(name, folder, kernel),
        Scenario::Packages => packages_words(),
        Scenario::Bench => bench_words(),
    })?;
    let initramfs = folder.join(format!("{name}.initramfs"));
    initramfs::for_host_root(kernel, &guest_command(kernel, words)?, &initramfs)?;
    let log = folder.join(format!("{name}.log"));
    let machine = Machine {
        kernel: &kernel.image(),
        initramfs: &initramfs,
        log: &log,
        pulse: &folder.join(format!("{name}.pulse")),
        processors: scenario.processors(),
        limit: scenario.limit(options),
        keep_console: options.keep_console,
    };
    let mut attempts = 1..=ATTEMPTS;
    let log = log.display();
    let status = loop {
        let Some(attempt) = attempts.next() else {
            bail!("the machine stood still in each of {ATTEMPTS} attempts; see the end of {log}");
        };
        match timed("virtual machine", || machine.run())? {
            End::Ended(status) => break status,
            End::StoodStill => {
                eprintln!("xtask: {name}: the machine stood still, attempt {attempt}");
            }
        }
    };
    match Verdict::of_machine(status) {
        Some(Verdict::Success) => println!("xtask: {name} passed; its console is kept in {log}"),
        Some(Verdict::Failure) => bail!("the scenario found a fault; its console is kept in {log}"),
        None => {
            bail!("the machine died without a verdict (QEMU: {status}); see the end of {log}")
        }
    }
    Ok(())
}

/// The command that the machine starts as its first process: this very binary, which it sees at the
/// same path because the host's root folder is its own.
fn guest_command(kernel: &Kernel, scenario: Vec<OsString>) -> Result<Vec<OsString>> {
    let me = std::env::current_exe().context("cannot find this program's own path")?;
    let mut words: Vec<OsString> = vec![me.into(), "guest-init".into()];
    words.extend(["--modules".into(), kernel.root().into()]);
    words.extend(scenario);
    Ok(words)
}

fn sg_words() -> Result<Vec<OsString>> {
    let mut words = suite_words("sg")?;
    words.extend(["--prhctl".into(), build::prhctl()?.into()]);
    words.extend(["--helper".into(), ORIGINAL_HELPER.into()]);
    let helper = build::helper()?;
    words.extend(["--helper".into(), helper.clone().into()]);
    words.extend(["--traced".into(), helper.into()]);
    Ok(words)
}

fn multipath_words() -> Result<Vec<OsString>> {
    let mut words = suite_words("multipath")?;
    words.extend(["--helper".into(), build::helper()?.into()]);
    Ok(words)
}

fn suite_words(scenario: &str) -> Result<Vec<OsString>> {
    // The helper that it starts is built with it.
    let suite = build::compat()?;
    let mut words: Vec<OsString> = vec![scenario.into()];
    words.extend(["--suite".into(), suite.executable.into()]);
    words.extend(["--folder".into(), suite.folder.into()]);
    Ok(words)
}

fn lio_words(options: &Options) -> Result<Vec<OsString>> {
    let comparison = build::lio()?;
    let mut words: Vec<OsString> = vec!["lio".into()];
    words.extend(["--comparison".into(), comparison.executable.into()]);
    words.extend(["--folder".into(), comparison.folder.into()]);
    words.push(format!("--sequences={}", options.lio_sequences).into());
    words.extend(options.lio_seed.map(|seed| format!("--seed={seed}").into()));
    Ok(words)
}

fn bench_words() -> Result<Vec<OsString>> {
    let mut words: Vec<OsString> = vec!["bench".into()];
    words.extend(["--parts".into(), build::release("xtask")?.into()]);
    words.extend(["--helper".into(), build::release("qemu-pr-helper")?.into()]);
    words.extend(["--original".into(), ORIGINAL_HELPER.into()]);
    Ok(words)
}

fn packages_words() -> Result<Vec<OsString>> {
    Ok(vec![
        "packages".into(),
        "--deb".into(),
        dist::debian_package()?.into(),
    ])
}

fn guest_words(folder: &Path, kernel: &Kernel) -> Result<Vec<OsString>> {
    let mut words = nested_words("guest", folder, kernel)?;
    words.extend(["--original".into(), ORIGINAL_HELPER.into()]);
    words.extend(["--helper".into(), build::helper()?.into()]);
    Ok(words)
}

/// A scenario with a nested guest and the helper as it is installed.
fn released_words(scenario: &str, folder: &Path, kernel: &Kernel) -> Result<Vec<OsString>> {
    let mut words = nested_words(scenario, folder, kernel)?;
    let helper = build::release("qemu-pr-helper")?;
    words.extend(["--helper".into(), helper.into()]);
    Ok(words)
}

fn nested_words(scenario: &str, folder: &Path, kernel: &Kernel) -> Result<Vec<OsString>> {
    let nested = folder.join("nested.initramfs");
    initramfs::for_nested_guest(kernel, &nested)?;
    let mut words: Vec<OsString> = vec![scenario.into()];
    words.extend(["--kernel".into(), kernel.image().into()]);
    words.extend(["--initramfs".into(), nested.into()]);
    Ok(words)
}
