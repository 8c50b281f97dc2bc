//! The values of `--trace`: `[[enable=]PATTERN][,events=FILE][,file=FILE]`.
//!
//! They are QEMU option strings: a comma separates, two commas are one in a value, and the first
//! part may leave out its key.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use thiserror::Error;

use super::events::ALL;
use super::{Event, FILE};
use crate::logging::PROGRAM;

/// The keys that a part can have.
const KEYS: [&str; 3] = ["enable", "events", "file"];

/// Why a value of `--trace` cannot be used.
#[derive(Debug, Error)]
pub enum TraceError {
    /// A key is none of `enable`, `events` and `file`.
    #[error("--trace: invalid parameter '{0}'; there are enable=, events= and file=")]
    Key(String),
    /// A file of events cannot be read.
    #[error("--trace: cannot read events file '{path}'", path = .0.display())]
    Events(PathBuf, #[source] io::Error),
    /// The file for the trace cannot be made.
    #[error("--trace: cannot write trace file '{path}'", path = .0.display())]
    File(PathBuf, #[source] io::Error),
}

/// What to do after the options were applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Start.
    Start,
    /// Print the names of the events, and end.
    ListEvents,
}

/// Applies the values in the order in which they were given.
///
/// Names that no event has are warned of and passed over.
///
/// # Errors
///
/// [`TraceError`].
pub fn apply(values: &[String]) -> Result<Next, TraceError> {
    let mut file = None;
    for value in values {
        // Each value says anew where the trace goes; without file= it is standard error.
        file = None;
        let parts = parts(value);
        if let Some((key, _)) = parts.iter().find(|(key, _)| !KEYS.contains(&key.as_str())) {
            return Err(TraceError::Key(key.clone()));
        }
        for (key, value) in parts {
            let next = match key.as_str() {
                "enable" => enable(&value, PROGRAM),
                "events" => enable_listed(Path::new(&value))?,
                _ => {
                    file = Some(PathBuf::from(value));
                    Next::Start
                }
            };
            if next == Next::ListEvents {
                return Ok(next);
            }
        }
    }
    if let Some(path) = file {
        let opened = create(&path).map_err(|error| TraceError::File(path, error))?;
        // Only a second call fails: the place stays what it was.
        let _ = FILE.set(opened);
    }
    Ok(Next::Start)
}

/// A new file, or a pipe that somebody reads: waiting for a reader would be waiting for ever.
fn create(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(flags)
        .open(path)
}

/// The names of all events, one per line.
#[must_use]
pub fn listing() -> String {
    ALL.iter()
        .map(|event| format!("{}\n", event.name()))
        .collect()
}

/// Splits a QEMU option string into keys and values.
fn parts(value: &str) -> Vec<(String, String)> {
    let mut parts = Vec::new();
    let mut rest = value;
    while !rest.is_empty() {
        let (part, after) = first_part(rest);
        rest = after;
        parts.push(match part.split_once('=') {
            Some((key, value)) => (key.into(), value.into()),
            None if parts.is_empty() => ("enable".into(), part),
            None => (part, String::new()),
        });
    }
    parts
}

/// Everything up to the first comma that stands alone, and what is behind that comma.
fn first_part(text: &str) -> (String, &str) {
    let mut part = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(',') {
        part.push_str(before);
        match after.strip_prefix(',') {
            Some(after) => {
                part.push(',');
                rest = after;
            }
            None => return (part, after),
        }
    }
    part.push_str(rest);
    (part, "")
}

/// Enables, or with a leading `-` disables, what `pattern` names. `whence` stands before a warning.
fn enable(pattern: &str, whence: &str) -> Next {
    if pattern == "help" || pattern == "?" {
        return Next::ListEvents;
    }
    let (pattern, enabled) = match pattern.strip_prefix('-') {
        Some(rest) => (rest, false),
        None => (pattern, true),
    };
    let matching: Vec<&Event> = ALL
        .iter()
        .copied()
        .filter(|event| matches(pattern, event.name()))
        .collect();
    // A pattern may fit nothing, a name is a mistake then.
    if matching.is_empty() && !pattern.is_empty() && !pattern.contains('*') {
        crate::logging::write_line(&format!(
            "{whence}: warning: trace event '{pattern}' does not exist"
        ));
    }
    for event in matching {
        event.enable(enabled);
    }
    Next::Start
}

/// Treats each line of a file as a pattern. Lines that are empty or begin with `#` are passed over.
fn enable_listed(path: &Path) -> Result<Next, TraceError> {
    let text = fs::read_to_string(path).map_err(|error| TraceError::Events(path.into(), error))?;
    for (number, line) in (1..).zip(text.lines()) {
        let is_pattern = !line.is_empty() && !line.starts_with('#');
        let whence = || format!("{PROGRAM}:{}:{number}", path.display());
        if is_pattern && enable(line, &whence()) == Next::ListEvents {
            return Ok(Next::ListEvents);
        }
    }
    Ok(Next::Start)
}

/// Whether `name` fits `pattern`, in which `*` stands for anything and `?` for any one character.
fn matches(pattern: &str, name: &str) -> bool {
    let mut pattern = pattern.chars();
    let mut rest = name.chars();
    match pattern.next() {
        None => name.is_empty(),
        Some('*') => {
            let suffixes = name
                .char_indices()
                .filter_map(|(start, _)| name.get(start..));
            suffixes
                .chain([""])
                .any(|suffix| matches(pattern.as_str(), suffix))
        }
        Some(first) => {
            rest.next()
                .is_some_and(|found| first == '?' || first == found)
                && matches(pattern.as_str(), rest.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn option_strings_are_split_as_qemu_does() {
        let owned = |list: &[(&str, &str)]| -> Vec<(String, String)> {
            list.iter()
                .map(|(key, value)| ((*key).into(), (*value).into()))
                .collect()
        };
        for (text, expected) in [
            ("", &[][..]),
            ("pr_*", &[("enable", "pr_*")]),
            ("enable=a,file=/t,,x", &[("enable", "a"), ("file", "/t,x")]),
            ("events=/e,file=/t", &[("events", "/e"), ("file", "/t")]),
            ("a,b", &[("enable", "a"), ("b", "")]),
        ] {
            assert_eq!(parts(text), owned(expected), "{text}");
        }
    }

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("pr_helper_stopping", "pr_helper_stopping", true),
            ("pr_*", "pr_helper_stopping", true),
            ("*stop*", "pr_helper_stopping", true),
            ("*", "", true),
            ("pr_?elper*", "pr_helper_stopping", true),
            ("pr_*x", "pr_helper_stopping", false),
            ("", "pr_helper_stopping", false),
            ("pr_helper", "pr_helper_stopping", false),
            ("pr_helper_stoppingé", "pr_helper_stopping", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let error = apply(&["foo=1".into()]).unwrap_err();
        assert!(matches!(error, TraceError::Key(key) if key == "foo"));
    }

    #[test]
    fn help_asks_for_the_list() {
        for value in ["help", "?", "enable=help"] {
            assert_eq!(apply(&[value.into()]).unwrap(), Next::ListEvents);
        }
    }
}
