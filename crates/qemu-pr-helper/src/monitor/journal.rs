// SPDX-License-Identifier: MIT OR Apache-2.0

//! The event journal: a record for each command that changes a reservation or a registration, ends
//! with RESERVATION CONFLICT, or reports a change by another host.
//!
//! A command only adds its record to a queue of limited length. A thread writes the records. If it
//! cannot keep up, for example because journald is stopped, records are lost and counted. The last
//! records stay in memory in any case, for the state document.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use cli_messages::error::system_error;
use helper_state::{self as state, KnownReservations, Record};
use rustix::fs::OFlags;
use rustix::thread::set_name;
use thiserror::Error;

use super::Counter;
use super::entry::Entry;
use super::system_journal::SystemJournal;
use crate::command::device::DeviceId;
use crate::logging;
use crate::names::Names;
use crate::names::disk_name::DiskName;

/// Number of records that are kept for the state document.
const KEPT_RECORDS: usize = 100;

/// Number of records that wait to be written. One takes less than 1 KiB, unless many clients are
/// registered with its disk.
const QUEUE_LEN: usize = 1024;

/// Time that a record waits for the name of its client, and for those of its disk.
const NAME_TIMEOUT: Duration = Duration::from_secs(1);

/// Destination of the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JournalDestination {
    /// The system journal if it is running, otherwise none.
    Auto,
    /// The system journal.
    System,
    /// Standard error, one JSON object in each line.
    Stderr,
    /// A file, one JSON object in each line.
    File(PathBuf),
}

impl JournalDestination {
    /// Parses the value of `--journal`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "systemd" => Ok(Self::System),
            "stderr" => Ok(Self::Stderr),
            path if path.starts_with('/') => Ok(Self::File(path.into())),
            _ => Err("valid are auto, systemd, stderr and absolute paths".to_owned()),
        }
    }
}

impl fmt::Display for JournalDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::System => f.write_str("systemd"),
            Self::Stderr => f.write_str("stderr"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Failure to open the destination.
#[derive(Debug, Error)]
#[error("--journal {destination}: {}; name another destination", system_error(.error))]
pub(crate) struct JournalError {
    destination: JournalDestination,
    error: io::Error,
}

/// Opened destination.
#[derive(Debug)]
enum Sink {
    System(SystemJournal),
    Stderr,
    File(File),
}

/// The event journal.
#[derive(Debug)]
pub(crate) struct Journal {
    /// Process ID of the helper.
    helper: u32,
    kept: Mutex<Kept>,
    queue: Option<SyncSender<Arc<Entry>>>,
    /// Sink and queue for the thread, until it is started.
    writer: Mutex<Option<(Sink, Receiver<Arc<Entry>>)>>,
    lost: Counter,
}

/// The last records, and the number of all.
#[derive(Debug, Default)]
struct Kept {
    entries: VecDeque<Arc<Entry>>,
    sequence: u64,
}

impl Journal {
    /// Opens the destination, which later needs no permissions.
    pub(crate) fn open(destination: &JournalDestination) -> Result<Self, JournalError> {
        let sink = match destination {
            JournalDestination::Auto => Ok(SystemJournal::connect().ok().map(Sink::System)),
            JournalDestination::System => SystemJournal::connect().map(|to| Some(Sink::System(to))),
            JournalDestination::Stderr => Ok(Some(Sink::Stderr)),
            JournalDestination::File(path) => open_file(path).map(|file| Some(Sink::File(file))),
        };
        let sink = sink.map_err(|error| JournalError {
            destination: destination.clone(),
            error,
        })?;
        Ok(Self::new(sink, QUEUE_LEN))
    }

    /// Creates a journal without a destination.
    pub(super) fn in_memory() -> Self {
        Self::new(None, 0)
    }

    fn new(sink: Option<Sink>, length: usize) -> Self {
        let with_queue = sink.map(|sink| {
            let (queue, records) = sync_channel(length);
            (queue, (sink, records))
        });
        let (queue, writer) = with_queue.unzip();
        Self {
            helper: std::process::id(),
            kept: Mutex::default(),
            queue,
            writer: Mutex::new(writer),
            lost: Counter::default(),
        }
    }

    /// Starts the thread that writes the records. It ends when the process exits.
    pub(crate) fn start(&self, names: Option<Arc<Names>>) -> io::Result<()> {
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some((mut sink, entries)) = writer {
            let helper = self.helper;
            let write = move || {
                let _ = set_name(c"journal");
                for entry in entries {
                    let names = names.as_ref();
                    // The connection keeps the name.
                    let _ = names.map(|names| names.process(&entry.client, NAME_TIMEOUT));
                    let disk = names.and_then(|names| names.disk(entry.device, NAME_TIMEOUT));
                    sink.write(&entry.to_record(helper, disk.as_deref()));
                }
            };
            thread::Builder::new().spawn(write)?;
        }
        Ok(())
    }

    /// Adds a record, and sets its number.
    pub(super) fn add(&self, mut entry: Entry) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.sequence = kept.sequence.saturating_add(1);
        entry.sequence = kept.sequence;
        if kept.entries.len() >= KEPT_RECORDS {
            kept.entries.pop_front();
        }
        let entry = Arc::new(entry);
        kept.entries.push_back(Arc::clone(&entry));
        // With the lock held, so that the records are written in the order of their numbers.
        if let Some(queue) = &self.queue
            && queue.try_send(entry).is_err()
        {
            self.lost.increment();
        }
    }

    /// Returns the last records, with the names that `names` finds, and the number of lost ones.
    pub(super) fn to_state(
        &self,
        names: impl Fn(DeviceId) -> Option<Arc<DiskName>>,
    ) -> state::Journal {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let entries: Vec<_> = kept.entries.iter().cloned().collect();
        drop(kept);
        let records = entries
            .iter()
            .map(|entry| entry.to_record(self.helper, names(entry.device).as_deref()));
        state::Journal {
            lost: self.lost.get(),
            records: records.collect(),
        }
    }
}

