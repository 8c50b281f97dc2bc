//! Backend `log`: a line of text for each event.

use std::fmt;
use std::io::Write as _;
use std::time::SystemTime;

use rustix::thread::gettid;

use crate::trace::Event;
use crate::trace::output::Output;
use crate::trace::writer::{Writer, now, with_record};

/// Writes lines.
#[derive(Debug)]
pub(super) struct Log {
    writer: Writer,
    timestamp: bool,
}

impl Log {
    pub(super) fn new(target: Output, timestamp: bool) -> Self {
        Self {
            writer: Writer::new(target, dropped),
            timestamp,
        }
    }

    pub(super) fn emit(&self, event: &Event, text: &impl fmt::Display) {
        with_record(|line| {
            if self.timestamp {
                stamp(line);
            }
            put(line, format_args!("{} {text}\n", event.name));
            self.writer.put(now(), line);
        });
    }

    pub(super) const fn writer(&self) -> &Writer {
        &self.writer
    }
}

/// Thread and time, as QEMU's programs have them with `-msg timestamp=on`.
fn stamp(line: &mut Vec<u8>) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap_or_default();
    put(
        line,
        format_args!("{}@{}.{:06}:", gettid(), now.as_secs(), now.subsec_micros()),
    );
}

/// What stands where events are missing.
fn dropped(count: u64) -> Vec<u8> {
    format!("dropped {count} events\n").into_bytes()
}

fn put(line: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // In memory this does not fail.
    let _ = line.write_fmt(text);
}
