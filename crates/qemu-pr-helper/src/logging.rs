//! What the operator reads: one line on standard error for each thing worth saying.
//!
//! | level | what belongs there | shown |
//! |---|---|---|
//! | error | the helper, or part of it, cannot do its work | always |
//! | warn | a client or a device did what it should not; somebody may have to act | unless `-q` |
//! | info | connections come and go, commands are refused as they should be | with `-v` |
//! | debug | each command | with `-vv` |
//!
//! Bytes from outside, such as the content of a file or a reply of multipathd, reach a line in many
//! ways. So control characters are escaped here, in every line.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::fstat;
use rustix::io::Errno;

/// The name in front of every line.
pub const PROGRAM: &str = "qemu-pr-helper";

/// Bytes of the longest line, its end included: what a pipe takes at once (`PIPE_BUF`).
const LONGEST_LINE: usize = 4096;

/// The end of a line that was longer.
const TRUNCATION_MARK: &str = "…\n";

/// Lines that a [`KeyedRateLimit`] allows in a minute, for all keys together.
pub const MAX_LINES_PER_MINUTE: usize = 32;

const INTERVAL: Duration = Duration::from_secs(60);

/// Held by the thread that writes.
static WRITE_LOCK: Mutex<()> = Mutex::new(());

/// Whether standard error is a stream of journald, which reads priorities; see [`priority`].
static IS_JOURNAL: OnceLock<bool> = OnceLock::new();

struct StandardError;

/// Begins to log, as much as the command line asks for. `quiet` wins.
pub fn init(quiet: u8, verbose: u8) {
    // Look at standard error while nothing is closed or forbidden yet.
    is_journal();
    // Only a second call fails, and it would change nothing.
    let _ = log::set_logger(&StandardError);
    log::set_max_level(match (quiet, verbose) {
        (1.., _) => LevelFilter::Error,
        (0, 0) => LevelFilter::Warn,
        (0, 1) => LevelFilter::Info,
        (0, _) => LevelFilter::Debug,
    });
}

/// Writes one line to standard error, whatever `-q` says, unless that would block or fail.
///
/// If standard error is a stream of journald, the line begins with the priority of `level`.
pub fn write_line(level: Level, line: fmt::Arguments<'_>) {
    let _ = try_write_line(&format!("{}{line}", priority(level)));
}

/// Returns the prefix by which journald knows the priority of a line, as in sd-daemon(3); nothing if
/// standard error is no stream of journald.
fn priority(level: Level) -> &'static str {
    match level {
        _ if !is_journal() => "",
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        Level::Debug | Level::Trace => "<7>",
    }
}

fn is_journal() -> bool {
    *IS_JOURNAL.get_or_init(|| is_stream_of(env::var_os("JOURNAL_STREAM"), io::stderr()))
}

/// Returns whether `file` is the stream that `JOURNAL_STREAM` names, as `DEVICE:INODE`. A process whose
/// standard error was replaced inherits the variable all the same, so the name alone says nothing.
fn is_stream_of(variable: Option<OsString>, file: impl AsFd) -> bool {
    let Ok(found) = fstat(file) else {
        return false;
    };
    variable.is_some_and(|name| *name == *format!("{}:{}", found.st_dev, found.st_ino))
}

/// Writes one line to standard error, as it is but for control characters, which are escaped.
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
    let line = Escaped(line).to_string();
    let line = match line
        .split_at_checked(line.floor_char_boundary(LONGEST_LINE - TRUNCATION_MARK.len()))
    {
        Some((kept, rest)) if !rest.is_empty() => format!("{kept}{TRUNCATION_MARK}"),
        _ => format!("{line}\n"),
    };
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // Between looking and writing no other thread may take the room.
    let _turn = WRITE_LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    match poll(&mut [PollFd::new(&file, PollFlags::OUT)], Some(&now))? {
        0 => Err(Errno::WOULDBLOCK),
        // One write, so that lines of several processes do not mix.
        _ => rustix::io::write(&file, line.as_bytes()).map(|_| ()),
    }
}

/// A remark that clients could cause again and again, and that is made once a minute.
#[derive(Debug, Default)]
pub struct RateLimit {
    last: Mutex<Option<Instant>>,
}

impl RateLimit {
    /// One that was never made.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            last: Mutex::new(None),
        }
    }

    /// Whether it is time to make it, which it then is not for a minute.
    pub fn should_log(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| last.elapsed() >= INTERVAL);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}

/// Rate limiter for a warning that clients can cause at will.
///
/// At most one line a minute is allowed for each key, such as a client's process, so that one client
/// cannot hide what there is to log about another. At most [`MAX_LINES_PER_MINUTE`] lines are
/// allowed for all keys, so that many processes cannot fill the log. With `-v` every line is allowed.
#[derive(Debug)]
pub struct KeyedRateLimit<K> {
    lines: Mutex<Lines<K>>,
}

/// Lines of the last minute.
#[derive(Debug)]
struct Lines<K> {
    /// When each line was allowed, and its key; the oldest line first.
    allowed: VecDeque<(Instant, K)>,
    /// Lines that were suppressed since the last one that was allowed.
    suppressed: u64,
}

