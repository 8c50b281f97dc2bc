// SPDX-License-Identifier: MIT OR Apache-2.0

//! Values of `--trace`: `[[enable=]PATTERN][,events=FILE][,file=FILE]`.
//!
//! A value is a QEMU option string: commas separate its parts, and a doubled comma is a literal
//! one. The first part can omit its key. If a key is repeated, its last value counts. As in QEMU,
//! `enable` takes effect first, then `events`, then `file`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf, absolute};

use clap::ValueEnum;
use cli_messages::error::system_error;
use log::Level;
use thiserror::Error;

use super::events::ALL;
use crate::logging::{PROGRAM, write_line};

/// Error in a value of `--trace`.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The key is not `enable`, `events` or `file`.
    #[error("--trace: Invalid parameter '{0}'; valid parameters are enable=, events= and file=")]
    UnknownKey(String),
    /// The key has no value.
    #[error("--trace: parameter '{0}' expects a value")]
    MissingValue(String),
    /// The events file cannot be read.
    #[error(
        "--trace: cannot read events file '{path}': {cause}; choose another one with events=",
        path = .0.display(), cause = system_error(.1)
    )]
    EventsFile(PathBuf, io::Error),
    /// No selected backend writes to a file.
    #[error(
        "--trace file=...: option not supported by the selected tracing backends; \
         add --trace-backend log or simple"
    )]
    UnsupportedFile,
}

/// Value of `--trace-backend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TraceBackend {
    /// A line of text per event, to standard error or file=
    Log,
    /// A binary record per event, to file= or ./trace-PID
    Simple,
    #[expect(
        clippy::doc_markdown,
        reason = "--help shows this text, which has no markup"
    )]
    /// The kernel's own trace, through trace_marker
    Ftrace,
    /// The system log, with facility daemon and priority info
    Syslog,
}

/// Destination of the traces.
#[derive(Clone, Debug)]
pub struct TraceSettings {
    /// Backends; never empty.
    pub backends: Vec<TraceBackend>,
    /// Absolute path of the file of `log` or `simple`, if any.
    pub file: Option<PathBuf>,
    /// Set if lines begin with the thread ID and the time.
    pub timestamp: bool,
    /// Directory in which `simple` creates a file if `file` is `None`.
    pub dir: PathBuf,
}

/// Action that follows from the options.
#[derive(Clone, Debug)]
pub enum TraceAction {
    /// Start the helper with these settings.
    Start(TraceSettings),
    /// Print the names of the events and exit.
    ListEvents,
}

/// Applies the values of `--trace` in order: enables and disables events, and returns the settings.
///
/// The default backend is `log`. A name that does not match an event causes a warning.
///
/// # Errors
///
/// Returns a [`TraceError`] if a value is malformed, an events file cannot be read, or `file=` is
/// used without a backend that writes to a file.
pub fn apply(
    values: &[String],
    backends: &[TraceBackend],
    timestamp: bool,
) -> Result<TraceAction, TraceError> {
    let mut file = None;
    for value in values {
        let [pattern, events, path] = parse(value)?;
        if pattern.is_some_and(|pattern| enable(&pattern, PROGRAM))
            || events.map_or(Ok(false), |path| enable_listed(Path::new(&path)))?
        {
            return Ok(TraceAction::ListEvents);
        }
        // A value without `file=` selects standard error again.
        file = path.map(PathBuf::from);
    }
    let backends = match backends {
        [] => vec![TraceBackend::Log],
        backends => backends.to_owned(),
    };
    let takes_file = |backend| matches!(backend, &TraceBackend::Log | &TraceBackend::Simple);
    if file.is_some() && !backends.iter().any(takes_file) {
        return Err(TraceError::UnsupportedFile);
    }
    Ok(TraceAction::Start(TraceSettings {
        backends,
        file: file.map(|path| absolute(&path).unwrap_or(path)),
        timestamp,
        // A daemon changes its working directory before it opens the trace.
        dir: absolute(".").unwrap_or_else(|_| PathBuf::from("/")),
    }))
}

/// Returns the names of all events, one per line.
pub(crate) fn event_names() -> String {
    ALL.iter()
        .map(|event| event.name().to_owned() + "\n")
        .collect()
}

/// Keys of an option string, in the order in which they take effect.
const KEYS: [&str; 3] = ["enable", "events", "file"];

/// Parses a QEMU option string. Returns the value of each of the [`KEYS`].
fn parse(option: &str) -> Result<[Option<String>; 3], TraceError> {
    let mut values = [const { None }; 3];
    // A NUL byte can replace a literal comma, because a command-line argument never contains one.
    let option = option.replace(",,", "\0");
    for (index, part) in option.split_terminator(',').enumerate() {
        let part = part.replace('\0', ",");
        let (key, value) = match part.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None if index == 0 => ("enable", Some(part.as_str())),
            None => (part.as_str(), None),
        };
        let mut known = KEYS.iter().zip(&mut values);
        let Some((_, slot)) = known.find(|(known, _)| **known == key) else {
            return Err(TraceError::UnknownKey(key.to_owned()));
        };
        let value = value.ok_or_else(|| TraceError::MissingValue(key.to_owned()))?;
        *slot = Some(value.to_owned());
    }
    Ok(values)
}

