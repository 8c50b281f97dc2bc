// SPDX-License-Identifier: MIT OR Apache-2.0

//! Builds programs with cargo and returns the paths of the executables.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use anyhow::{Context as _, Result, anyhow};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::process;

/// A program that cargo built.
pub struct Program {
    /// Path of the executable.
    pub executable: PathBuf,
    /// Directory of its package, which is the working directory of `cargo test`.
    pub dir: PathBuf,
}

/// Returns cargo's target directory, which the configuration or `CARGO_TARGET_DIR` can move.
pub fn target_dir() -> Result<PathBuf> {
    let answer: Value = metadata(&["--no-deps"])?;
    answer["target_directory"]
        .as_str()
        .map(PathBuf::from)
        .context("cargo metadata did not print the target directory")
}

/// Returns the output of `cargo metadata`.
pub fn metadata<T: DeserializeOwned>(arguments: &[&str]) -> Result<T> {
    let mut command = cargo();
    command
        .args(["metadata", "--format-version=1"])
        .args(arguments);
    let answer = process::output(&mut command)?;
    serde_json::from_slice(&answer).context("cargo metadata printed unexpected JSON")
}

/// Returns the target triple of this machine.
pub fn host() -> Result<String> {
    let version = process::text(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV printed no host")
}

/// Builds a program; its package has the same name.
pub fn debug(name: &str) -> Result<PathBuf> {
    let package = format!("--package={name}");
    let built = build(&["build", &format!("--bin={name}"), &package], name)?;
    Ok(built.executable)
}

/// Builds the release version of a program; its package has the same name.
pub fn release(name: &str) -> Result<PathBuf> {
    let built = build(
        &[
            "build",
            "--release",
            &format!("--package={name}"),
            &format!("--bin={name}"),
        ],
        name,
    )?;
    Ok(built.executable)
}

/// Builds the release version of the helper without trace points, in a target directory of its own.
pub fn untraced() -> Result<PathBuf> {
    let mut command = cargo();
    command
        .env("RUSTFLAGS", "--cfg untraced")
        .env("CARGO_TARGET_DIR", target_dir()?.join("untraced"))
        .args(["build", "--release", "--package=qemu-pr-helper"]);
    Ok(run_build(command, "qemu-pr-helper")?.executable)
}

/// The installed programs.
pub struct Installed {
    /// The helper.
    pub helper: PathBuf,
    /// Path of `prhctl`.
    pub prhctl: PathBuf,
}

/// Builds the programs of the packages: release builds with static probes, without symbols and
/// without paths of this machine, so that the build is reproducible. They have a target directory
/// of their own, `name`.
pub fn packaged(name: &str) -> Result<Installed> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let home = home.context("neither CARGO_HOME nor HOME is set")?;
    let sources = root().canonicalize()?;
    let target_dir = target_dir()?.join(name);
    // The last matching prefix is used.
    let flags = [
        (home.as_path(), "cargo"),
        (sources.as_path(), "qemu-pr-helper"),
        (target_dir.as_path(), "target"),
    ]
    .map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display()));
    let mut command = cargo();
    command
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .env("CARGO_TARGET_DIR", &target_dir)
        .args(["build", "--release", "--locked", "--package=qemu-pr-helper"])
        .args(["--package=prhctl", "--features=qemu-pr-helper/usdt"]);
    let messages = build_messages(&mut command)?;
    let program = |name| {
        let program = find_executable(&messages, name);
        let program = program.with_context(|| format!("cargo did not build {name}"))?;
        Ok::<_, anyhow::Error>(program.executable)
    };
    Ok(Installed {
        helper: program("qemu-pr-helper")?,
        prhctl: program("prhctl")?,
    })
}

/// Builds Debian's package and returns its path.
///
/// # Errors
///
/// Fails if the package cannot be built, or if `target/dist` does not have exactly one.
pub fn debian_package() -> Result<PathBuf> {
    process::run(cargo().args(["xtask", "dist", "deb"]))?;
    let dir = target_dir()?.join("dist");
    let entries = fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let paths: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut packages = paths?;
    packages.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let [package] = <[PathBuf; 1]>::try_from(packages)
        .map_err(|_| anyhow!("{} does not have one package", dir.display()))?;
    Ok(package)
}

/// Returns the output of a cargo command.
pub fn cargo_output(arguments: &[&str]) -> Result<String> {
    process::text(cargo().args(arguments))
}

/// Returns the directory of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Builds the cases of a package for `cargo xtask instructions`.
pub fn instructions(package: &str) -> Result<PathBuf> {
    let name = "instructions";
    let package = format!("--package={package}");
    let built = build(&["bench", "--no-run", "--bench", name, &package], name)?;
    Ok(built.executable)
}

/// Builds the compatibility suite.
pub fn compat() -> Result<Program> {
    let package = "--package=qemu-pr-helper";
    build(&["test", "--no-run", "--test=compat", package], "compat")
}

/// Builds the comparison of `soft-lun` with LIO.
pub fn lio() -> Result<Program> {
    let package = "--package=soft-lun";
    build(&["test", "--no-run", "--test=lio", package], "lio")
}

fn cargo() -> Command {
    // Cargo sets the variable; the fallback is for a binary that was started by hand.
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

fn build(arguments: &[&str], name: &str) -> Result<Program> {
    let mut command = cargo();
    command.args(arguments);
    run_build(command, name)
}

fn run_build(mut command: Command, name: &str) -> Result<Program> {
    let messages = build_messages(&mut command)?;
    find_executable(&messages, name)
        .with_context(|| format!("{} did not build {name}", process::command_line(&command)))
}

/// Runs a cargo command and returns its JSON messages.
fn build_messages(command: &mut Command) -> Result<String> {
    command
        .arg("--message-format=json-render-diagnostics")
        // Show progress and compiler messages on the terminal.
        .stderr(Stdio::inherit());
    process::text(command)
}

/// Finds an executable in cargo's messages, of which each is one JSON object in a line.
fn find_executable(messages: &str, name: &str) -> Option<Program> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| {
            Some(Program {
                executable: message["executable"].as_str()?.into(),
                dir: Path::new(message["manifest_path"].as_str()?)
                    .parent()?
                    .into(),
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executable_is_found_among_other_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"compat"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"other"},"executable":"/t/other"}"#,
            "\nnot JSON\n",
            r#"{"reason":"compiler-artifact","target":{"name":"compat"},"#,
            r#""executable":"/t/compat-1","manifest_path":"/p/Cargo.toml"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let program = find_executable(messages, "compat").unwrap();
        assert_eq!(program.executable, Path::new("/t/compat-1"));
        assert_eq!(program.dir, Path::new("/p"));
        assert!(find_executable(messages, "absent").is_none());
    }
}
