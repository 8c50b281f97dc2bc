//! Where the helper's program is.

use std::env;
use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use linux_util::signals::SignalMask;
use serde::Deserialize;
use thiserror::Error;

/// The program's name.
const PROGRAM: &str = "qemu-pr-helper";

/// Why there is no helper to be started.
#[derive(Debug, Error)]
pub(crate) enum HelperError {
    /// None is beside this program.
    #[error("{}: no such program", .0.display())]
    NotFound(PathBuf),
    /// cargo cannot be started.
    #[error("cannot start cargo to build the helper")]
    Cargo(#[source] io::Error),
    /// cargo could not build it.
    #[error("cargo could not build the helper: {0}")]
    Build(ExitStatus),
    /// cargo has built it, and does not say where it is.
    #[error("cargo does not say where it has put the helper")]
    Unknown,
}

/// The helper to be started: the one that was chosen, or the one beside this program. Where `cargo run` has
/// built this program, that builds no more than it, so the helper is built first.
pub(super) fn find(chosen: Option<&Path>, mask: SignalMask) -> Result<PathBuf, HelperError> {
    if let Some(chosen) = chosen {
        return Ok(chosen.to_owned());
    }
    let this = env::current_exe().unwrap_or_default();
    if let Some((cargo, folder)) = cargo(&this) {
        return build(&cargo, &folder, mask);
    }
    let beside = this.with_file_name(PROGRAM);
    match beside.is_file() {
        true => Ok(beside),
        false => Err(HelperError::NotFound(beside)),
    }
}

/// cargo and this package's folder, if cargo has started this program, and has built it: it stands
/// where cargo puts programs, beside a folder `deps`. A copy that is installed builds nothing.
fn cargo(this: &Path) -> Option<(PathBuf, PathBuf)> {
    let is_ours =
        env::var_os("CARGO_PKG_NAME").as_deref() == Some(OsStr::new(env!("CARGO_PKG_NAME")));
    let is_built = this.with_file_name("deps").is_dir();
    let cargo = env::var_os("CARGO").filter(|_| is_ours && is_built)?;
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
    folder
        .join("Cargo.toml")
        .is_file()
        .then_some((cargo.into(), folder))
}

/// What cargo says of a program that it has built, one JSON document a line.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
}

fn build(cargo: &Path, folder: &Path, mask: SignalMask) -> Result<PathBuf, HelperError> {
    let mut command = Command::new(cargo);
    command
        .args(["build", "--package", PROGRAM, "--bin", PROGRAM])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let mut child = mask
        .apply_to(&mut command)
        .spawn()
        .map_err(HelperError::Cargo)?;
    let mut said = String::new();
    if let Some(mut output) = child.stdout.take() {
        output
            .read_to_string(&mut said)
            .map_err(HelperError::Cargo)?;
    }
    let status = child.wait().map_err(HelperError::Cargo)?;
    if !status.success() {
        return Err(HelperError::Build(status));
    }
    said.lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok()?.executable)
        .find(|executable| executable.file_name() == Some(OsStr::new(PROGRAM)))
        .ok_or(HelperError::Unknown)
}
