//! Backend `ftrace`: the kernel's own trace, where events stand between those of the kernel
//! (`Documentation/trace/ftrace.rst`, `trace_marker`).

use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};

use crate::logging::RateLimit;
use crate::trace::Event;
use crate::trace::writer::with_record;

/// Where tracefs is mounted, and where it was before Linux 4.1.
const MARKERS: [&str; 2] = [
    "/sys/kernel/tracing/trace_marker",
    "/sys/kernel/debug/tracing/trace_marker",
];

/// Writes to the kernel's ring buffer, which takes no time and overwrites what is oldest.
#[derive(Debug)]
pub(super) struct Ftrace {
    marker: File,
    failed: RateLimit,
}

impl Ftrace {
    pub(super) fn open() -> io::Result<Self> {
        let open = |path| File::options().write(true).open(path);
        let [now, before] = MARKERS;
        Ok(Self {
            marker: open(now).or_else(|error| open(before).map_err(|_| error))?,
            failed: RateLimit::new(),
        })
    }

    pub(super) fn emit(&self, event: &Event, text: &impl fmt::Display) {
        with_record(|line| {
            // In memory this does not fail.
            let _ = writeln!(line, "{} {text}", event.name);
            // One write is one entry.
            if let Err(error) = (&self.marker).write(line)
                && self.failed.should_log()
            {
                ::log::warn!("events are missing in the kernel's trace: {error}");
            }
        });
    }
}
