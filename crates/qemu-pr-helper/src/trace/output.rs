// SPDX-License-Identifier: MIT OR Apache-2.0

//! Destination of a trace: a file, a stream such as a pipe, or standard error.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::buffer::Batch;
use crate::logging;

/// Directories in which the kernel or the system creates the links, such as `/dev/stderr` and
/// `/dev/fd/3`.
const LINK_DIRS: [&str; 3] = ["/dev", "/dev/fd", "/proc/self/fd"];

/// Time to wait until a blocked output is writable, before checking again for a cancellation.
const POLL_TIMEOUT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// Number of bytes that a pipe takes completely or not at all. Every record is shorter.
const PIPE_BUF: usize = 4096;

/// Destination of a trace. Writing to it can block.
#[derive(Debug)]
pub(super) enum Output {
    /// A file on a disk.
    File(File),
    /// A pipe, a terminal or a device. Written bytes cannot be taken back.
    Stream {
        file: File,
        /// Rest of a record of which the beginning was written. It precedes all further bytes.
        rest: Vec<u8>,
    },
    /// Standard error. Other writers use it too, so the unit of writing is a whole line.
    Stderr,
}

/// Result of writing a batch.
#[derive(Debug)]
pub(super) struct WriteResult {
    /// Number of records that were written, from the first one.
    pub(super) records: usize,
    /// Error that prevented the others; `None` if there are no others, or the write was canceled.
    pub(super) error: Option<io::Error>,
}

impl Output {
    /// Creates the file, or truncates it. A named pipe can be opened without a reader and then
    /// takes some records in advance.
    ///
    /// Symbolic links are followed only in [`LINK_DIRS`]: in other directories, an unprivileged
    /// user could redirect root to a different file.
    ///
    /// # Errors
    ///
    /// * `ELOOP`: the path is a symbolic link.
    /// * Any other error of open(2), ftruncate(2) or fcntl(2).
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let is_pipe = fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo());
        let is_system_link = path
            .parent()
            .is_some_and(|parent| LINK_DIRS.iter().any(|dir| parent == Path::new(dir)));
        let mut flags = OFlags::NONBLOCK;
        flags.set(OFlags::NOFOLLOW, !is_system_link);
        // A pipe is opened for reading too, so that the open succeeds without a reader, and readers
        // can come and go.
        let file = OpenOptions::new()
            .read(is_pipe)
            .write(true)
            .create(!is_pipe)
            .custom_flags(flags.bits().cast_signed())
            .open(path)?;
        if !file.metadata()?.is_file() {
            let rest = Vec::new();
            return Ok(Self::Stream { file, rest });
        }
        file.set_len(0)?;
        // The operator can truncate the file at any time; later records go to its new end.
        rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
        Ok(Self::File(file))
    }

    /// Writes the header of a trace. The part that a pipe cannot take now is written before the
    /// first record.
    pub(super) fn write_header(&mut self, header: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all(header),
            Self::Stream { file, rest } => {
                let (written, error) = write_until(file, header, &|| true);
                rest.extend_from_slice(header.get(written..).unwrap_or_default());
                error.map_or(Ok(()), Err)
            }
            Self::Stderr => Ok(()),
        }
    }

    /// Writes records, and waits while the output is blocked, until `canceled` returns true.
    pub(super) fn write(&mut self, batch: &Batch, canceled: &dyn Fn() -> bool) -> WriteResult {
        match self {
            Self::File(file) => write_file(file, batch),
            Self::Stream { file, rest } => write_stream(file, rest, batch, canceled),
            Self::Stderr => write_lines(batch, canceled),
        }
    }
}

/// Writes whole records. If the disk is full, the part of a record that still fit is removed again.
fn write_file(file: &File, batch: &Batch) -> WriteResult {
    let bytes = batch.bytes(0, batch.length_of(batch.len()));
    let (written, mut error) = write_until(file, bytes, &|| true);
    let records = batch.complete_in(written);
    let torn = u64::try_from(written - batch.length_of(records)).unwrap_or(0);
    if torn > 0 {
        let length = file.metadata().map(|metadata| metadata.len());
        let truncated = length.and_then(|length| file.set_len(length.saturating_sub(torn)));
        error = truncated.err().or(error);
    }
    WriteResult { records, error }
}

/// Writes records in pieces that a pipe takes completely or not at all, so that the pipe does not
/// end with half a record when the helper has exited. Other streams can take a part of a record;
/// its rest is kept in `rest` and written first by the next call.
fn write_stream(
    file: &File,
    rest: &mut Vec<u8>,
    batch: &Batch,
    canceled: &dyn Fn() -> bool,
) -> WriteResult {
    let (written, mut error) = write_until(file, rest, canceled);
    rest.drain(..written);
    let mut is_complete = rest.is_empty();
    let mut records = 0;
    while is_complete && records < batch.len() {
        let start = batch.length_of(records);
        let next = batch.complete_in(start + PIPE_BUF).max(records + 1);
        let end = batch.length_of(next);
        let written;
        (written, error) = write_until(file, batch.bytes(start, end), canceled);
        let done = start + written;
        is_complete = done == end;
        records = batch.complete_in(done);
        if done > batch.length_of(records) {
            records += 1;
            rest.extend_from_slice(batch.bytes(done, batch.length_of(records)));
        }
    }
    WriteResult { records, error }
}

/// Writes `bytes` until all are written, an error occurs, or the file is blocked and `canceled`
/// returns true. Returns the number of bytes written, and the error if there was one.
fn write_until(
    mut file: &File,
    bytes: &[u8],
    canceled: &dyn Fn() -> bool,
) -> (usize, Option<io::Error>) {
    let mut written = 0;
    while let Some(left) = bytes.get(written..).filter(|left| !left.is_empty()) {
        match file.write(left) {
            Ok(0) => return (written, Some(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if canceled() {
                    break;
                }
                wait_writable(file);
            }
            Err(error) => return (written, Some(error)),
        }
    }
    (written, None)
}

/// Writes each record as a line to standard error. A line that cannot be written is lost.
fn write_lines(batch: &Batch, canceled: &dyn Fn() -> bool) -> WriteResult {
    for (records, (_, line)) in batch.iter().enumerate() {
        let line = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line));
        while let Err(error) = logging::try_write_line(&line) {
            if error != Errno::WOULDBLOCK || canceled() {
                let error = Some(error.into());
                return WriteResult { records, error };
            }
            wait_writable(io::stderr());
        }
    }
    let (records, error) = (batch.len(), None);
    WriteResult { records, error }
}

fn wait_writable(file: impl AsFd) {
    // After an error the caller tries the write again, as after a timeout.
    let mut files = [PollFd::new(&file, PollFlags::OUT)];
    let _ = poll(&mut files, Some(&POLL_TIMEOUT));
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, mkfifoat};
    use std::io::Read as _;

    #[test]
    fn header_is_completed_when_a_full_pipe_drains() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace");
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

        let mut output = Output::create(&path).unwrap();
        output.write_header(b"header ").unwrap();
        reader.read_exact(&mut vec![0; before]).unwrap();
        let mut batch = Batch::default();
        batch.push(0, b"record");
        assert_eq!(output.write(&batch, &|| true).records, 1);
        let mut text = [0; 13];
        reader.read_exact(&mut text).unwrap();
        assert_eq!(text, *b"header record");
    }
}
