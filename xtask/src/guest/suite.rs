//! Scenario `sg`: the compatibility suite on the kernel's own SCSI target, and then the operator's client.
//! Scenario `multipath` runs a part of the suite too.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;

use super::lio::{Port, Target};
use super::maps::{self, Maps};
use super::{Modules, disk_limit, operator, tracing, uptime};
use crate::process::{run as run_command, timed};

/// The compatibility suite, as the host has built it.
#[derive(Args)]
pub(crate) struct Suite {
    /// The compatibility suite's binary
    #[arg(long)]
    suite: PathBuf,
    /// The folder to run it in
    #[arg(long)]
    folder: PathBuf,
}

/// What the host has built for this scenario.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    suite: Suite,
    /// The operator's client
    #[arg(long)]
    prhctl: PathBuf,
    /// The helpers that it goes through
    #[arg(long)]
    helper: Vec<PathBuf>,
    /// The one of them whose trace is looked at
    #[arg(long)]
    traced: PathBuf,
}

/// Sets the target up and runs the suite's cases that need a device.
pub(crate) fn run(options: &Options, modules: &Modules) -> Result<()> {
    let mut target = Target::start(modules)?;
    let ports = target.unit::<2>()?;
    let [other] = target.unit::<1>()?;
    let maps = maps::create(modules, &ports)?;
    println!("guest: target and maps ready after {} s", uptime()?);

    options.suite.run("device", &ports, &other, &maps)?;
    timed("operator's client", || {
        // The suite's own may have anything left on it.
        let ports = target.unit::<2>()?;
        let mut helpers = options.helper.iter();
        helpers.try_for_each(|helper| operator::run(&options.prhctl, helper, &ports))
    })?;
    timed("the limit of a disk", || {
        let ports = target.unit::<2>()?;
        disk_limit::run(&options.traced, &ports)
    })?;
    timed("the kernel's trace", || {
        let ports = target.unit::<2>()?;
        tracing::run(&options.prhctl, &options.traced, &ports)
    })
}

impl Suite {
    /// Runs the cases that have `names` in their names, with both helpers.
    pub(super) fn run(
        &self,
        names: &str,
        ports: &[Port; 2],
        other: &Port,
        maps: &Maps,
    ) -> Result<()> {
        let mut suite = Command::new(&self.suite);
        for (name, value) in variables(ports, other, maps) {
            println!("guest: {name}={}", value.display());
            suite.env(name, value);
        }
        suite
            .current_dir(&self.folder)
            .env("RUST_BACKTRACE", "1")
            // Everything that a case can need is here.
            .env("PR_COMPAT_STRICT", "")
            .arg(names);
        if maps.in_daemon {
            suite.env("PR_COMPAT_MULTIPATHD", "");
        }
        timed("compatibility suite", || run_command(&mut suite))
            .context("the compatibility suite found a fault")
    }
}

/// What the suite is told about the machine that it is in.
fn variables(ports: &[Port; 2], other: &Port, maps: &Maps) -> [(&'static str, OsString); 9] {
    let both = |[one, two]: [&Path; 2]| format!("{},{}", one.display(), two.display()).into();
    let parts: Vec<_> = maps.parts.iter().map(|part| part.as_os_str()).collect();
    [
        (
            "PR_COMPAT_PORTS",
            both(ports.each_ref().map(|port| port.block.as_path())),
        ),
        (
            "PR_COMPAT_SG",
            both(ports.each_ref().map(|port| port.generic.as_path())),
        ),
        ("PR_COMPAT_PARTITION", ports[0].partition.clone().into()),
        ("PR_COMPAT_SECOND", other.block.clone().into()),
        ("PR_COMPAT_MPATH", maps.multipath.clone().into()),
        ("PR_COMPAT_MPATH_PART", maps.partition.clone().into()),
        ("PR_COMPAT_LINEAR", maps.linear.clone().into()),
        ("PR_COMPAT_STACK", maps.stack.clone().into()),
        ("PR_COMPAT_PARTS", parts.join(OsStr::new(","))),
    ]
}
