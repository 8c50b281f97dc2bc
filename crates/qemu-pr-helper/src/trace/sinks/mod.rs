// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sinks of events: each backend that the command line selects turns an event into a line or a
//! record.

mod simple;
mod text;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::time::Duration;

use cli_messages::error::system_error;
use cli_messages::escape::Escaped;
use thiserror::Error;

use super::TraceEvent;
use super::argument::Value;
use super::options::{TraceBackend, TraceSettings};
use super::output::Output;
use super::writer::Writer;

use simple::Simple;
use text::{Ftrace, Log, Syslog};

/// Maximum time for writing the buffered records, when the helper exits or its parent does.
const FINAL_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Error when a backend is opened or started.
#[derive(Debug, Error)]
pub enum SinkError {
    /// The trace file cannot be written.
    #[error(
        "--trace: cannot write trace file '{path}': {cause}; choose another one with file=",
        path = .0.display(), cause = system_error(.1)
    )]
    File(PathBuf, io::Error),
    /// The trace file is a symbolic link.
    #[error(
        "--trace: trace file '{path}' is a symbolic link; remove it or use the path of its target",
        path = .0.display()
    )]
    SymbolicLink(PathBuf),
    /// The file name of the backend `log` has percent signs other than one `%d`.
    #[error(
        "--trace: Bad logfile template: '{path}'; use at most one %d (the process ID) and no other \
         percent sign",
        path = .0.display()
    )]
    Template(PathBuf),
    /// The kernel's `trace_marker` cannot be opened.
    #[error(
        "--trace-backend ftrace: cannot open trace_marker: {}; start as root, with tracefs mounted",
        system_error(.0)
    )]
    Ftrace(io::Error),
    /// The socket for the system log cannot be created.
    #[error(
        "--trace-backend syslog: cannot create a socket: {}; choose another backend",
        system_error(.0)
    )]
    Syslog(io::Error),
    /// A writer thread cannot be started.
    #[error(
        "cannot start the trace writer thread: {}; check the limits of processes and memory",
        system_error(.0)
    )]
    Thread(io::Error),
}

/// The selected sinks.
#[derive(Debug, Default)]
pub(super) struct Sinks {
    log: Option<Log>,
    simple: Option<Simple>,
    ftrace: Option<Ftrace>,
    syslog: Option<Syslog>,
}

impl Sinks {
    /// Opens a sink for each backend in the settings.
    pub(super) fn open(settings: &TraceSettings) -> Result<Self, SinkError> {
        let is_selected = |backend| settings.backends.contains(&backend);
        let mut sinks = Self::default();
        // As in QEMU, the file belongs to `simple` if both backends are selected.
        let (log_file, simple_file) = match &settings.file {
            Some(file) if is_selected(TraceBackend::Simple) => (None, Some(file)),
            file => (file.as_ref(), None),
        };
        if is_selected(TraceBackend::Log) {
            let output = match log_file {
                Some(path) => create(&expand_pid(path)?)?,
                None => Output::Stderr,
            };
            sinks.log = Some(Log::new(output, settings.timestamp));
        }
        if is_selected(TraceBackend::Simple) {
            let default = || settings.dir.join(format!("trace-{}", process::id()));
            let path = simple_file.cloned().unwrap_or_else(default);
            let simple = Simple::new(create(&path)?);
            sinks.simple = Some(simple.map_err(|error| SinkError::File(path, error))?);
        }
        if is_selected(TraceBackend::Ftrace) {
            sinks.ftrace = Some(Ftrace::open().map_err(SinkError::Ftrace)?);
        }
        if is_selected(TraceBackend::Syslog) {
            sinks.syslog = Some(Syslog::open().map_err(SinkError::Syslog)?);
        }
        Ok(sinks)
    }

    /// Starts the writer threads.
    pub(super) fn start(&self) -> Result<(), SinkError> {
        self.writers()
            .try_for_each(|writer| writer.start().map_err(SinkError::Thread))
    }

    /// Passes an event to each sink.
    ///
    /// In lines of text, control characters are escaped as in log lines. Binary records are exact,
    /// because their fields have lengths.
    pub(super) fn emit(&self, event: &TraceEvent, values: &[Value<'_>], text: fmt::Arguments<'_>) {
        let text = Escaped(text);
        if let Some(log) = &self.log {
            log.emit(event, &text);
        }
        if let Some(simple) = &self.simple {
            simple.emit(event, values);
        }
        if let Some(ftrace) = &self.ftrace {
            ftrace.emit(event, &text);
        }
        if let Some(syslog) = &self.syslog {
            syslog.emit(event, &text);
        }
    }

    /// Waits until the buffered records are written, for at most [`FINAL_FLUSH_TIMEOUT`].
    pub(super) fn flush(&self) {
        self.writers()
            .for_each(|writer| writer.flush(FINAL_FLUSH_TIMEOUT));
    }

    /// Writes the buffered records and reports the dropped ones, within [`FINAL_FLUSH_TIMEOUT`].
    pub(super) fn finish(&self) {
        self.writers()
            .for_each(|writer| writer.finish(FINAL_FLUSH_TIMEOUT));
        if let Some(syslog) = &self.syslog {
            syslog.report_drops();
        }
    }

    fn writers(&self) -> impl Iterator<Item = &Arc<Writer>> {
        let log = self.log.as_ref().map(|log| &log.writer);
        let simple = self.simple.as_ref().map(|simple| &simple.writer);
        log.into_iter().chain(simple)
    }
}

/// Replaces `%d` in a path with the process ID, as QEMU does.
fn expand_pid(path: &Path) -> Result<PathBuf, SinkError> {
    let template = path.as_os_str().as_bytes();
    let pieces: Vec<_> = template.split(|byte| *byte == b'%').collect();
    match pieces.as_slice() {
        [_] => Ok(path.to_owned()),
        [before, [b'd', after @ ..]] => {
            let pid = process::id().to_string();
            let name = [before, pid.as_bytes(), after].concat();
            Ok(PathBuf::from(OsString::from_vec(name)))
        }
        _ => Err(SinkError::Template(path.to_owned())),
    }
}

fn create(path: &Path) -> Result<Output, SinkError> {
    Output::create(path).map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => SinkError::SymbolicLink(path.to_owned()),
        _ => SinkError::File(path.to_owned(), error),
    })
}
