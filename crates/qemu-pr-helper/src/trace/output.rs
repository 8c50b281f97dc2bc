//! Where the bytes of a trace belong: a file, something like a pipe, or standard error.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::logging;

/// Directories whose links the kernel or the system makes, such as `/dev/stderr` and `/dev/fd/3`.
const LINK_DIRS: [&str; 3] = ["/dev", "/dev/fd", "/proc/self/fd"];

/// How long to wait for room before it is asked whether to go on waiting.
const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// Bytes that a pipe takes as a whole or not at all (`PIPE_BUF`). Records are shorter.
const AT_ONCE: usize = 4096;

/// Where the bytes of a trace belong. Writing to it can take long.
#[derive(Debug)]
pub(super) enum Output {
    /// A file on a disk.
    File(File),
    /// A pipe, a terminal, a device: what was written is gone.
    Stream {
        file: File,
        /// The rest of a record of which the beginning was written. Whatever comes next comes after it.
        rest: Vec<u8>,
    },
    /// Standard error, which others write to as well: whole lines.
    StandardError,
}

/// What has come of records.
#[derive(Debug)]
pub(super) struct Written {
    /// So many are where they belong, the first ones.
    pub(super) records: usize,
    /// Why the others are not; none if it was given up.
    pub(super) error: Option<io::Error>,
}

impl Output {
    /// Creates the file, or truncates it. A named pipe is opened without a reader: it has room for some
    /// records until there is one.
    ///
    /// A symbolic link is followed only in [`LINK_DIRS`]: root must not be led to another file by a link
    /// in a directory of others.
    ///
    /// # Errors
    ///
    /// * `ELOOP`: the path is a symbolic link.
    /// * Any other error of open(2), ftruncate(2) or fcntl(2).
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let is_pipe = fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo());
        let mut options = OpenOptions::new();
        let is_system_link = path
            .parent()
            .is_some_and(|parent| LINK_DIRS.iter().any(|dir| parent == Path::new(dir)));
        let mut flags = OFlags::NONBLOCK;
        flags.set(OFlags::NOFOLLOW, !is_system_link);
        options.write(true).custom_flags(flags.bits().cast_signed());
        let file = if is_pipe {
            // As its own reader too: so it can be opened, and readers can come and go.
            options.read(true).open(path)?
        } else {
            // At the end, wherever that is: the operator may empty the file.
            options.create(true).open(path)?
        };
        if !file.metadata()?.is_file() {
            return Ok(Self::Stream {
                file,
                rest: Vec::new(),
            });
        }
        file.set_len(0)?;
        rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
        Ok(Self::File(file))
    }

    /// Writes what a trace begins with. For what a pipe has no room for now, it is the rest that comes before
    /// everything else.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub(super) fn begin(&mut self, header: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all(header),
            Self::Stream { file, rest } => {
                let (left, error) = pour(file, header, &|| true);
                let written = header.len().saturating_sub(left);
                rest.extend_from_slice(header.get(written..).unwrap_or_default());
                error.map_or(Ok(()), Err)
            }
            Self::StandardError => Ok(()),
        }
    }

    /// Writes records, which end at `ends`. Where that is not possible now it waits until `gives_up`.
    pub(super) fn write(
        &mut self,
        bytes: &[u8],
        ends: &[usize],
        gives_up: &dyn Fn() -> bool,
    ) -> Written {
        match self {
            Self::File(file) => write_file(file, bytes, ends),
            Self::Stream { file, rest } => write_stream(file, rest, bytes, ends, gives_up),
            Self::StandardError => write_lines(bytes, ends, gives_up),
        }
    }
}

