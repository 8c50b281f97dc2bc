// SPDX-License-Identifier: MIT OR Apache-2.0

//! The scenarios: their machines, and the arguments of the guest's side, with the programs that are
//! built for them.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use super::programs::Programs;
use super::root::RootFs;
use super::{ORIGINAL_HELPER, Options, initramfs};
use crate::role::Role;
use pr_testkit::build;

/// First major version of QEMU with the property `migrate-pr` of `scsi-block`.
const MIGRATE_PR_SINCE: u32 = 11;

/// A boot of a virtual machine, or of several ones, and a test in it.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// The compatibility suite and prhctl on a real SCSI target with two initiator ports
    Sg,
    /// A nested QEMU guest that reserves a disk of that target, and a multipath map, through the
    /// helper
    Guest,
    /// Multipath maps of that target under multipathd: commands and faults, compared with a single
    /// path
    Multipath,
    /// A guest that holds a reservation migrates between two QEMUs, each with its own helper and
    /// port
    Migration,
    /// An iSCSI target and two hosts with multipath maps: a guest that writes and holds a
    /// reservation migrates between them, also while paths are down, and the guest of one host
    /// fences the other host
    TwoHosts,
    /// Random command sequences to that target and to `soft-lun`
    Lio,
    /// Debian's libvirt: domains that reserve a disk of that target through helpers that libvirt
    /// starts and through ours; prhctl after one of two domains has fenced the other
    Libvirt,
    /// A helper that is killed repeatedly under load, while its socket stays open
    Restart,
    /// Throughput and latency of commands to a disk of that target and a map, for our helper and
    /// QEMU's
    Bench,
    /// Instructions of a request to a disk of that target, for our helper and QEMU's: those of the
    /// client, the helper, the kernel and the target
    Instructions,
    /// Debian's package beside the distribution's: installation, upgrade, removal, purge
    Packages,
}

impl Scenario {
    /// The scenarios that run by default: the ones without manual evaluation, with one machine, and
    /// without packages.
    pub(crate) const DEFAULT: [Self; 7] = [
        Self::Sg,
        Self::Guest,
        Self::Multipath,
        Self::Migration,
        Self::Lio,
        Self::Libvirt,
        Self::Restart,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sg => "sg",
            Self::Guest => "guest",
            Self::Multipath => "multipath",
            Self::Migration => "migration",
            Self::TwoHosts => "two-hosts",
            Self::Lio => "lio",
            Self::Libvirt => "libvirt",
            Self::Restart => "restart",
            Self::Bench => "bench",
            Self::Instructions => "instructions",
            Self::Packages => "packages",
        }
    }

    pub(crate) fn processors(self) -> u8 {
        match self {
            Self::Sg | Self::Multipath | Self::Lio | Self::Bench | Self::Packages => 2,
            // With two processors, QEMU's emulation of AMD's virtualization (10.0.2) seems to be
            // faulty: 3 of 18 nested guests crashed, one together with the machine. With one
            // processor, none of 27 crashed, and they were not slower.
            Self::Guest | Self::Migration | Self::TwoHosts | Self::Libvirt | Self::Restart => 1,
            Self::Instructions => 1,
        }
    }

    /// Returns the roles of the scenario's machines, which a single machine has not.
    pub(crate) fn roles(self) -> &'static [Option<Role>] {
        match self {
            Self::TwoHosts => &[Some(Role::Target), Some(Role::HostA), Some(Role::HostB)],
            _ => &[None],
        }
    }

    /// Returns the time after which the machine is killed.
    pub(crate) fn limit(self) -> Duration {
        let minutes = match self {
            Self::Sg | Self::Multipath | Self::Libvirt | Self::Bench | Self::TwoHosts => 15,
            Self::Guest | Self::Migration | Self::Lio | Self::Restart | Self::Packages => 10,
            Self::Instructions => 10,
        };
        Duration::from_secs(minutes * 60)
    }

    /// Returns why the scenario does not apply to a root file system, or `None` if it does.
    pub(crate) fn obstacle(self, root: &RootFs) -> Result<Option<String>> {
        if !matches!(self, Self::Migration | Self::TwoHosts) {
            return Ok(None);
        }
        let version = root.package_version("qemu-system-x86")?;
        let major = major_version(&version)
            .with_context(|| format!("{version} is not a version of QEMU"))?;
        Ok((major < MIGRATE_PR_SINCE).then(|| {
            format!(
                "QEMU {version} does not migrate reservations, QEMU {MIGRATE_PR_SINCE}.0 is needed"
            )
        }))
    }

    /// Builds the programs of the scenario and returns the arguments of the guest's side.
    pub(crate) fn args(
        self,
        root: &RootFs,
        programs: &Programs,
        options: &Options,
    ) -> Result<Vec<OsString>> {
        match self {
            Self::Sg => sg_args(programs),
            Self::Multipath => multipath_args(programs, options),
            Self::Guest => guest_args(root, programs),
            Self::Migration => migration_args(root, programs),
            Self::Lio => lio_args(programs, options),
            Self::Libvirt => libvirt_args(root, programs),
            Self::Restart | Self::TwoHosts => release_args(self.name(), root, programs),
            Self::Packages => packages_args(programs),
            Self::Bench | Self::Instructions => bench_args(self.name(), programs),
        }
    }
}

