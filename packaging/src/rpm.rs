// SPDX-License-Identifier: MIT OR Apache-2.0

//! Builds packages for Fedora, RHEL and SUSE with rpmbuild.

use std::path::{Path, absolute};

use anyhow::Result;

use super::staging::{self, Family};
use super::{NAME, PackageInputs, RELEASE, VERSION};
use pr_testkit::process::{command, run};

/// Builds a package in `dir`, with the staging directory `dir/rpm`.
pub fn build(dir: &Path, inputs: &PackageInputs) -> Result<()> {
    let dir = absolute(dir)?;
    let work = dir.join("rpm");
    let root = work.join("root");
    staging::files(&root, inputs, Family::Other)?;
    staging::normalize_modes(&root)?;
    let mut rpmbuild = command("rpmbuild");
    rpmbuild.env("SOURCE_DATE_EPOCH", &inputs.source_date.epoch);
    rpmbuild.args(["-bb", "--quiet"]);
    for (name, value) in [
        ("_topdir", work.to_string_lossy().as_ref()),
        ("_rpmdir", &dir.to_string_lossy()),
        ("staging_dir", &root.to_string_lossy()),
        ("package_name", NAME),
        ("package_version", VERSION),
        ("package_release", RELEASE),
        ("packager", &inputs.maintainer),
    ] {
        rpmbuild.arg(format!("--define={name} {value}"));
    }
    run(rpmbuild.arg(staging::source_dir().join("rpm/qemu-pr-helper-rs.spec")))
}