/// Whole records: of one that does not fit, because the disk is full, nothing is left.
fn write_file(mut file: &File, bytes: &[u8], ends: &[usize]) -> Written {
    let mut done: usize = 0;
    let error = loop {
        let left = bytes.get(done..).unwrap_or_default();
        if left.is_empty() {
            return Written {
                records: ends.len(),
                error: None,
            };
        }
        match file.write(left) {
            Ok(0) => break io::ErrorKind::WriteZero.into(),
            Ok(count) => done = done.saturating_add(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break error,
        }
    };
    let records = whole(ends, done);
    let torn = done.saturating_sub(end_of(ends, records));
    let shortened = match u64::try_from(torn) {
        Ok(0) | Err(_) => Ok(()),
        Ok(torn) => file
            .metadata()
            .and_then(|metadata| file.set_len(metadata.len().saturating_sub(torn))),
    };
    Written {
        records,
        error: Some(shortened.err().unwrap_or(error)),
    }
}

/// A record that was begun is ended before the next one, whenever that can be. A pipe takes only whole ones:
/// whoever reads it when the helper has ended finds no half of one at its end.
fn write_stream(
    file: &File,
    rest: &mut Vec<u8>,
    bytes: &[u8],
    ends: &[usize],
    gives_up: &dyn Fn() -> bool,
) -> Written {
    let (left, error) = pour(file, rest, gives_up);
    rest.drain(..rest.len().saturating_sub(left));
    if left > 0 {
        return Written { records: 0, error };
    }
    let mut records = 0;
    while records < ends.len() {
        let start = end_of(ends, records);
        let most = start.saturating_add(AT_ONCE);
        let next = whole(ends, most).max(records.saturating_add(1));
        let piece = bytes.get(start..end_of(ends, next)).unwrap_or_default();
        let (left, error) = pour(file, piece, gives_up);
        if left == 0 {
            records = next;
            continue;
        }
        let done = end_of(ends, next).saturating_sub(left);
        records = whole(ends, done);
        if done > end_of(ends, records) {
            records = records.saturating_add(1);
            let remaining = bytes.get(done..end_of(ends, records));
            rest.extend_from_slice(remaining.unwrap_or_default());
        }
        return Written { records, error };
    }
    Written {
        records,
        error: None,
    }
}

/// Writes until everything is written, or there is an error, or it is given up. Says how much is left.
fn pour(
    mut file: &File,
    mut bytes: &[u8],
    gives_up: &dyn Fn() -> bool,
) -> (usize, Option<io::Error>) {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return (bytes.len(), Some(io::ErrorKind::WriteZero.into())),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if gives_up() {
                    break;
                }
                wait(&mut [PollFd::new(file, PollFlags::OUT)]);
            }
            Err(error) => return (bytes.len(), Some(error)),
        }
    }
    (bytes.len(), None)
}

/// Lines between those of others. What cannot be written is gone.
fn write_lines(bytes: &[u8], ends: &[usize], gives_up: &dyn Fn() -> bool) -> Written {
    let mut start = 0;
    for (records, end) in ends.iter().enumerate() {
        let line = bytes.get(start..*end).unwrap_or_default();
        start = *end;
        let line = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line));
        let error = loop {
            match logging::try_write_line(&line) {
                Ok(()) => break None,
                Err(Errno::WOULDBLOCK) if !gives_up() => {
                    wait(&mut [PollFd::new(&io::stderr(), PollFlags::OUT)]);
                }
                Err(error) => break Some(error),
            }
        };
        if let Some(error) = error {
            return Written {
                records,
                error: Some(error.into()),
            };
        }
    }
    Written {
        records: ends.len(),
        error: None,
    }
}

fn wait(room: &mut [PollFd<'_>]) {
    // If it fails it is tried again like after a while.
    let _ = poll(room, Some(&PAUSE));
}

/// How many records are in the first `length` bytes.
fn whole(ends: &[usize], length: usize) -> usize {
    ends.partition_point(|end| *end <= length)
}

/// Where the last of the first `records` ends.
fn end_of(ends: &[usize], records: usize) -> usize {
    let last = records.checked_sub(1);
    last.and_then(|last| ends.get(last)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, mkfifoat};
    use std::io::Read as _;

    #[test]
    fn a_pipe_that_is_full_of_another_trace_begins_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace");
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let mut reader = options.open(&path).unwrap();
        let mut before: usize = 0;
        while let Ok(count) = reader.write(&[b'.'; 4096]) {
            before += count;
        }

        let mut target = Output::create(&path).unwrap();
        target.begin(b"header ").unwrap();
        reader.read_exact(&mut vec![0; before]).unwrap();
        let written = target.write(b"record", &[6], &|| true);
        assert_eq!(written.records, 1);
        let mut text = [0; 13];
        reader.read_exact(&mut text).unwrap();
        assert_eq!(text, *b"header record");
    }
}
