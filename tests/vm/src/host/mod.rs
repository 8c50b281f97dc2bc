// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask vm`: runs scenarios in virtual machines; this is the host's side.

mod cache;
mod cpio;
mod group;
mod initramfs;
mod kernel;
mod network;
mod programs;
mod qemu;
mod root;
mod scenario;
mod tools;

use std::ffi::OsString;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::exit_status::ScenarioResult;
use crate::role::Role;
use pr_testkit::build;
use pr_testkit::process::timed;
use programs::Programs;
use qemu::Machine;
use root::{Root, RootFs};
use scenario::Scenario;

/// Path of QEMU's helper in Debian's package qemu-system-common.
const ORIGINAL_HELPER: &str = "/usr/bin/qemu-pr-helper";

/// Number of lines of the console that the summary repeats for a failed scenario. The last lines
/// contain the error.
const CONSOLE_LINES: usize = 8;

/// Arguments of `cargo xtask vm`.
#[derive(Args)]
pub(crate) struct Options {
    /// Scenarios to run [default: all but bench, packages and two-hosts]
    scenarios: Vec<Scenario>,
    /// Root file systems of the machines, separated by commas; each scenario runs on all of them
    #[arg(
        long,
        value_name = "ROOT",
        value_delimiter = ',',
        default_value = "host"
    )]
    root: Vec<Root>,
    /// Show the kernel's messages on the console
    #[arg(long)]
    keep_console: bool,
    /// Time limit of each machine [default: 10; 15 for sg, multipath, libvirt, bench and two-hosts]
    #[arg(long, value_name = "MINUTES")]
    limit: Option<u64>,
    /// Number of command sequences that `lio` sends
    #[arg(long, value_name = "NUMBER", default_value_t = 2000)]
    lio_sequences: u64,
    /// Seed of the random numbers of `lio` [default: the time]
    #[arg(long, value_name = "NUMBER")]
    lio_seed: Option<u64>,
    /// Also lets paths fail at random steps in `multipath`, with this seed
    #[arg(long, value_name = "NUMBER")]
    multipath_seed: Option<u64>,
}

/// Runs the scenarios one after another. A failed scenario does not stop the others.
pub(crate) fn run(options: &Options) -> Result<()> {
    let scenarios = match options.scenarios.as_slice() {
        [] => &Scenario::DEFAULT,
        named => named,
    };
    tools::check(scenarios, &options.root)?;
    let target_dir = build::target_dir()?;
    let mut summary = Summary::default();
    let packages = tools::packages();
    for &root in &options.root {
        let get = || root.get(&target_dir, &packages);
        match timed("root file system and kernel", get) {
            Ok(root) => run_all(scenarios, &root, options, &mut summary)?,
            // The host's root cannot be missing, and a root that has to be downloaded can.
            Err(error) if root == Root::Host => return Err(error),
            Err(error) => {
                let what = format!("root file system {}", root.name());
                summary.skip(&what, &format!("{error:#}"));
            }
        }
    }
    summary.finish()
}

fn run_all(
    scenarios: &[Scenario],
    root: &RootFs,
    options: &Options,
    summary: &mut Summary,
) -> Result<()> {
    let dir = &root.files;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let versions = root.versions()?;
    for &scenario in scenarios {
        if let Some(reason) = scenario.obstacle(root)? {
            summary.skip(&format!("{} on {}", scenario.name(), root.name), &reason);
            continue;
        }
        println!("vm: {} on {}: {versions}", scenario.name(), root.name);
        let start = Instant::now();
        let result = run_one(scenario, root, options);
        summary.add(scenario, root, start.elapsed(), result);
    }
    Ok(())
}

/// Results of all machines, which are printed at the end.
#[derive(Default)]
struct Summary {
    lines: Vec<String>,
    failed: Vec<String>,
}

