//! Builds what machines and benchmarks run, and asks cargo where the results are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::process;

/// A program that cargo built.
pub(crate) struct Program {
    /// The binary.
    pub(crate) executable: PathBuf,
    /// The folder of its package, where `cargo test` would run it.
    pub(crate) folder: PathBuf,
}

/// Cargo's target folder, wherever the configuration or `CARGO_TARGET_DIR` puts it.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let answer: Value = metadata(&["--no-deps"])?;
    answer["target_directory"]
        .as_str()
        .map(PathBuf::from)
        .context("cargo metadata did not name the target folder")
}

/// What cargo says of the workspace.
pub(crate) fn metadata<T: DeserializeOwned>(arguments: &[&str]) -> Result<T> {
    let mut command = cargo();
    command
        .args(["metadata", "--format-version=1"])
        .args(arguments);
    let answer = process::output(&mut command)?;
    serde_json::from_slice(&answer).context("cargo metadata did not print what it should")
}

/// What the compiler calls this machine.
pub(crate) fn host() -> Result<String> {
    let version = process::text(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .context("rustc did not say what it compiles for")
}

/// Builds the helper.
pub(crate) fn helper() -> Result<PathBuf> {
    let package = "--package=qemu-pr-helper";
    let built = build(
        &["build", "--bin=qemu-pr-helper", package],
        "qemu-pr-helper",
    )?;
    Ok(built.executable)
}

/// Builds the operator's client.
pub(crate) fn prhctl() -> Result<PathBuf> {
    let built = build(&["build", "--bin=prhctl", "--package=prhctl"], "prhctl")?;
    Ok(built.executable)
}

/// Builds a program of the workspace as it is installed; its package has the same name.
pub(crate) fn release(name: &str) -> Result<PathBuf> {
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

/// Builds the helper as it is installed, but without trace points, in a target folder of its own.
pub(crate) fn untraced() -> Result<PathBuf> {
    let mut command = cargo();
    command
        .env("RUSTFLAGS", "--cfg untraced")
        .env("CARGO_TARGET_DIR", target_folder()?.join("untraced"))
        .args(["build", "--release", "--package=qemu-pr-helper"]);
    Ok(built_by(command, "qemu-pr-helper")?.executable)
}

/// The programs that are installed.
pub(crate) struct Installed {
    /// The helper.
    pub(crate) helper: PathBuf,
    /// The operator's client.
    pub(crate) prhctl: PathBuf,
}

/// Builds what packages have in them: both programs as they are released, with static probes, without symbols and
/// without the paths of this machine, so that others build the same. In a target folder of its own.
pub(crate) fn packaged() -> Result<Installed> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let home = home.context("there is neither CARGO_HOME nor HOME")?;
    let sources = root().canonicalize()?;
    // The last that fits counts.
    let flags = [
        (home.as_path(), "cargo"),
        (sources.as_path(), "qemu-pr-helper"),
    ]
    .map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display()));
    let mut command = cargo();
    command
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .env("CARGO_TARGET_DIR", target_folder()?.join("packaged"))
        .args(["build", "--release", "--locked", "--package=qemu-pr-helper"])
        .args(["--package=prhctl", "--features=qemu-pr-helper/usdt"]);
    let messages = messages_of(&mut command)?;
    let program = |name| {
        let program = executable(&messages, name);
        let program = program.with_context(|| format!("cargo built no {name}"))?;
        Ok::<_, anyhow::Error>(program.executable)
    };
    Ok(Installed {
        helper: program("qemu-pr-helper")?,
        prhctl: program("prhctl")?,
    })
}

/// Asks cargo something that it answers with text.
pub(crate) fn ask(arguments: &[&str]) -> Result<String> {
    process::text(cargo().args(arguments))
}

/// The folder of the sources.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The code generator's part of libFuzzer: counters for edges, and what is compared with what.
const COVERAGE: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Where the fuzzer is built, and what it keeps.
pub(crate) fn fuzzing_folder() -> Result<PathBuf> {
    Ok(target_folder()?.join("fuzz"))
}

/// Builds the targets with libFuzzer.
pub(crate) fn fuzzer() -> Result<PathBuf> {
    let mut command = cargo();
    command
        .env("RUSTFLAGS", format!("--cfg fuzzing {}", COVERAGE.join(" ")))
        .env("CARGO_TARGET_DIR", fuzzing_folder()?)
        .args(["build", "--profile=fuzz", "--package=fuzz", "--bin=fuzz"])
        // With its name, for else macros and build scripts are built in this way too, and cannot be linked.
        .arg(format!("--target={}", host()?));
    Ok(built_by(command, "fuzz")?.executable)
}

/// Builds what counts the instructions of a package, as it is released.
pub(crate) fn instructions(package: &str) -> Result<PathBuf> {
    let name = "instructions";
    let package = format!("--package={package}");
    let built = build(&["bench", "--no-run", "--bench", name, &package], name)?;
    Ok(built.executable)
}

/// Builds the compatibility suite.
pub(crate) fn compat() -> Result<Program> {
    let package = "--package=qemu-pr-helper";
    build(&["test", "--no-run", "--test=compat", package], "compat")
}

/// Builds the comparison of the software logical unit with the kernel's target.
pub(crate) fn lio() -> Result<Program> {
    let package = "--package=soft-lun";
    build(&["test", "--no-run", "--test=lio", package], "lio")
}

fn cargo() -> Command {
    // Set by the cargo that runs us; the fallback is for a binary that was started by hand.
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

fn build(arguments: &[&str], name: &str) -> Result<Program> {
    let mut command = cargo();
    command.args(arguments);
    built_by(command, name)
}

fn built_by(mut command: Command, name: &str) -> Result<Program> {
    let messages = messages_of(&mut command)?;
    executable(&messages, name)
        .with_context(|| format!("{} built no {name}", process::shown(&command)))
}

/// What cargo says of what it builds.
fn messages_of(command: &mut Command) -> Result<String> {
    command
        .arg("--message-format=json-render-diagnostics")
        // Progress and compiler messages are for the person who waits.
        .stderr(Stdio::inherit());
    process::text(command)
}

/// Finds the program in cargo's messages, which are one JSON object a line.
fn executable(messages: &str, name: &str) -> Option<Program> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| {
            Some(Program {
                executable: message["executable"].as_str()?.into(),
                folder: Path::new(message["manifest_path"].as_str()?)
                    .parent()?
                    .into(),
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_found_among_other_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"compat"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"other"},"executable":"/t/other"}"#,
            "\nnot JSON\n",
            r#"{"reason":"compiler-artifact","target":{"name":"compat"},"executable":"/t/compat-1","#,
            r#""manifest_path":"/p/Cargo.toml"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let program = executable(messages, "compat").unwrap();
        assert_eq!(program.executable, Path::new("/t/compat-1"));
        assert_eq!(program.folder, Path::new("/p"));
        assert!(executable(messages, "absent").is_none());
    }
}
