//! Backend `syslog`: a line in the system's log for each event, as facility daemon, priority info.
//!
//! Not with syslog(3), which waits when the other side is slow. The line has no time in it: journald and rsyslog
//! know when they got it.

use std::fmt;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socket_with,
};

use crate::logging::{PROGRAM, RateLimit};
use crate::trace::Event;
use crate::trace::writer::with_record;

/// Where syslogd or journald listens.
const SOCKET: &str = "/dev/log";

/// Facility daemon (3) and priority info (6), as `<syslog.h>` puts them together.
const PRIORITY: u8 = 3 << 3 | 6;

/// Sends datagrams, and drops what cannot be taken at once.
#[derive(Debug)]
pub(super) struct Syslog {
    socket: OwnedFd,
    address: SocketAddrUnix,
    dropped: AtomicU64,
    failed: RateLimit,
}

impl Syslog {
    pub(super) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(Self {
            // Not connected: a log that is started again is another socket of the same name.
            socket: socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?,
            address: SocketAddrUnix::new(SOCKET)?,
            dropped: AtomicU64::new(0),
            failed: RateLimit::new(),
        })
    }

    pub(super) fn emit(&self, event: &Event, text: &impl fmt::Display) {
        self.say_missing();
        if !self.send(format_args!("{} {text}", event.name)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says how many lines are missing, if there are any and it can be said now.
    pub(super) fn say_missing(&self) {
        let missing = self.dropped.swap(0, Ordering::Relaxed);
        if missing > 0 && !self.send(format_args!("dropped {missing} events")) {
            self.dropped.fetch_add(missing, Ordering::Relaxed);
        }
    }

    /// Whether the line was taken.
    fn send(&self, text: fmt::Arguments<'_>) -> bool {
        with_record(|line| {
            // In memory this does not fail.
            let _ = write!(line, "<{PRIORITY}>{PROGRAM}[{}]: {text}", process::id());
            match sendto(&self.socket, line, SendFlags::NOSIGNAL, &self.address) {
                Ok(_) => true,
                Err(error) => {
                    if self.failed.should_log() {
                        ::log::warn!("events are missing in the system's log: {SOCKET}: {error}");
                    }
                    false
                }
            }
        })
    }
}