impl Summary {
    fn add(&mut self, scenario: Scenario, root: &RootFs, time: Duration, result: Result<()>) {
        let name = format!("{} on {}", scenario.name(), root.name);
        let seconds = time.as_secs();
        match result {
            Ok(()) => self.lines.push(format!("{name} passed in {seconds} s")),
            Err(error) => {
                self.lines
                    .push(format!("{name} FAILED after {seconds} s: {error:#}"));
                self.failed.push(name);
            }
        }
    }

    fn skip(&mut self, what: &str, reason: &str) {
        self.lines.push(format!("SKIPPED: {what}: {reason}"));
    }

    fn finish(self) -> Result<()> {
        for line in &self.lines {
            println!("vm: {line}");
        }
        if !self.failed.is_empty() {
            bail!("failed: {}", self.failed.join(", "));
        }
        Ok(())
    }
}

/// Builds what the scenario needs, and boots its machines.
fn run_one(scenario: Scenario, root: &RootFs, options: &Options) -> Result<()> {
    let name = scenario.name();
    let command = timed("build", || {
        let programs = Programs::new(root.files.join(format!("{name}.programs")))?;
        let args = scenario.args(root, &programs, options)?;
        guest_command(root, &programs, args)
    })?;
    let roles = scenario.roles().iter();
    let machines = roles.map(|&role| machine(scenario, role, root, &command, options));
    let machines: Vec<_> = machines.collect::<Result<_>>()?;
    let (machine, status) = group::run(&machines)?;
    let log = machine.log.display();
    match ScenarioResult::from_exit_status(status) {
        Some(ScenarioResult::Success) => Ok(()),
        Some(ScenarioResult::Failure | ScenarioResult::NestedGuestHung) => {
            let console = fs::read_to_string(&machine.log);
            let console = console.context("cannot read the console log")?;
            bail!(
                "the scenario failed; console log: {log}, which ends with\n{}",
                last_lines(&console, CONSOLE_LINES)
            )
        }
        None => {
            bail!("the machine ended before the scenario (QEMU: {status}); see the end of {log}")
        }
    }
}

/// Describes a machine of the scenario, and writes its initramfs. The role is the last argument of
/// the guest's side.
fn machine<'a>(
    scenario: Scenario,
    role: Option<Role>,
    root: &'a RootFs,
    command: &[OsString],
    options: &Options,
) -> Result<Machine<'a>> {
    let name = match role {
        Some(role) => format!("{}.{}", scenario.name(), role.name()),
        None => scenario.name().to_owned(),
    };
    let mut command = command.to_vec();
    command.extend(role.map(|role| role.name().into()));
    let file = |extension: &str| root.files.join(format!("{name}.{extension}"));
    let initramfs = file("initramfs");
    initramfs::for_root(root, &command, &initramfs)?;
    let limit = options
        .limit
        .map(|minutes| Duration::from_secs(minutes * 60));
    Ok(Machine {
        root,
        role,
        initramfs,
        log: file("log"),
        heartbeat: file("pulse"),
        processors: scenario.processors(),
        counts_instructions: scenario == Scenario::Instructions,
        limit: limit.unwrap_or_else(|| scenario.limit()),
        keep_console: options.keep_console,
    })
}

/// Returns the end of a text, indented.
fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    let lines = &lines[lines.len().saturating_sub(count)..];
    lines.iter().map(|line| format!("    {line}\n")).collect()
}

/// Returns the command line of a machine's first process, which is a copy of this executable.
fn guest_command(
    root: &RootFs,
    programs: &Programs,
    scenario: Vec<OsString>,
) -> Result<Vec<OsString>> {
    let executable = std::env::current_exe().context("cannot find this program's own path")?;
    let executable = programs.copy(&executable)?;
    let mut args: Vec<OsString> = vec![executable.into(), "guest-init".into()];
    args.extend(["--modules".into(), root.kernel.root().into()]);
    args.extend(scenario);
    Ok(args)
}
