// SPDX-License-Identifier: MIT OR Apache-2.0

//! The path of the helper binary.

use std::env;
use std::ffi::OsStr;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use linux_util::signals::SignalMask;
use rustix::fs::{Access, access};
use serde::Deserialize;

use super::DemoError;

const NAME: &str = "qemu-pr-helper";

/// Directories that distributions install QEMU's helper to. A package of this project replaces it.
pub(super) const SYSTEM_DIRS: [&str; 3] = ["/usr/libexec", "/usr/lib/qemu", "/usr/bin"];

/// Returns the given binary, or the first one of this project: in the directory of this program, in
/// `PATH`, or where distributions install it. Because `cargo run` builds only prhctl, the helper is
/// built first there.
pub(super) fn find(given: Option<&Path>, mask: SignalMask) -> Result<PathBuf, DemoError> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let this = env::current_exe().unwrap_or_default();
    if let Some((cargo, dir)) = cargo_and_manifest_dir(&this) {
        return build(&cargo, &dir, mask);
    }
    let own_dir = this.parent().unwrap_or(&this).to_owned();
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = iter::once(own_dir.clone())
        .chain(env::split_paths(&path))
        .chain(SYSTEM_DIRS.map(PathBuf::from));
    let mut other = None;
    for binary in dirs.map(|dir| dir.join(NAME)) {
        let is_executable = binary.is_file() && access(&binary, Access::EXEC_OK).is_ok();
        if is_executable && supports_soft_luns(&binary, mask) {
            return Ok(binary);
        }
        if is_executable {
            other.get_or_insert(binary);
        }
    }
    Err(DemoError::HelperNotFound { own_dir, other })
}

/// Returns whether the help page of a helper has the option that the demonstration needs. QEMU's
/// helper, which has the same name, lacks it.
fn supports_soft_luns(binary: &Path, mask: SignalMask) -> bool {
    let mut command = Command::new(binary);
    command.arg("--help").stdin(Stdio::null());
    let output = mask.apply_to(&mut command).output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("--soft-luns"))
}

/// Returns cargo and the directory of this package, if cargo has built and started this program:
/// then the program's directory contains `deps`. An installed copy builds nothing.
fn cargo_and_manifest_dir(this: &Path) -> Option<(PathBuf, PathBuf)> {
    let package = env::var_os("CARGO_PKG_NAME");
    let is_ours = package.as_deref() == Some(OsStr::new(env!("CARGO_PKG_NAME")));
    let is_built = this.with_file_name("deps").is_dir();
    let cargo = env::var_os("CARGO").filter(|_| is_ours && is_built)?;
    let dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
    let has_manifest = dir.join("Cargo.toml").is_file();
    has_manifest.then_some((cargo.into(), dir))
}

/// A message of cargo about a built file, one JSON document per line.
#[derive(Deserialize)]
struct BuildMessage {
    executable: Option<PathBuf>,
}

fn build(cargo: &Path, dir: &Path, mask: SignalMask) -> Result<PathBuf, DemoError> {
    let mut command = Command::new(cargo);
    command
        .args(["build", "--package", NAME, "--bin", NAME])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = mask.apply_to(&mut command).output();
    let output = output.map_err(DemoError::Cargo)?;
    if !output.status.success() {
        return Err(DemoError::Build(output.status));
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<BuildMessage>(line).ok()?.executable)
        .find(|executable| executable.file_name() == Some(OsStr::new(NAME)))
        .ok_or(DemoError::NoBuildPath)
}
