// SPDX-License-Identifier: MIT OR Apache-2.0

//! The values of `--trace` and event files, compared with a second reader.

#![cfg_attr(fuzzing, no_main)]
#![expect(clippy::unwrap_used, reason = "a target reports failures by panicking")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::{env, fs};

use qemu_pr_helper::trace::disable_in_child;
use qemu_pr_helper::trace::events::ALL;
use qemu_pr_helper::trace::options::{TraceAction, TraceBackend, TraceError, apply};
use tempfile::TempDir;

use fuzz::input::halves;

fuzz::target!(run);

/// The only event file that exists.
const EVENTS: &str = "e";

/// Result of reading values.
#[derive(Debug, PartialEq)]
enum Outcome {
    Start(Option<PathBuf>),
    List,
    Key(String),
    NoValue(String),
    Events(PathBuf),
    File,
}

/// Input: a byte (its lowest bit selects a backend with or without a file), values of `--trace` in
/// a line each, a zero byte, and an event file.
fn run(bytes: &[u8]) {
    let (backend, bytes) = bytes.split_first().unwrap_or((&0, &[]));
    let (values, events) = halves(bytes);
    let Ok(values) = str::from_utf8(values) else {
        return;
    };
    // Only that file is read.
    if values.contains('/') || values.contains("..") {
        return;
    }
    let backend = if backend & 1 == 0 {
        TraceBackend::Log
    } else {
        TraceBackend::Ftrace
    };
    let dir = work_dir();
    if values.contains("events") {
        fs::write(dir.join(EVENTS), events).unwrap();
    }
    let values: Vec<String> = values.split('\n').map(str::to_owned).collect();
    disable_in_child();
    let found = match apply(&values, &[backend], false) {
        Ok(TraceAction::Start(settings)) => Outcome::Start(settings.file),
        Ok(TraceAction::ListEvents) => Outcome::List,
        Err(TraceError::UnknownKey(key)) => Outcome::Key(key),
        Err(TraceError::MissingValue(key)) => Outcome::NoValue(key),
        Err(TraceError::EventsFile(path, _)) => Outcome::Events(path),
        Err(TraceError::UnsupportedFile) => Outcome::File,
    };
    let enabled: BTreeSet<_> = ALL
        .iter()
        .filter(|event| event.is_enabled())
        .map(|event| event.name())
        .collect();

    let mut reader = Reader {
        events: String::from_utf8_lossy(events).into_owned(),
        enabled: BTreeSet::new(),
        file: None,
    };
    let end = match reader.read_all(&values) {
        Err(end) => end,
        Ok(()) if reader.file.is_some() && backend == TraceBackend::Ftrace => Outcome::File,
        Ok(()) => Outcome::Start(reader.file.map(|file| match file.is_empty() {
            // Opening it would fail.
            true => PathBuf::new(),
            false => dir.join(file),
        })),
    };
    assert_eq!(found, end);
    assert_eq!(enabled, reader.enabled);
}

/// Changes to a temporary directory and returns its path.
fn work_dir() -> &'static PathBuf {
    static DIR: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = DIR.get_or_init(|| {
        let dir = TempDir::new_in("/dev/shm")
            .or_else(|_| TempDir::new())
            .unwrap();
        env::set_current_dir(dir.path()).unwrap();
        let path = env::current_dir().unwrap();
        (dir, path)
    });
    path
}

/// A reader that processes characters one by one.
struct Reader {
    events: String,
    enabled: BTreeSet<&'static str>,
    file: Option<String>,
}

impl Reader {
    fn read_all(&mut self, values: &[String]) -> Result<(), Outcome> {
        for value in values {
            self.file = None;
            let [enable, events, file] = keys(value)?;
            if let Some(pattern) = enable {
                self.enable(&pattern)?;
            }
            if let Some(path) = events {
                if path != EVENTS {
                    return Err(Outcome::Events(path.into()));
                }
                for line in self.events.clone().split('\n') {
                    if !line.is_empty() && !line.starts_with('#') {
                        self.enable(line)?;
                    }
                }
            }
            self.file = file;
        }
        Ok(())
    }

    fn enable(&mut self, text: &str) -> Result<(), Outcome> {
        if matches!(text, "help" | "?") {
            return Err(Outcome::List);
        }
        let pattern = text.strip_prefix('-').unwrap_or(text);
        let characters: Vec<char> = pattern.chars().collect();
        for event in ALL {
            let name: Vec<char> = event.name().chars().collect();
            if matches_pattern(&characters, &name) {
                match text.starts_with('-') {
                    true => self.enabled.remove(event.name()),
                    false => self.enabled.insert(event.name()),
                };
                if !pattern.contains('*') {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Returns the last value of each of the three keys.
fn keys(value: &str) -> Result<[Option<String>; 3], Outcome> {
    let mut found = [None, None, None];
    for (index, part) in split(value).into_iter().enumerate() {
        let (key, value) = match part.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None if index == 0 => ("enable".to_owned(), Some(part)),
            None => (part, None),
        };
        let Some(index) = ["enable", "events", "file"]
            .iter()
            .position(|known| **known == key)
        else {
            return Err(Outcome::Key(key));
        };
        found[index] = Some(value.ok_or(Outcome::NoValue(key))?);
    }
    Ok(found)
}

/// Splits at single commas; of two commas, the second is a part of the text.
fn split(value: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = value.chars().peekable();
    while let Some(character) = characters.next() {
        if character == ',' && characters.next_if_eq(&',').is_none() {
            parts.push(String::new());
        } else {
            parts.last_mut().unwrap().push(character);
        }
    }
    // An empty part after the last comma, and an empty value, are ignored.
    if parts.last().is_some_and(String::is_empty) {
        parts.pop();
    }
    parts
}

/// Returns whether a name matches a pattern, by backtracking to the last star.
fn matches_pattern(pattern: &[char], name: &[char]) -> bool {
    let (mut offset, mut index, mut star) = (0, 0, None);
    while index < name.len() {
        match pattern.get(offset) {
            Some('*') => {
                star = Some((offset + 1, index));
                offset += 1;
            }
            Some(character) if *character == '?' || *character == name[index] => {
                offset += 1;
                index += 1;
            }
            _ => match star {
                Some((after, from)) => {
                    (offset, index) = (after, from + 1);
                    star = Some((after, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[offset..].iter().all(|character| *character == '*')
}
