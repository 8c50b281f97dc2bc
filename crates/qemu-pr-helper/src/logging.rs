// SPDX-License-Identifier: MIT OR Apache-2.0

//! The log: one line on standard error for each message.
//!
//! | level | messages | shown |
//! |---|---|---|
//! | error | the helper, or part of it, cannot work | always |
//! | warn | a client or a device misbehaves, and the operator may have to act | unless `-q` |
//! | info | connections, and commands that are rejected as intended | with `-v` |
//! | debug | every command | with `-vv` |
//!
//! [`notice`] is for the one line that says where the helper listens: level info, but shown unless
//! `-q`.
//!
//! Untrusted bytes, such as the content of a file or a reply of multipathd, reach the log in many
//! ways. This module therefore escapes control characters in every line. It also removes the
//! numbers of system errors, which the standard library appends to their texts.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use cli_messages::error::without_error_numbers;
use cli_messages::escape::Escaped;
use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::fstat;
use rustix::io::Errno;

/// Program name at the beginning of every line.
pub(crate) const PROGRAM: &str = "qemu-pr-helper";

/// Maximum length of a line in bytes, including its end: a pipe takes it in one piece (`PIPE_BUF`).
const MAX_LINE_LEN: usize = 4096;

/// End of a line that was truncated.
const TRUNCATION_MARK: &str = "…\n";

/// Maximum length of a text in bytes that is not truncated.
pub(crate) const MAX_TEXT_LEN: usize = MAX_LINE_LEN - TRUNCATION_MARK.len();

/// Lines that a [`KeyedRateLimit`] allows per minute for all keys together.
const MAX_LINES_PER_MINUTE: usize = 32;

/// Period of the rate limits.
const INTERVAL: Duration = Duration::from_secs(60);

/// Serializes writes to standard error.
static WRITE_LOCK: Mutex<()> = Mutex::new(());

/// Cached result of [`is_journal`].
static IS_JOURNAL: OnceLock<bool> = OnceLock::new();

struct StderrLogger;

/// Initializes the log with the level that the counts of `-q` and `-v` select. `quiet` wins.
pub(crate) fn init(quiet: u8, verbose: u8) {
    // Standard error is examined now, before it is closed or the sandbox forbids it.
    is_journal();
    // A second call fails and changes nothing.
    let _ = log::set_logger(&StderrLogger);
    log::set_max_level(match (quiet, verbose) {
        (1.., _) => LevelFilter::Error,
        (0, 0) => LevelFilter::Warn,
        (0, 1) => LevelFilter::Info,
        (0, _) => LevelFilter::Debug,
    });
}

/// Writes one line of level info to standard error, unless `-q` is given.
pub(crate) fn notice(text: &str) {
    if log::log_enabled!(Level::Warn) {
        write_line(Level::Info, format_args!("{PROGRAM}: {text}"));
    }
}

/// Writes one line to standard error, regardless of `-q`. Drops the line if the write would block
/// or fails.
///
/// If standard error is a journald stream, the line begins with the priority of `level`.
pub(crate) fn write_line(level: Level, line: fmt::Arguments<'_>) {
    let _ = try_write_line(&format!("{}{line}", priority_prefix(level)));
}

/// Returns the prefix from which journald takes the priority of a line (see sd-daemon(3)), or an
/// empty string if standard error is not a journald stream.
fn priority_prefix(level: Level) -> &'static str {
    match level {
        _ if !is_journal() => "",
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        Level::Debug | Level::Trace => "<7>",
    }
}

/// Returns whether standard error is a journald stream.
fn is_journal() -> bool {
    *IS_JOURNAL.get_or_init(|| is_stream(env::var_os("JOURNAL_STREAM"), io::stderr()))
}

/// Returns whether `file` is the stream that `JOURNAL_STREAM` names as `DEVICE:INODE`.
///
/// The variable alone is not enough, because a process inherits it with possibly redirected
/// standard error.
fn is_stream(variable: Option<OsString>, file: impl AsFd) -> bool {
    let name = fstat(file).map(|stat| format!("{}:{}", stat.st_dev, stat.st_ino));
    variable
        .zip(name.ok())
        .is_some_and(|(variable, name)| variable == *name)
}

/// Writes one line to standard error, with control characters escaped.
///
/// # Errors
///
/// Returns `EAGAIN` if the write would block, or the error of poll(2) or write(2).
pub(crate) fn try_write_line(line: &str) -> rustix::io::Result<()> {
    write_line_to(io::stderr(), line)
}

/// Writes one line to `file`, unless that would block.
///
/// The reader of standard error must not be able to stop a guest's command: libvirt closes its end,
/// and a stopped log collector lets the pipe fill up. A pipe that poll(2) reports as writable takes
/// 4096 bytes, so longer lines are truncated. A file on a disk is always writable.
fn write_line_to(file: impl AsFd, line: &str) -> rustix::io::Result<()> {
    let mut line = Escaped(without_error_numbers(line)).to_string();
    if line.len() > MAX_TEXT_LEN {
        line.truncate(line.floor_char_boundary(MAX_TEXT_LEN));
        line.push_str(TRUNCATION_MARK);
    } else {
        line.push('\n');
    }
    // The lock is held across poll and write, so that no other thread fills the pipe in between.
    let _guard = WRITE_LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let mut files = [PollFd::new(&file, PollFlags::OUT)];
    match poll(&mut files, Some(&Timespec::default()))? {
        0 => Err(Errno::WOULDBLOCK),
        // A single write keeps the lines of several processes apart.
        _ => rustix::io::write(&file, line.as_bytes()).map(drop),
    }
}

