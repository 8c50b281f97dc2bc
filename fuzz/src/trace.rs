//! The values of `--trace`, and files of events: what they enable, a second reader finds too.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::{env, fs};

use qemu_pr_helper::trace::disable_in_child;
use qemu_pr_helper::trace::events::ALL;
use qemu_pr_helper::trace::options::{TraceAction, TraceBackend, TraceError, apply};
use tempfile::TempDir;

use crate::input::halves;

/// The one file of events that there is.
const EVENTS: &str = "e";

/// How a value is read.
#[derive(Debug, PartialEq)]
enum End {
    Start(Option<PathBuf>),
    List,
    Key(String),
    NoValue(String),
    Events(PathBuf),
    File,
}

/// Values of `--trace`, a line each; a zero byte; a file of events. Of the first byte a bit says whether
/// the backend is one that takes a file.
pub fn run(bytes: &[u8]) {
    let (backend, bytes) = bytes.split_first().unwrap_or((&0, &[]));
    let (values, events) = halves(bytes);
    let Ok(values) = str::from_utf8(values) else {
        return;
    };
    // No file is read but that one.
    if values.contains('/') || values.contains("..") {
        return;
    }
    let backend = if backend & 1 == 0 {
        TraceBackend::Log
    } else {
        TraceBackend::Ftrace
    };
    let folder = folder();
    if values.contains("events") {
        fs::write(folder.join(EVENTS), events).unwrap();
    }
    let values: Vec<String> = values.split('\n').map(str::to_owned).collect();
    disable_in_child();
    let found = match apply(&values, &[backend], false) {
        Ok(TraceAction::Start(settings)) => End::Start(settings.file),
        Ok(TraceAction::ListEvents) => End::List,
        Err(TraceError::UnknownKey(key)) => End::Key(key),
        Err(TraceError::MissingValue(key)) => End::NoValue(key),
        Err(TraceError::EventsFile(path, _)) => End::Events(path),
        Err(TraceError::UnsupportedFile) => End::File,
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
        Ok(()) if reader.file.is_some() && backend == TraceBackend::Ftrace => End::File,
        Ok(()) => End::Start(reader.file.map(|file| match file.is_empty() {
            // To open it will fail.
            true => PathBuf::new(),
            false => folder.join(file),
        })),
    };
    assert_eq!(found, end);
    assert_eq!(enabled, reader.enabled);
}

/// The folder that this process is in from now on.
fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = FOLDER.get_or_init(|| {
        let folder = TempDir::new_in("/dev/shm")
            .or_else(|_| TempDir::new())
            .unwrap();
        env::set_current_dir(folder.path()).unwrap();
        let path = env::current_dir().unwrap();
        (folder, path)
    });
    path
}

/// One that goes through the characters one by one.
struct Reader {
    events: String,
    enabled: BTreeSet<&'static str>,
    file: Option<String>,
}

impl Reader {
    fn read_all(&mut self, values: &[String]) -> Result<(), End> {
        for value in values {
            self.file = None;
            let [enable, events, file] = keys(value)?;
            if let Some(pattern) = enable {
                self.enable(&pattern)?;
            }
            if let Some(path) = events {
                if path != EVENTS {
                    return Err(End::Events(path.into()));
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

    fn enable(&mut self, text: &str) -> Result<(), End> {
        if matches!(text, "help" | "?") {
            return Err(End::List);
        }
        let pattern = text.strip_prefix('-').unwrap_or(text);
        let characters: Vec<char> = pattern.chars().collect();
        for event in ALL {
            let name: Vec<char> = event.name().chars().collect();
            if fits(&characters, &name) {
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

/// The last value of each of the three keys.
fn keys(value: &str) -> Result<[Option<String>; 3], End> {
    let mut found = [None, None, None];
    for (place, part) in split(value).into_iter().enumerate() {
        let (key, value) = match part.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None if place == 0 => ("enable".to_owned(), Some(part)),
            None => (part, None),
        };
        let Some(place) = ["enable", "events", "file"]
            .iter()
            .position(|known| **known == key)
        else {
            return Err(End::Key(key));
        };
        found[place] = Some(value.ok_or(End::NoValue(key))?);
    }
    Ok(found)
}

/// What is between commas that stand alone; of two, the second is a part of the text.
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
    // Behind the last comma, and in an empty value, there need be nothing.
    if parts.last().is_some_and(String::is_empty) {
        parts.pop();
    }
    parts
}

/// Whether a name fits a pattern: greedily, and back to the last star where that goes wrong.
fn fits(pattern: &[char], name: &[char]) -> bool {
    let (mut at, mut place, mut star) = (0, 0, None);
    while place < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at + 1, place));
                at += 1;
            }
            Some(wanted) if *wanted == '?' || *wanted == name[place] => {
                at += 1;
                place += 1;
            }
            _ => match star {
                Some((after, from)) => {
                    (at, place) = (after, from + 1);
                    star = Some((after, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|wanted| *wanted == '*')
}
