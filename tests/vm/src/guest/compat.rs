// SPDX-License-Identifier: MIT OR Apache-2.0

//! Scenario `sg`: the compatibility suite on a LIO target, and then the tests of `prhctl`, of the
//! disk's command limit and of the kernel's trace. Scenario `multipath` also runs a part of the
//! suite.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;

use super::lio_target::{Port, Target};
use super::maps::{self, Maps};
use super::{Modules, disk_limit, iscsi_sessions, prhctl, tracing, uptime, validate};
use pr_testkit::process::{run as run_command, timed};

/// The compatibility suite, which the host has built.
#[derive(Args)]
pub(crate) struct CompatSuite {
    /// Executable of the compatibility suite
    #[arg(long)]
    compat: PathBuf,
    /// Helper under test
    #[arg(long)]
    compat_helper: PathBuf,
    /// Working directory of the suite
    #[arg(long)]
    dir: PathBuf,
}

/// Programs of the host for this scenario.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    suite: CompatSuite,
    /// Path of prhctl
    #[arg(long)]
    prhctl: PathBuf,
    /// QEMU's helper
    #[arg(long)]
    original: PathBuf,
}

/// Sets up the target and runs the suite's cases that need a device.
pub(crate) fn run(options: &Options, modules: &Modules) -> Result<()> {
    let mut target = Target::start(modules)?;
    let ports = target.create_unit::<2>()?;
    let [other] = target.create_unit::<1>()?;
    let maps = maps::create(modules, &ports)?;
    println!("guest: target and maps ready after {} s", uptime()?);

    options.suite.run("device", &ports, &other, &maps)?;
    let helper = &options.suite.compat_helper;
    timed("prhctl", || {
        // The suite can leave state on its own logical unit.
        let ports = target.create_unit::<2>()?;
        prhctl::run(&options.prhctl, &options.original, &ports)?;
        prhctl::run(&options.prhctl, helper, &ports)
    })?;
    timed("prhctl validate", || {
        let ports = target.create_unit::<2>()?;
        validate::refuses_partitions(&options.prhctl, helper, &ports)?;
        validate::run(&options.prhctl, helper, &ports)?;
        validate::run(&options.prhctl, &options.original, &ports)
    })?;
    timed("prhctl on iSCSI sessions", || {
        iscsi_sessions::run(&options.prhctl, helper, &mut target, modules)
    })
    .context("prhctl on iSCSI sessions")?;
    timed("command limit of a disk", || {
        let ports = target.create_unit::<2>()?;
        disk_limit::run(helper, &ports)
    })?;
    timed("kernel trace", || {
        let ports = target.create_unit::<2>()?;
        tracing::run(&options.prhctl, helper, &ports)
    })
}

impl CompatSuite {
    /// Runs the cases with `names` in their names with both helpers of the machine.
    pub(super) fn run(
        &self,
        names: &str,
        ports: &[Port; 2],
        other: &Port,
        maps: &Maps,
    ) -> Result<()> {
        let mut suite = Command::new(&self.compat);
        for (name, value) in variables(ports, other, maps) {
            println!("guest: {name}={}", value.display());
            suite.env(name, value);
        }
        suite
            .current_dir(&self.dir)
            .env("RUST_BACKTRACE", "1")
            // All prerequisites of the cases are available.
            .env("PR_COMPAT_STRICT", "")
            .env("PR_HELPER", &self.compat_helper)
            // The suite would also use the helper of another root directory.
            .env("PR_HELPER_ORIGINAL", "/usr/bin/qemu-pr-helper")
            .arg(names);
        if maps.has_multipathd {
            suite.env("PR_COMPAT_MULTIPATHD", "");
        }
        timed("compatibility suite", || run_command(&mut suite))
            .context("the compatibility suite failed")
    }
}

/// Returns the environment variables that describe the machine to the suite.
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