/// Enables the events that match `pattern`, or disables them if it has a leading `-`. Warnings
/// begin with `source`.
///
/// Returns whether the pattern asks for the list of events instead.
fn enable(pattern: &str, source: &str) -> bool {
    if matches!(pattern, "help" | "?") {
        return true;
    }
    let (pattern, enabled) = match pattern.strip_prefix('-') {
        Some(pattern) => (pattern, false),
        None => (pattern, true),
    };
    // As in QEMU, a pattern without `*` selects one event, and `?` alone does not change that.
    let is_glob = pattern.contains('*');
    let limit = if is_glob { ALL.len() } else { 1 };
    let found = ALL.iter().filter(|event| matches(pattern, event.name()));
    let mut found = found.take(limit).peekable();
    if found.peek().is_none() && !is_glob {
        let text = format_args!("{source}: warning: trace event '{pattern}' does not exist");
        write_line(Level::Warn, text);
    }
    found.for_each(|event| event.enable(enabled));
    false
}

/// Applies each line of a file as a pattern, except empty lines and lines that begin with `#`.
///
/// Returns whether a line asks for the list of events; the lines after it have no effect.
fn enable_listed(path: &Path) -> Result<bool, TraceError> {
    let text = fs::read(path).map_err(|error| TraceError::EventsFile(path.into(), error))?;
    let text = String::from_utf8_lossy(&text);
    let mut patterns = (1..)
        .zip(text.split('\n'))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    Ok(patterns.any(|(number, pattern)| {
        enable(pattern, &format!("{PROGRAM}:{}:{number}", path.display()))
    }))
}

/// Returns whether `name` matches `pattern` by the rules of glib's `g_pattern_match_simple`: `*`
/// matches any string, `?` any single character.
fn matches(pattern: &str, name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    // Lengths of the prefixes of `name` that match the part of the pattern seen so far, ascending.
    let mut matched = vec![0];
    for wanted in pattern.chars() {
        matched = if wanted == '*' {
            let shortest = matched.first().copied();
            shortest.map_or_else(Vec::new, |shortest| (shortest..=name.len()).collect())
        } else {
            let fits = |length: &usize| {
                let next = name.get(*length);
                next.is_some_and(|next| wanted == '?' || wanted == *next)
            };
            matched
                .into_iter()
                .filter(fits)
                .map(|length| length + 1)
                .collect()
        };
    }
    matched.last() == Some(&name.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn option_string_is_split_like_in_qemu() {
        for (text, expected) in [
            ("", [None, None, None]),
            ("pr_*", [Some("pr_*"), None, None]),
            ("pr_*,", [Some("pr_*"), None, None]),
            (",", [Some(""), None, None]),
            ("a,,b", [Some("a,b"), None, None]),
            ("a,,,file=b", [Some("a,"), None, Some("b")]),
            ("enable=a,file=/t,,x", [Some("a"), None, Some("/t,x")]),
            ("file=/t,events=/e", [None, Some("/e"), Some("/t")]),
            ("enable=a,enable=b", [Some("b"), None, None]),
            ("events", [Some("events"), None, None]),
        ] {
            let expected = expected.map(|value| value.map(str::to_owned));
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn malformed_option_string_is_an_error() {
        let error = |text| {
            let result = apply(&[String::from(text)], &[], false);
            result.unwrap_err().to_string()
        };
        assert!(error("foo=1").contains("Invalid parameter 'foo'"));
        assert!(error("a,b").contains("Invalid parameter 'b'"));
        assert!(error("a,file").contains("'file' expects a value"));
        assert!(error("events=/nonexistent").contains("'/nonexistent'"));
    }

    #[test]
    fn help_lists_the_events() {
        for value in ["help", "?", "enable=help"] {
            let action = apply(&[value.into()], &[], false).unwrap();
            assert!(matches!(action, TraceAction::ListEvents), "{value}");
        }
    }

    #[test]
    fn last_value_selects_the_file() {
        let file = |values: &[&str], backend| {
            let values: Vec<_> = values.iter().copied().map(String::from).collect();
            match apply(&values, &[backend], false) {
                Ok(TraceAction::Start(settings)) => Ok(settings.file),
                Ok(TraceAction::ListEvents) => panic!("the values do not ask for the list"),
                Err(error) => Err(error.to_string()),
            }
        };
        let path = file(&["file=/t"], TraceBackend::Log).unwrap();
        assert_eq!(path, Some("/t".into()));
        let path = file(&["file=/t", ""], TraceBackend::Simple).unwrap();
        assert_eq!(path, None);
        let error = file(&["file=/t"], TraceBackend::Ftrace).unwrap_err();
        assert!(error.contains("not supported"), "{error}");
    }

    #[test]
    fn pattern_wildcards_match_like_in_glib() {
        for (pattern, name, expected) in [
            ("pr_helper_stopping", "pr_helper_stopping", true),
            ("pr_*", "pr_helper_stopping", true),
            ("*stop*", "pr_helper_stopping", true),
            ("*ing", "pr_helper_stopping", true),
            ("*", "", true),
            ("**", "x", true),
            ("pr_?elper*", "pr_helper_stopping", true),
            ("*?????????", "stopping", false),
            ("?", "é", true),
            ("pr_*x", "pr_helper_stopping", false),
            ("", "pr_helper_stopping", false),
            ("pr_helper", "pr_helper_stopping", false),
            ("pr_helper_stoppingé", "pr_helper_stopping", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn pattern_match_time_is_bounded() {
        let pattern = "*a".repeat(200);
        assert!(!matches(&pattern, &"a".repeat(199)));
        assert!(matches(&pattern, &"a".repeat(200)));
    }
}