/// Number of lines that a [`KeyedRateLimit`] has suppressed. `Display` is what the next line ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suppressed(u64);

impl<K> KeyedRateLimit<K> {
    /// Creates a limiter that has not seen any line.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            lines: Mutex::new(Lines {
                allowed: VecDeque::new(),
                suppressed: 0,
            }),
        }
    }
}

impl<K> Default for KeyedRateLimit<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Eq> KeyedRateLimit<K> {
    /// Returns whether a line about `key` may be logged now, and then what it has to end with.
    pub fn should_log(&self, key: K) -> Option<Suppressed> {
        if log::log_enabled!(Level::Info) {
            return Some(Suppressed(0));
        }
        self.should_log_at(key, Instant::now())
    }

    fn should_log_at(&self, key: K, now: Instant) -> Option<Suppressed> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |&(at, _): &(Instant, K)| now.duration_since(at) >= INTERVAL;
        while lines.allowed.pop_front_if(|line| is_old(line)).is_some() {}
        let is_known = lines.allowed.iter().any(|(_, known)| *known == key);
        if is_known || lines.allowed.len() >= MAX_LINES_PER_MINUTE {
            lines.suppressed = lines.suppressed.saturating_add(1);
            return None;
        }
        lines.allowed.push_back((now, key));
        Some(Suppressed(std::mem::take(&mut lines.suppressed)))
    }
}

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            1 => f.write_str(" (1 similar message suppressed)"),
            count => write!(f, " ({count} similar messages suppressed)"),
        }
    }
}

/// Text whose `Display` escapes control characters.
///
/// Such text can neither begin a line of its own nor control a terminal.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<T>(pub T);

struct EscapingWriter<W>(W);

impl<T: fmt::Display> fmt::Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(EscapingWriter(f), "{}", self.0)
    }
}

impl<W: fmt::Write> fmt::Write for EscapingWriter<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Nearly every line, and decided without decoding it.
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return self.0.write_str(text);
        }
        let mut start = 0;
        for (index, character) in text.char_indices() {
            if is_control(character) {
                self.0
                    .write_str(text.get(start..index).unwrap_or_default())?;
                write!(self.0, "{}", character.escape_default())?;
                start = index.saturating_add(character.len_utf8());
            }
        }
        self.0.write_str(text.get(start..).unwrap_or_default())
    }
}

/// Returns whether a terminal or a viewer may obey a character: control characters, separators of
/// lines and paragraphs, and changes of the direction of writing.
fn is_control(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
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
            let text = record.args();
            write_line(record.level(), format_args!("{PROGRAM}: {kind}{text}"));
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
    fn control_characters_are_escaped() {
        let text = written(|pipe| {
            let forged = "unknown field `a\nqemu-pr-helper: \x1b[2J\u{9b}\u{202e}\0`é";
            write_line_to(pipe, forged).unwrap();
        });
        let escaped = r"unknown field `a\nqemu-pr-helper: \u{1b}[2J\u{9b}\u{202e}\u{0}`é";
        assert_eq!(text, format!("{escaped}\n"));
    }

    #[test]
    fn journal_stream_matches_device_and_inode() {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let found = fstat(&writer).unwrap();
        let name = |inode| Some(OsString::from(format!("{}:{inode}", found.st_dev)));
        assert!(is_stream_of(name(found.st_ino), &writer));
        assert!(!is_stream_of(name(found.st_ino + 1), &reader));
        assert!(!is_stream_of(Some("".into()), &writer));
        assert!(!is_stream_of(None, &writer));
    }

    #[test]
    fn rate_limit_is_per_key() {
        let limit = KeyedRateLimit::new();
        let start = Instant::now();
        assert_eq!(limit.should_log_at(1, start), Some(Suppressed(0)));
        for _ in 0..1000 {
            assert_eq!(limit.should_log_at(1, start), None);
        }
        // Another key is not affected, and its line accounts for those of the first.
        assert_eq!(limit.should_log_at(2, start), Some(Suppressed(1000)));
        assert_eq!(limit.should_log_at(1, start + INTERVAL / 2), None);
        let line = limit.should_log_at(1, start + INTERVAL).unwrap();
        assert_eq!(line.to_string(), " (1 similar message suppressed)");
    }

    #[test]
    fn rate_limit_bounds_all_keys_together() {
        let limit = KeyedRateLimit::new();
        let start = Instant::now();
        let lines = (0..10_000).filter_map(|key| limit.should_log_at(key, start));
        assert_eq!(lines.count(), MAX_LINES_PER_MINUTE);
        let lines = limit.lines.lock().unwrap();
        assert!(lines.allowed.len() <= MAX_LINES_PER_MINUTE);
        drop(lines);
        let line = limit.should_log_at(0, start + INTERVAL).unwrap();
        assert_eq!(line.to_string(), " (9968 similar messages suppressed)");
    }

    #[test]
    fn a_seldom_remark_is_made_once() {
        let remark = RateLimit::new();
        assert!(remark.should_log());
        assert!(!remark.should_log());
    }
}
