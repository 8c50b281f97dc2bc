//! What the operator reads: one line on standard error for each thing worth saying.
//!
//! | level | what belongs there | shown |
//! |---|---|---|
//! | error | the helper, or part of it, cannot do its work | always |
//! | warn | a client or a device did what it should not; somebody may have to act | unless `-q` |
//! | info | connections come and go, commands are refused as they should be | with `-v` |
//! | debug | each command | with `-vv` |

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// The name in front of every line.
pub const PROGRAM: &str = "qemu-pr-helper";

/// Bytes of the longest line, its end included: what a pipe takes at once (`PIPE_BUF`).
const LONGEST_LINE: usize = 4096;

/// The end of a line that was longer.
const CUT: &str = "…\n";

/// For how many things it is remembered when a remark about them was made.
const MOST_THINGS: usize = 64;

const MINUTE: Duration = Duration::from_secs(60);

/// Held by the thread that writes.
static TURN: Mutex<()> = Mutex::new(());

struct StandardError;

/// Begins to log, as much as the command line asks for. `quiet` wins.
pub fn start(quiet: u8, verbose: u8) {
    // Only a second call fails, and it would change nothing.
    let _ = log::set_logger(&StandardError);
    log::set_max_level(match (quiet, verbose) {
        (1.., _) => LevelFilter::Error,
        (0, 0) => LevelFilter::Warn,
        (0, 1) => LevelFilter::Info,
        (0, _) => LevelFilter::Debug,
    });
}

/// Writes one line to standard error, unless that would block or fail.
pub fn write_line(line: &str) {
    let _ = try_write_line(line);
}

/// As [`write_line`].
///
/// # Errors
///
/// The line is not written: `EAGAIN` if that would block.
pub fn try_write_line(line: &str) -> rustix::io::Result<()> {
    write_line_to(io::stderr(), line)
}

/// Writes one line to `file`, unless that would block or fail.
///
/// Whoever reads the other end (libvirt closes it, a stopped log collector fills it) must not be able
/// to stop a guest's command. A pipe that can be written takes 4096 bytes, and lines are cut to that.
/// A file on a disk always says that it can be.
fn write_line_to(file: impl AsFd, line: &str) -> rustix::io::Result<()> {
    let line = match line.split_at_checked(line.floor_char_boundary(LONGEST_LINE - CUT.len())) {
        Some((kept, rest)) if !rest.is_empty() => format!("{kept}{CUT}"),
        _ => format!("{line}\n"),
    };
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // Between looking and writing no other thread may take the room.
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    match poll(&mut [PollFd::new(&file, PollFlags::OUT)], Some(&now))? {
        0 => Err(Errno::WOULDBLOCK),
        // One write, so that lines of several processes do not mix.
        _ => rustix::io::write(&file, line.as_bytes()).map(|_| ()),
    }
}

/// A remark that clients could cause again and again, and that is made once a minute.
#[derive(Debug, Default)]
pub struct Seldom {
    last: Mutex<Option<Instant>>,
}

impl Seldom {
    /// One that was never made.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            last: Mutex::new(None),
        }
    }

    /// Whether it is time to make it, which it then is not for a minute.
    pub fn is_due(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| last.elapsed() >= MINUTE);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}

/// As [`Seldom`], for each thing that a remark is about.
#[derive(Debug)]
pub struct SeldomEach<T> {
    remarks: Mutex<BTreeMap<T, Seldom>>,
}

impl<T> Default for SeldomEach<T> {
    fn default() -> Self {
        Self {
            remarks: Mutex::default(),
        }
    }
}

impl<T: Ord + Clone> SeldomEach<T> {
    /// Whether it is time to make the remark about `thing`, which it then is not for a minute.
    ///
    /// With too many things, of which clients may make up more, all are forgotten.
    pub fn is_due(&self, thing: &T) -> bool {
        let mut remarks = self.remarks.lock().unwrap_or_else(PoisonError::into_inner);
        if remarks.len() >= MOST_THINGS && !remarks.contains_key(thing) {
            remarks.clear();
        }
        remarks.entry(thing.clone()).or_default().is_due()
    }
}

impl Log for StandardError {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        // The words that QEMU's own programs put there.
        let kind = match record.level() {
            Level::Error => "",
            Level::Warn => "warning: ",
            Level::Info => "info: ",
            Level::Debug | Level::Trace => "debug: ",
        };
        if self.enabled(record.metadata()) {
            write_line(&format!("{PROGRAM}: {kind}{}", record.args()));
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::BorrowedFd;

    /// Everything that went into a pipe, which was `write`'s only writer.
    fn written(write: impl FnOnce(BorrowedFd<'_>)) -> String {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        write(writer.as_fd());
        drop(writer);
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn long_lines_are_cut_to_what_a_pipe_takes_at_once() {
        let text = written(|pipe| write_line_to(pipe, &"ä".repeat(5000)).unwrap());
        assert!(text.len() <= LONGEST_LINE, "{}", text.len());
        assert!(text.ends_with("ä…\n"));
        assert_eq!(
            written(|pipe| write_line_to(pipe, "short").unwrap()),
            "short\n"
        );
    }

    #[test]
    fn a_full_pipe_loses_lines_and_blocks_nobody() {
        let line = "x".repeat(4000);
        let text = written(|pipe| {
            let results: Vec<_> = (0..100).map(|_| write_line_to(pipe, &line)).collect();
            assert_eq!(results.last(), Some(&Err(Errno::WOULDBLOCK)));
        });
        let lines = text.lines().count();
        assert!((1..100).contains(&lines), "{lines}");
        assert!(text.lines().all(|found| found == line));
    }

    #[test]
    fn a_seldom_remark_is_made_once() {
        let remark = Seldom::new();
        assert!(remark.is_due());
        assert!(!remark.is_due());
    }
}
