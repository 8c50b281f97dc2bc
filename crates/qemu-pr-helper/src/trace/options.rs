//! The values of `--trace`: `[[enable=]PATTERN][,events=FILE][,file=FILE]`.
//!
//! They are QEMU option strings: a comma separates, two commas are one in a value, the first part may
//! leave out its key, and of a key that is given twice the last one counts. What they do, they do in
//! QEMU's order: `enable`, then `events`, then `file`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf, absolute};

use log::Level;
use thiserror::Error;

use super::events::ALL;
use super::pattern;
use super::sinks::Backend;
use crate::logging::{PROGRAM, write_line};

/// Why a value of `--trace` cannot be used.
#[derive(Debug, Error)]
pub enum TraceError {
    /// A key is none of `enable`, `events` and `file`.
    #[error("--trace: Invalid parameter '{0}'; there are enable=, events= and file=")]
    Key(String),
    /// A key has no value.
    #[error("--trace: parameter '{0}' expects a value")]
    NoValue(String),
    /// A file of events cannot be read.
    #[error("--trace: cannot read events file '{path}'", path = .0.display())]
    Events(PathBuf, #[source] io::Error),
    /// Neither backend that could write the file is selected.
    #[error(
        "--trace file=...: option not supported by the selected tracing backends; \
         add --trace-backend log or simple"
    )]
    File,
}

/// Where traces go, as the command line says.
#[derive(Clone, Debug, Default)]
pub struct TraceSettings {
    /// Through which backends; `log` if none is named.
    pub backends: Vec<Backend>,
    /// The file of `log` or `simple`, absolute.
    pub file: Option<PathBuf>,
    /// Whether lines begin with thread and time.
    pub timestamp: bool,
    /// The folder in which `simple` makes a file if none is named.
    pub folder: PathBuf,
}

/// What to do after the options were applied.
#[derive(Clone, Debug)]
pub enum Next {
    /// Start, with these settings.
    Start(TraceSettings),
    /// Print the names of the events, and end.
    ListEvents,
}

/// One of the keys, with its value.
enum Part {
    Enable(String),
    Events(PathBuf),
    File(PathBuf),
}

/// What a pattern was.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// One for events.
    Events,
    /// The word for the list of them.
    List,
}

/// Applies the values in the order in which they were given.
///
/// Names that no event has are warned of and passed over.
///
/// # Errors
///
/// [`TraceError`].
pub fn apply(values: &[String], backends: &[Backend], timestamp: bool) -> Result<Next, TraceError> {
    let backends = match backends {
        [] => vec![Backend::Log],
        backends => backends.to_owned(),
    };
    let mut settings = TraceSettings {
        backends,
        file: None,
        timestamp,
        // Later, in the background, it is another one.
        folder: absolute(".").unwrap_or_else(|_| PathBuf::from("/")),
    };
    for value in values {
        // Each value says anew where the trace goes; without file= it is standard error.
        settings.file = None;
        for part in parts(value)? {
            let asked = match part {
                Part::Enable(pattern) => enable(&pattern, PROGRAM),
                Part::Events(path) => enable_listed(&path)?,
                Part::File(path) => {
                    settings.file = Some(absolute(&path).unwrap_or(path));
                    Asked::Events
                }
            };
            if asked == Asked::List {
                return Ok(Next::ListEvents);
            }
        }
    }
    let takes_file = |backend: &Backend| matches!(backend, Backend::Log | Backend::Simple);
    if settings.file.is_some() && !settings.backends.iter().any(takes_file) {
        return Err(TraceError::File);
    }
    Ok(Next::Start(settings))
}

/// The names of all events, one per line.
#[must_use]
pub fn listing() -> String {
    ALL.iter()
        .map(|event| format!("{}\n", event.name()))
        .collect()
}

