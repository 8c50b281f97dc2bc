// SPDX-License-Identifier: MIT OR Apache-2.0

//! Builds Debian packages with dpkg's tools.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::staging::{self, Family};
use super::{NAME, PackageInputs, RELEASE, VERSION};
use pr_testkit::process::{command, run};

/// Control files of the package that need no changes.
const CONTROL_FILES: [&str; 5] = ["conffiles", "preinst", "postinst", "prerm", "postrm"];

/// Builds a package in `dir`, with the staging directory `dir/deb`.
pub fn build(dir: &Path, inputs: &PackageInputs) -> Result<()> {
    let (source_date, maintainer) = (&inputs.source_date, &inputs.maintainer);
    let work = dir.join("deb");
    let root = work.join("root");
    staging::files(&root, inputs, Family::Debian)?;
    let changelog = format!(
        "{NAME} ({VERSION}-{RELEASE}) unstable; urgency=medium\n\n  \
         * Built by cargo xtask dist.\n\n -- {maintainer}  {}\n",
        source_date.rfc5322
    );
    staging::write(&work.join("debian/changelog"), &changelog)?;
    let installed = staging::documents_dir(&root).join("changelog.Debian");
    staging::write(&installed, &changelog)?;
    staging::compress(&installed)?;
    let source = staging::source_dir().join("deb");
    for name in CONTROL_FILES {
        staging::copy(&source.join(name), &root.join("DEBIAN").join(name))?;
    }
    staging::copy(&source.join("control"), &work.join("debian/control"))?;
    // dpkg's tools read `debian/control` in the working directory.
    run(dpkg("dpkg-shlibdeps", &work)
        .arg("-Tdebian/substvars")
        .args(["root/usr/bin/qemu-pr-helper", "root/usr/bin/prhctl"]))?;
    run(dpkg("dpkg-gencontrol", &work)
        .args(["-Proot", "-Tdebian/substvars", "-fdebian/files"])
        .arg(format!("-DMaintainer={maintainer}")))?;
    staging::normalize_modes(&root)?;
    run(dpkg("dpkg-deb", &work)
        .env("SOURCE_DATE_EPOCH", &source_date.epoch)
        // The compressor is a default of the distribution, and the number of threads that of the
        // processors.
        .args([
            "-Zxz",
            "--threads-max=1",
            "--root-owner-group",
            "--build",
            "root",
        ])
        .arg(fs::canonicalize(dir)?))
}

fn dpkg(tool: &str, work: &Path) -> Command {
    let mut command = command(tool);
    command.current_dir(work);
    command
}
