// SPDX-License-Identifier: MIT OR Apache-2.0

//! The path of the helper binary.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use linux_util::signals::SignalMask;
use serde::Deserialize;

use super::DemoError;

const NAME: &str = "qemu-pr-helper";

/// Returns the given binary, or the one in the directory of this program. Because `cargo run`
/// builds only prhctl, the helper is built first there.
pub(super) fn find(given: Option<&Path>, mask: SignalMask) -> Result<PathBuf, DemoError> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let this = env::current_exe().unwrap_or_default();
    if let Some((cargo, dir)) = cargo_and_manifest_dir(&this) {
        return build(&cargo, &dir, mask);
    }
    let binary = this.with_file_name(NAME);
    match binary.is_file() {
        true => Ok(binary),
        false => Err(DemoError::HelperNotFound(binary)),
    }
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
