//! Who competes: ours, QEMU's helper, the floor, and what the command line adds.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, Result, ensure};

use crate::build;

/// The names of those that always compete.
pub(super) const OURS: &str = "ours";
pub(super) const ORIGINAL: &str = "C";
pub(super) const FLOOR: &str = "floor";

/// Ours without trace points, and with all events in a binary trace.
pub(super) const UNTRACED: &str = "untraced";
pub(super) const SIMPLE: &str = "simple";

/// QEMU's own helper, where Debian's package qemu-system-common puts it.
const ORIGINAL_HELPER: &str = "/usr/bin/qemu-pr-helper";

/// A helper, as it is started but for the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contestant {
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    /// The option that the socket's path stands behind.
    pub(super) socket_option: &'static str,
}

impl Contestant {
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

impl FromStr for Contestant {
    type Err = anyhow::Error;

    /// `NAME=COMMAND`, the words of the command with spaces between them.
    fn from_str(text: &str) -> Result<Self> {
        let (name, command) = text.split_once('=').context("expected NAME=COMMAND")?;
        ensure!(!name.is_empty(), "the name is empty");
        let mut words = command.split_whitespace();
        let program = words.next().context("the command is empty")?;
        Ok(Self {
            arguments: words.map(str::to_owned).collect(),
            ..Self::new(name, Path::new(program))
        })
    }
}

/// Builds those whom ours is compared with about traces; the trace is to be in `file`.
pub(super) fn find_traced(only: &[String], file: &Path) -> Result<Vec<Contestant>> {
    let is_chosen = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
    let mut found = Vec::new();
    if is_chosen(UNTRACED) {
        found.push(Contestant::new(UNTRACED, &build::untraced()?));
    }
    if is_chosen(SIMPLE) {
        let option = format!("*,file={}", file.display());
        let arguments = ["--trace-backend", "simple", "-T", &option];
        found.push(Contestant {
            arguments: arguments.map(str::to_owned).to_vec(),
            ..Contestant::new(SIMPLE, &build::release("qemu-pr-helper")?)
        });
    }
    Ok(found)
}

/// Builds and finds those who compete, in the order of their columns. `parts` is this program as it is
/// released, which the floor is a part of.
pub(super) fn find(only: &[String], also: &[Contestant], parts: &Path) -> Result<Vec<Contestant>> {
    let is_chosen = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
    let mut found = Vec::new();
    if is_chosen(OURS) {
        found.push(Contestant::new(OURS, &build::release("qemu-pr-helper")?));
    }
    if is_chosen(FLOOR) {
        found.push(Contestant {
            arguments: vec!["bench-floor".into()],
            socket_option: "--socket",
            ..Contestant::new(FLOOR, parts)
        });
    }
    let original = Path::new(ORIGINAL_HELPER);
    if is_chosen(ORIGINAL) && original.exists() {
        found.push(Contestant::new(ORIGINAL, original));
    } else if is_chosen(ORIGINAL) {
        println!("xtask: no {ORIGINAL_HELPER}: nothing is compared with QEMU's helper");
    }
    for contestant in also.iter().filter(|also| is_chosen(&also.name)) {
        ensure!(
            found.iter().all(|other| other.name != contestant.name),
            "there are two contestants of the name {}",
            contestant.name
        );
        found.push(contestant.clone());
    }
    let names = || found.iter().map(|contestant| contestant.name.as_str());
    let may_lack = [ORIGINAL, UNTRACED, SIMPLE];
    for only in only
        .iter()
        .filter(|only| !may_lack.contains(&only.as_str()))
    {
        ensure!(
            names().any(|name| name == only),
            "there is no contestant {only}"
        );
    }
    ensure!(!found.is_empty(), "nobody is left to be measured");
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contestant_has_a_name_and_a_command() {
        let traced: Contestant = "traced=/x/helper -T *,file=/dev/null".parse().unwrap();
        assert_eq!(traced.name, "traced");
        assert_eq!(traced.program, Path::new("/x/helper"));
        assert_eq!(traced.arguments, ["-T", "*,file=/dev/null"]);
        for wrong in ["traced", "=/x/helper", "traced= "] {
            assert!(wrong.parse::<Contestant>().is_err(), "{wrong}");
        }
    }
}