fn open_file(path: &PathBuf) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(flags)
        .open(path)
}

impl Sink {
    /// Writes a record. A reader sees a lost one as a missing number.
    fn write(&mut self, record: &Record) {
        let written = match self {
            Self::System(journal) => journal.send(record),
            Self::Stderr => logging::try_write_line(&short_line(record)).map_err(io::Error::from),
            Self::File(file) => file.write_all(format!("{}\n", line(record)).as_bytes()),
        };
        if let Err(error) = written {
            log::info!(
                "record {} of the event journal not written: {error}",
                record.sequence
            );
        }
    }
}

fn line(record: &Record) -> String {
    serde_json::to_string(record).unwrap_or_default()
}

/// Returns the line of a record without the keys of the registrations if it would be truncated.
fn short_line(record: &Record) -> String {
    let long = line(record);
    if long.len() <= logging::MAX_TEXT_LEN {
        return long;
    }
    let without_keys = |known: &KnownReservations| KnownReservations {
        registrants: Vec::new(),
        ..known.clone()
    };
    line(&Record {
        before: without_keys(&record.before),
        after: without_keys(&record.after),
        ..record.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::entry::tests::entry;
    use crate::names::tests::answering_names;
    use pr_testkit::cdb;
    use std::fs;

    #[test]
    fn records_are_written_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let file = JournalDestination::File(path.clone());
        let journal = Journal::open(&file).unwrap();
        journal.add(entry(&cdb::clear(1)));
        journal.start(None).unwrap();
        journal.add(entry(&cdb::register(0, 1)));
        let lines = || -> Vec<Record> {
            let text = fs::read_to_string(&path).unwrap();
            text.lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        };
        while lines().len() < 2 {
            thread::yield_now();
        }
        assert_eq!(lines(), journal.to_state(|_| None).records);
        assert_eq!(lines()[1].sequence, 2);
        assert_eq!(journal.to_state(|_| None).lost, 0);
    }

    /// The names are resolved in the background, and a client can send a command before.
    #[test]
    fn record_waits_for_the_name_of_its_client() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let journal = Journal::open(&JournalDestination::File(path.clone())).unwrap();
        journal.add(entry(&cdb::clear(1)));
        journal.start(Some(Arc::new(answering_names()))).unwrap();
        let line = loop {
            match fs::read_to_string(&path).unwrap() {
                text if text.ends_with('\n') => break text,
                _ => thread::yield_now(),
            }
        };
        let record: Record = serde_json::from_str(&line).unwrap();
        assert_eq!(record.client, "vm");
    }

    #[test]
    fn lost_records_are_counted_and_kept() {
        // No thread takes records from the queue.
        let journal = Journal::new(Some(Sink::Stderr), 10);
        for _ in 0..150 {
            journal.add(entry(&cdb::clear(1)));
        }
        let state = journal.to_state(|_| None);
        assert_eq!(state.lost, 140);
        let numbers: Vec<_> = state.records.iter().map(|record| record.sequence).collect();
        assert_eq!(numbers, (51..=150).collect::<Vec<_>>());
    }

    /// A line of standard error has a limited length.
    #[test]
    fn record_of_a_disk_with_many_registrants_is_not_truncated() {
        let mut record = entry(&cdb::clear(1)).to_record(1, None);
        assert_eq!(short_line(&record), line(&record));
        record.before.registrants = vec![format!("{:#x}", u64::MAX); 256];
        record.before.holder = Some("0x1".to_owned());
        let short: Record = serde_json::from_str(&short_line(&record)).unwrap();
        assert_eq!(short.before.registrants, [""; 0]);
        assert_eq!(short.before.holder, record.before.holder);
        assert_eq!(short.action, record.action);
    }

    #[test]
    fn destination_is_a_word_or_a_path() {
        for text in ["auto", "systemd", "stderr", "/var/log/x"] {
            let parsed = JournalDestination::parse(text).unwrap();
            assert_eq!(parsed.to_string(), text);
        }
        JournalDestination::parse("file").unwrap_err();
        JournalDestination::parse("").unwrap_err();
    }

    #[test]
    fn link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("target"), &link).unwrap();
        let error = Journal::open(&JournalDestination::File(link)).unwrap_err();
        assert!(error.to_string().contains("symbolic links"), "{error}");
    }
}
