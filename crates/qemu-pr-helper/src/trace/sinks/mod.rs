//! What becomes of an event: a line or a record, by the backends that the command line names.

mod ftrace;
mod log;
mod simple;
mod syslog;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use clap::ValueEnum;
use thiserror::Error;

use super::Event;
use super::argument::Value;
use super::options::TraceSettings;
use super::output::Output;
use super::writer::Writer;
use crate::logging::Escaped;

use ftrace::Ftrace;
use log::Log;
use simple::Simple;
use syslog::Syslog;

/// How long the last records may take to be written when the helper ends.
const PARTING: Duration = Duration::from_secs(1);

/// Why events cannot be taken to where they are to go.
#[derive(Debug, Error)]
pub enum SinkError {
    /// The file of a trace.
    #[error("--trace: cannot write trace file '{path}'", path = .0.display())]
    File(PathBuf, #[source] io::Error),
    /// The file of a trace is a symbolic link.
    #[error(
        "--trace: trace file '{path}' is a symbolic link: remove it, or name the file that it \
         leads to",
        path = .0.display()
    )]
    SymbolicLink(PathBuf),
    /// The name of the log backend's file.
    #[error(
        "--trace: Bad logfile template: '{path}': one %d stands for the process, other percent signs \
         for nothing",
        path = .0.display()
    )]
    Template(PathBuf),
    /// The kernel's own trace.
    #[error(
        "--trace-backend ftrace: cannot open trace_marker: is tracefs mounted, and is this root?"
    )]
    Ftrace(#[source] io::Error),
    /// The socket to the system's log.
    #[error("--trace-backend syslog: cannot make a socket")]
    Syslog(#[source] io::Error),
    /// The thread that writes.
    #[error("cannot start a thread that writes the trace")]
    Thread(#[source] io::Error),
}

/// A kind of sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// A line of text for each event, to standard error or to file=
    Log,
    /// A binary record for each event, to file= or to ./trace-PID, for simpletrace.py
    Simple,
    // What is shown by --help has no marks.
    #[expect(clippy::doc_markdown)]
    /// The kernel's own trace, by trace_marker
    Ftrace,
    /// The system's log, as daemon.info
    Syslog,
}

/// One of them.
#[derive(Debug)]
enum Sink {
    Log(Log),
    Simple(Simple),
    Ftrace(Ftrace),
    Syslog(Syslog),
}

/// All that were asked for.
#[derive(Debug)]
pub struct Sinks(Vec<Sink>);

impl Sinks {
    /// Opens those that the settings name, each once.
    ///
    /// # Errors
    ///
    /// [`SinkError`].
    pub fn open(settings: &TraceSettings) -> Result<Self, SinkError> {
        let is_wanted = |backend| settings.backends.contains(&backend);
        let mut sinks = Vec::new();
        // With both, the file is the binary one, as in QEMU.
        let (for_log, for_simple) = match &settings.file {
            Some(file) if is_wanted(Backend::Simple) => (None, Some(file)),
            file => (file.as_ref(), None),
        };
        if is_wanted(Backend::Log) {
            let target = match for_log {
                Some(path) => create(with_number(path)?)?,
                None => Output::StandardError,
            };
            sinks.push(Sink::Log(Log::new(target, settings.timestamp)));
        }
        if is_wanted(Backend::Simple) {
            let default = || settings.folder.join(format!("trace-{}", process::id()));
            let path = for_simple.cloned().unwrap_or_else(default);
            let target = create(path.clone())?;
            let simple = Simple::new(target).map_err(|error| SinkError::File(path, error))?;
            sinks.push(Sink::Simple(simple));
        }
        if is_wanted(Backend::Ftrace) {
            sinks.push(Sink::Ftrace(Ftrace::open().map_err(SinkError::Ftrace)?));
        }
        if is_wanted(Backend::Syslog) {
            sinks.push(Sink::Syslog(Syslog::open().map_err(SinkError::Syslog)?));
        }
        Ok(Self(sinks))
    }

    /// Starts the threads that write.
    ///
    /// # Errors
    ///
    /// [`SinkError::Thread`].
    pub fn start(&self) -> Result<(), SinkError> {
        self.writers()
            .try_for_each(|writer| writer.start().map_err(SinkError::Thread))
    }

    /// Takes an event to all of them.
    ///
    /// Lines of text have their control characters escaped, as log lines have. Binary records are
    /// exact: their fields have lengths.
    pub(super) fn emit(&self, event: &Event, values: &[Value<'_>], text: fmt::Arguments<'_>) {
        let text = Escaped(text);
        for sink in &self.0 {
            match sink {
                Sink::Log(log) => log.emit(event, &text),
                Sink::Simple(simple) => simple.emit(event, values),
                Sink::Ftrace(ftrace) => ftrace.emit(event, &text),
                Sink::Syslog(syslog) => syslog.emit(event, &text),
            }
        }
    }

    /// Waits until what is kept now is written, as far as that takes no long time.
    pub fn flush(&self) {
        self.writers().for_each(|writer| writer.flush(PARTING));
    }

    /// Writes what is kept, as far as that takes no long time.
    pub fn finish(&self) {
        self.writers().for_each(|writer| writer.finish(PARTING));
        for sink in &self.0 {
            if let Sink::Syslog(syslog) = sink {
                syslog.say_missing();
            }
        }
    }

    fn writers(&self) -> impl Iterator<Item = &Writer> {
        self.0.iter().filter_map(|sink| match sink {
            Sink::Log(log) => Some(log.writer()),
            Sink::Simple(simple) => Some(simple.writer()),
            Sink::Ftrace(_) | Sink::Syslog(_) => None,
        })
    }
}

/// With this process's number in the place of `%d`, as QEMU has it.
fn with_number(path: &Path) -> Result<PathBuf, SinkError> {
    let name = path.as_os_str().as_bytes();
    let mut pieces = name.split(|byte| *byte == b'%');
    let bad = || SinkError::Template(path.to_owned());
    let Some((before, after)) = pieces.next().zip(pieces.next()) else {
        return Ok(path.to_owned());
    };
    let after = after.strip_prefix(b"d").ok_or_else(bad)?;
    if pieces.next().is_some() {
        return Err(bad());
    }
    let number = process::id().to_string();
    let name = [before, number.as_bytes(), after].concat();
    Ok(PathBuf::from(OsString::from_vec(name)))
}

fn create(path: PathBuf) -> Result<Output, SinkError> {
    Output::create(&path).map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => SinkError::SymbolicLink(path),
        _ => SinkError::File(path, error),
    })
}
