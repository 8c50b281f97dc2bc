// SPDX-License-Identifier: MIT OR Apache-2.0

//! The programs that are compared: our helper, QEMU's helper, the floor, and additions from the
//! command line.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, Result, ensure};

use pr_testkit::build;

/// Names of the standard subjects.
pub(super) const OURS: &str = "ours";
pub(super) const ORIGINAL: &str = "C";
pub(super) const FLOOR: &str = "floor";

/// Our helper without trace points, and with all events in a binary trace.
pub(super) const UNTRACED: &str = "untraced";
pub(super) const SIMPLE: &str = "simple";

/// Path of QEMU's helper in Debian's package qemu-system-common.
const ORIGINAL_HELPER: &str = "/usr/bin/qemu-pr-helper";

/// A helper and its command line, without the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    /// Option that takes the socket's path.
    pub(super) socket_option: &'static str,
}

impl Subject {
    pub(super) fn new(name: &str, program: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            arguments: Vec::new(),
            socket_option: "-k",
        }
    }

    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name
    }
}

impl FromStr for Subject {
    type Err = anyhow::Error;

    /// Parses `NAME=COMMAND`. Blanks separate the words of the command; quotes have no meaning.
    fn from_str(text: &str) -> Result<Self> {
        let (name, command) = text.split_once('=').context("expected NAME=COMMAND")?;
        ensure!(!name.is_empty(), "the name is empty");
        let mut args = command.split_whitespace();
        let program = args.next().context("the command is empty")?;
        Ok(Self {
            arguments: args.map(str::to_owned).collect(),
            ..Self::new(name, Path::new(program))
        })
    }
}

/// Builds the subjects of the scenario `trace`; the trace goes to `file`.
pub(super) fn find_traced(only: &[String], file: &Path) -> Result<Vec<Subject>> {
    let is_chosen = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
    let mut found = Vec::new();
    if is_chosen(UNTRACED) {
        found.push(Subject::new(UNTRACED, &build::untraced()?));
    }
    if is_chosen(SIMPLE) {
        let option = format!("*,file={}", file.display());
        let arguments = ["--trace-backend", "simple", "-T", &option];
        found.push(Subject {
            arguments: arguments.map(str::to_owned).to_vec(),
            ..Subject::new(SIMPLE, &build::release("qemu-pr-helper")?)
        });
    }
    Ok(found)
}

/// Builds and finds the subjects, in the order of their columns. `executable` is the release build
/// of this program, which contains the floor.
pub(super) fn find(only: &[String], also: &[Subject], executable: &Path) -> Result<Vec<Subject>> {
    let is_chosen = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
    let mut found = Vec::new();
    if is_chosen(OURS) {
        found.push(Subject::new(OURS, &build::release("qemu-pr-helper")?));
    }
    if is_chosen(FLOOR) {
        found.push(Subject {
            arguments: vec!["bench-floor".into()],
            socket_option: "--socket",
            ..Subject::new(FLOOR, executable)
        });
    }
    let original = Path::new(ORIGINAL_HELPER);
    if is_chosen(ORIGINAL) && original.exists() {
        found.push(Subject::new(ORIGINAL, original));
    } else if is_chosen(ORIGINAL) {
        println!("bench: QEMU's helper skipped: {ORIGINAL_HELPER} does not exist");
    }
    for subject in also.iter().filter(|also| is_chosen(&also.name)) {
        ensure!(
            found.iter().all(|other| other.name != subject.name),
            "two subjects have the name {}",
            subject.name
        );
        found.push(subject.clone());
    }
    let names = || found.iter().map(|subject| subject.name.as_str());
    let optional = [ORIGINAL, UNTRACED, SIMPLE];
    for only in only
        .iter()
        .filter(|only| !optional.contains(&only.as_str()))
    {
        ensure!(
            names().any(|name| name == only),
            "there is no subject {only}"
        );
    }
    ensure!(!found.is_empty(), "no subjects left to measure");
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subject_is_parsed_from_name_and_command() {
        let traced: Subject = "traced=/x/helper -T *,file=/dev/null".parse().unwrap();
        assert_eq!(traced.name, "traced");
        assert_eq!(traced.program, Path::new("/x/helper"));
        assert_eq!(traced.arguments, ["-T", "*,file=/dev/null"]);
        for wrong in ["traced", "=/x/helper", "traced= "] {
            assert!(wrong.parse::<Subject>().is_err(), "{wrong}");
        }
    }
}