/// The parts of a QEMU option string, in the order in which they take effect.
fn parts(value: &str) -> Result<Vec<Part>, TraceError> {
    let (mut enable, mut events, mut file) = (None, None, None);
    let mut rest = value;
    let mut is_first = true;
    while !rest.is_empty() {
        let (part, after) = first_part(rest);
        rest = after;
        let (key, value) = match part.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None if is_first => ("enable", Some(part.clone())),
            None => (part.as_str(), None),
        };
        is_first = false;
        let place = match key {
            "enable" => &mut enable,
            "events" => &mut events,
            "file" => &mut file,
            key => return Err(TraceError::Key(key.to_owned())),
        };
        *place = Some(value.ok_or_else(|| TraceError::NoValue(key.to_owned()))?);
    }
    let enable = enable.map(Part::Enable);
    let events = events.map(|path| Part::Events(path.into()));
    let file = file.map(|path| Part::File(path.into()));
    Ok([enable, events, file].into_iter().flatten().collect())
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
fn enable(pattern: &str, whence: &str) -> Asked {
    if pattern == "help" || pattern == "?" {
        return Asked::List;
    }
    let (pattern, enabled) = match pattern.strip_prefix('-') {
        Some(rest) => (rest, false),
        None => (pattern, true),
    };
    // Only a star makes it one for several, as in QEMU.
    let is_for_several = pattern.contains('*');
    let most = if is_for_several { ALL.len() } else { 1 };
    let matching = ALL
        .iter()
        .filter(|event| pattern::matches(pattern, event.name()));
    let mut is_any = false;
    for event in matching.take(most) {
        event.enable(enabled);
        is_any = true;
    }
    // A pattern may fit nothing, a name is a mistake then.
    if !is_any && !is_for_several {
        write_line(
            Level::Warn,
            format_args!("{whence}: warning: trace event '{pattern}' does not exist"),
        );
    }
    Asked::Events
}

/// Treats each line of a file as a pattern. Lines that are empty or begin with `#` are passed over.
fn enable_listed(path: &Path) -> Result<Asked, TraceError> {
    let text = fs::read(path).map_err(|error| TraceError::Events(path.into(), error))?;
    let text = String::from_utf8_lossy(&text);
    for (number, line) in (1..).zip(text.split('\n')) {
        let is_pattern = !line.is_empty() && !line.starts_with('#');
        let whence = || format!("{PROGRAM}:{}:{number}", path.display());
        if is_pattern && enable(line, &whence()) == Asked::List {
            return Ok(Asked::List);
        }
    }
    Ok(Asked::Events)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts, each as a key with its value.
    fn shown(value: &str) -> Vec<(&'static str, String)> {
        let parts = parts(value).unwrap().into_iter().map(|part| match part {
            Part::Enable(pattern) => ("enable", pattern),
            Part::Events(path) => ("events", path.display().to_string()),
            Part::File(path) => ("file", path.display().to_string()),
        });
        parts.collect()
    }

    #[test]
    fn option_strings_are_split_as_qemu_does() {
        for (text, expected) in [
            ("", &[][..]),
            ("pr_*", &[("enable", "pr_*")]),
            ("pr_*,", &[("enable", "pr_*")]),
            ("a,,b", &[("enable", "a,b")]),
            ("enable=a,file=/t,,x", &[("enable", "a"), ("file", "/t,x")]),
            ("file=/t,events=/e", &[("events", "/e"), ("file", "/t")]),
            ("enable=a,enable=b", &[("enable", "b")]),
            ("events", &[("enable", "events")]),
        ] {
            let expected: Vec<_> = expected
                .iter()
                .map(|(key, value)| (*key, (*value).to_owned()))
                .collect();
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_option_string_is_an_error() {
        let error = |text| {
            apply(&[String::from(text)], &[], false)
                .unwrap_err()
                .to_string()
        };
        assert!(error("foo=1").contains("Invalid parameter 'foo'"));
        assert!(error("a,b").contains("Invalid parameter 'b'"));
        assert!(error("a,file").contains("'file' expects a value"));
        assert!(error("events=/nonexistent").contains("'/nonexistent'"));
    }

    #[test]
    fn help_asks_for_the_list() {
        for value in ["help", "?", "enable=help"] {
            let next = apply(&[value.into()], &[], false).unwrap();
            assert!(matches!(next, Next::ListEvents), "{value}");
        }
    }

    #[test]
    fn the_last_value_says_where_the_trace_goes() {
        let file = |values: &[&str], backend| {
            let values: Vec<_> = values.iter().map(|value| (*value).to_owned()).collect();
            match apply(&values, &[backend], false) {
                Ok(Next::Start(settings)) => Ok(settings.file),
                Ok(Next::ListEvents) => panic!("no list was asked for"),
                Err(error) => Err(error.to_string()),
            }
        };
        assert_eq!(file(&["file=/t"], Backend::Log).unwrap(), Some("/t".into()));
        assert_eq!(file(&["file=/t", ""], Backend::Simple).unwrap(), None);
        let refused = file(&["file=/t"], Backend::Ftrace).unwrap_err();
        assert!(refused.contains("not supported"), "{refused}");
    }
}
