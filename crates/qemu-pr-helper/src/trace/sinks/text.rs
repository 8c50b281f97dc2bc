// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sinks that take a line of text for each event: the backends `log`, `ftrace` and `syslog`.

use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socket_with,
};
use rustix::thread::gettid;

use crate::logging::{PROGRAM, RateLimit};
use crate::trace::TraceEvent;
use crate::trace::output::Output;
use crate::trace::writer::{Writer, now, with_record};

/// Backend `log`: lines in a file or on standard error.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) writer: Arc<Writer>,
    timestamp: bool,
}

impl Log {
    pub(super) fn new(output: Output, timestamp: bool) -> Self {
        let drop_marker = |count| format!("dropped {count} events\n").into_bytes();
        Self {
            writer: Writer::new(output, drop_marker),
            timestamp,
        }
    }

    pub(super) fn emit(&self, event: &TraceEvent, text: &impl fmt::Display) {
        with_record(|line| {
            if self.timestamp {
                write_timestamp(line);
            }
            append(line, format_args!("{} {text}\n", event.name));
            self.writer.push(now(), line);
        });
    }
}

/// Writes the thread ID and the time as QEMU's programs do with `-msg timestamp=on`.
fn write_timestamp(line: &mut Vec<u8>) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let (thread, seconds, microseconds) = (gettid(), now.as_secs(), now.subsec_micros());
    append(line, format_args!("{thread}@{seconds}.{microseconds:06}:"));
}

/// Paths of the kernel's `trace_marker` file: the current one, and the one before Linux 4.1.
const MARKERS: [&str; 2] = [
    "/sys/kernel/tracing/trace_marker",
    "/sys/kernel/debug/tracing/trace_marker",
];

/// Backend `ftrace`: entries among the kernel's own events (`Documentation/trace/ftrace.rst`).
///
/// The kernel's ring buffer overwrites the oldest entries, so a write to it never blocks.
#[derive(Debug)]
pub(super) struct Ftrace {
    marker: File,
    warning: RateLimit,
}

impl Ftrace {
    pub(super) fn open() -> io::Result<Self> {
        let open = |path| File::options().write(true).open(path);
        let [current, old] = MARKERS;
        Ok(Self {
            marker: open(current).or_else(|error| open(old).map_err(|_| error))?,
            warning: RateLimit::new(),
        })
    }

    pub(super) fn emit(&self, event: &TraceEvent, text: &impl fmt::Display) {
        with_record(|line| {
            append(line, format_args!("{} {text}\n", event.name));
            // The kernel makes one entry of one write.
            if let Err(error) = (&self.marker).write(line)
                && self.warning.should_log()
            {
                log::warn!("trace dropped events: ftrace: {error}");
            }
        });
    }
}

/// Socket of syslogd or journald.
const SYSLOG_SOCKET: &str = "/dev/log";

/// Facility daemon (3) and priority info (6), encoded as in `<syslog.h>`.
const SYSLOG_PRIORITY: u8 = 3 << 3 | 6;

/// Backend `syslog`: lines in the system log.
///
/// syslog(3) is not used, because it blocks while the receiver is slow. A line that cannot be sent
/// at once is dropped. The lines have no time, because journald and rsyslog add their own.
#[derive(Debug)]
pub(super) struct Syslog {
    /// A socket that is not connected: a restarted syslogd has a new socket at the same path.
    socket: OwnedFd,
    address: SocketAddrUnix,
    dropped: AtomicU64,
    warning: RateLimit,
}

impl Syslog {
    pub(super) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(Self {
            socket: socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?,
            address: SocketAddrUnix::new(SYSLOG_SOCKET)?,
            dropped: AtomicU64::new(0),
            warning: RateLimit::new(),
        })
    }

    pub(super) fn emit(&self, event: &TraceEvent, text: &impl fmt::Display) {
        self.report_drops();
        self.send(1, format_args!("{} {text}", event.name));
    }

    /// Sends the number of dropped events, if there are any.
    pub(super) fn report_drops(&self) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            self.send(dropped, format_args!("dropped {dropped} events"));
        }
    }

    /// Sends a line that stands for a number of `events`. On failure it counts them as dropped.
    fn send(&self, events: u64, text: fmt::Arguments<'_>) {
        with_record(|line| {
            let pid = process::id();
            append(
                line,
                format_args!("<{SYSLOG_PRIORITY}>{PROGRAM}[{pid}]: {text}"),
            );
            let sent = sendto(&self.socket, line, SendFlags::NOSIGNAL, &self.address);
            if let Err(error) = sent {
                self.dropped.fetch_add(events, Ordering::Relaxed);
                if self.warning.should_log() {
                    log::warn!("trace dropped events: {SYSLOG_SOCKET}: {error}");
                }
            }
        });
    }
}

fn append(line: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // Writing to memory does not fail.
    let _ = line.write_fmt(text);
}