/// Rate limiter that allows one message per minute.
#[derive(Debug)]
pub(crate) struct RateLimit(Mutex<Option<Instant>>);

impl RateLimit {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Returns whether the message may be logged now. If so, the next minute begins.
    pub(crate) fn should_log(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| last.elapsed() >= INTERVAL);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}

/// Rate limiter for a warning that clients can cause at will.
///
/// The limiter allows one line per minute for each key, such as a client's process, so that one
/// client cannot hide a warning about another. For all keys together it allows
/// [`MAX_LINES_PER_MINUTE`] lines, so that many processes cannot fill the log. With `-v` it allows
/// every line.
#[derive(Debug)]
pub(crate) struct KeyedRateLimit<K>(Mutex<RecentLines<K>>);

/// Lines of the last minute.
#[derive(Debug)]
struct RecentLines<K> {
    /// Time and key of each allowed line, oldest first.
    allowed: VecDeque<(Instant, K)>,
    /// Number of lines suppressed since the last allowed line.
    suppressed: u64,
}

/// Number of lines that a [`KeyedRateLimit`] has suppressed. Its `Display` is a suffix for the next
/// line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suppressed(u64);

impl<K> KeyedRateLimit<K> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(RecentLines {
            allowed: VecDeque::new(),
            suppressed: 0,
        }))
    }
}

impl<K> Default for KeyedRateLimit<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Eq> KeyedRateLimit<K> {
    /// Returns the suffix for a line about `key`, or `None` if the line must not be logged now.
    pub(crate) fn should_log(&self, key: K) -> Option<Suppressed> {
        if log::log_enabled!(Level::Info) {
            return Some(Suppressed(0));
        }
        self.should_log_at(key, Instant::now())
    }

    fn should_log_at(&self, key: K, now: Instant) -> Option<Suppressed> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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

impl Log for StderrLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        // QEMU's own programs use the same prefixes.
        let prefix = match record.level() {
            Level::Error => "",
            Level::Warn => "warning: ",
            Level::Info => "info: ",
            Level::Debug | Level::Trace => "debug: ",
        };
        let text = record.args();
        write_line(record.level(), format_args!("{PROGRAM}: {prefix}{text}"));
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

    /// Returns everything that `write` writes to a pipe.
    fn piped(write: impl FnOnce(BorrowedFd<'_>)) -> String {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        write(writer.as_fd());
        drop(writer);
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn long_line_is_truncated_to_pipe_buf() {
        let text = piped(|pipe| write_line_to(pipe, &"ä".repeat(5000)).unwrap());
        assert!(text.len() <= MAX_LINE_LEN, "{}", text.len());
        assert!(text.ends_with("ä…\n"));
        let text = piped(|pipe| write_line_to(pipe, "short").unwrap());
        assert_eq!(text, "short\n");
    }

    #[test]
    fn full_pipe_drops_lines_without_blocking() {
        let line = "x".repeat(4000);
        let text = piped(|pipe| {
            let results: Vec<_> = (0..100).map(|_| write_line_to(pipe, &line)).collect();
            assert_eq!(results.last(), Some(&Err(Errno::WOULDBLOCK)));
        });
        let lines = text.lines().count();
        assert!((1..100).contains(&lines), "{lines}");
        assert!(text.lines().all(|written| written == line));
    }

    #[test]
    fn control_characters_are_escaped() {
        let text = piped(|pipe| {
            let forged = "unknown field `a\nqemu-pr-helper: \x1b[2J\u{9b}\u{202e}\0`é";
            write_line_to(pipe, forged).unwrap();
        });
        let escaped = r"unknown field `a\nqemu-pr-helper: \u{1b}[2J\u{9b}\u{202e}\u{0}`é";
        assert_eq!(text, format!("{escaped}\n"));
    }

    #[test]
    fn journal_stream_matches_device_and_inode() {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let stat = fstat(&writer).unwrap();
        let name = |inode| Some(OsString::from(format!("{}:{inode}", stat.st_dev)));
        assert!(is_stream(name(stat.st_ino), &writer));
        assert!(!is_stream(name(stat.st_ino + 1), &reader));
        assert!(!is_stream(Some("".into()), &writer));
        assert!(!is_stream(None, &writer));
    }

    #[test]
    fn keyed_rate_limit_is_per_key() {
        let limit = KeyedRateLimit::new();
        let start = Instant::now();
        assert_eq!(limit.should_log_at(1, start), Some(Suppressed(0)));
        for _ in 0..1000 {
            assert_eq!(limit.should_log_at(1, start), None);
        }
        // Another key is not affected. Its line reports the suppressed lines of the first key.
        assert_eq!(limit.should_log_at(2, start), Some(Suppressed(1000)));
        assert_eq!(limit.should_log_at(1, start + INTERVAL / 2), None);
        let line = limit.should_log_at(1, start + INTERVAL).unwrap();
        assert_eq!(line.to_string(), " (1 similar message suppressed)");
    }

    #[test]
    fn keyed_rate_limit_bounds_all_keys_together() {
        let limit = KeyedRateLimit::new();
        let start = Instant::now();
        let lines = (0..10_000).filter_map(|key| limit.should_log_at(key, start));
        assert_eq!(lines.count(), MAX_LINES_PER_MINUTE);
        let lines = limit.0.lock().unwrap();
        assert!(lines.allowed.len() <= MAX_LINES_PER_MINUTE);
        drop(lines);
        let line = limit.should_log_at(0, start + INTERVAL).unwrap();
        assert_eq!(line.to_string(), " (9968 similar messages suppressed)");
    }

    #[test]
    fn rate_limit_allows_one_message() {
        let limit = RateLimit::new();
        assert!(limit.should_log());
        assert!(!limit.should_log());
    }
}