/// Returns 11 for `1:11.1.2+ds-3`.
fn major_version(version: &str) -> Option<u32> {
    let upstream = version
        .split_once(':')
        .map_or(version, |(_, upstream)| upstream);
    upstream.split('.').next()?.parse().ok()
}

fn sg_args(programs: &Programs) -> Result<Vec<OsString>> {
    let mut args = compat_args("sg", programs)?;
    args.extend(["--prhctl".into(), programs.debug("prhctl")?.into()]);
    args.extend(["--original".into(), ORIGINAL_HELPER.into()]);
    Ok(args)
}

fn multipath_args(programs: &Programs, options: &Options) -> Result<Vec<OsString>> {
    let mut args = compat_args("multipath", programs)?;
    let seed = options.multipath_seed;
    args.extend(seed.map(|seed| format!("--seed={seed}").into()));
    // The scenario sends thousands of commands.
    let helper = programs.release("qemu-pr-helper")?;
    args.extend(["--helper".into(), helper.into()]);
    args.extend(["--prhctl".into(), programs.debug("prhctl")?.into()]);
    Ok(args)
}

fn compat_args(scenario: &str, programs: &Programs) -> Result<Vec<OsString>> {
    let compat = build::compat()?;
    let executable = programs.copy(&compat.executable)?;
    let helper = programs.debug("qemu-pr-helper")?;
    let mut args: Vec<OsString> = vec![scenario.into()];
    args.extend(["--compat".into(), executable.into()]);
    args.extend(["--compat-helper".into(), helper.into()]);
    args.extend(["--dir".into(), compat.dir.into()]);
    Ok(args)
}

fn lio_args(programs: &Programs, options: &Options) -> Result<Vec<OsString>> {
    let comparison = build::lio()?;
    let executable = programs.copy(&comparison.executable)?;
    let mut args: Vec<OsString> = vec!["lio".into()];
    args.extend(["--comparison".into(), executable.into()]);
    args.extend(["--dir".into(), comparison.dir.into()]);
    args.push(format!("--sequences={}", options.lio_sequences).into());
    args.extend(options.lio_seed.map(|seed| format!("--seed={seed}").into()));
    Ok(args)
}

fn bench_args(scenario: &str, programs: &Programs) -> Result<Vec<OsString>> {
    let mut args: Vec<OsString> = vec![scenario.into()];
    args.extend(["--bench".into(), programs.release("bench")?.into()]);
    let helper = programs.release("qemu-pr-helper")?;
    args.extend(["--helper".into(), helper.into()]);
    args.extend(["--original".into(), ORIGINAL_HELPER.into()]);
    Ok(args)
}

fn packages_args(programs: &Programs) -> Result<Vec<OsString>> {
    let package = programs.copy(&build::debian_package()?)?;
    Ok(vec!["packages".into(), "--deb".into(), package.into()])
}

fn guest_args(root: &RootFs, programs: &Programs) -> Result<Vec<OsString>> {
    let mut args = nested_args("guest", root)?;
    args.extend(["--original".into(), ORIGINAL_HELPER.into()]);
    let helper = programs.debug("qemu-pr-helper")?;
    args.extend(["--helper".into(), helper.into()]);
    Ok(args)
}

fn migration_args(root: &RootFs, programs: &Programs) -> Result<Vec<OsString>> {
    let mut args = nested_args("migration", root)?;
    let helper = programs.debug("qemu-pr-helper")?;
    args.extend(["--helper".into(), helper.into()]);
    Ok(args)
}

fn libvirt_args(root: &RootFs, programs: &Programs) -> Result<Vec<OsString>> {
    let mut args = release_args("libvirt", root, programs)?;
    args.extend(["--prhctl".into(), programs.debug("prhctl")?.into()]);
    Ok(args)
}

/// Returns the arguments of a scenario with a nested guest and the release build of the helper.
fn release_args(scenario: &str, root: &RootFs, programs: &Programs) -> Result<Vec<OsString>> {
    let mut args = nested_args(scenario, root)?;
    let helper = programs.release("qemu-pr-helper")?;
    args.extend(["--helper".into(), helper.into()]);
    Ok(args)
}

fn nested_args(scenario: &str, root: &RootFs) -> Result<Vec<OsString>> {
    let nested = root.files.join("nested.initramfs");
    initramfs::for_nested_guest(&root.kernel, &nested)?;
    let mut args: Vec<OsString> = vec![scenario.into()];
    args.extend(["--kernel".into(), root.kernel.image().into()]);
    args.extend(["--initramfs".into(), nested.into()]);
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_version_follows_the_epoch() {
        assert_eq!(major_version("1:11.1.2+ds-3"), Some(11));
        assert_eq!(major_version("10.0.2"), Some(10));
        assert_eq!(major_version("unknown"), None);
    }
}
