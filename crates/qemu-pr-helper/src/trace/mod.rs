// SPDX-License-Identifier: MIT OR Apache-2.0

//! Trace points: named events that can be enabled one by one. A disabled event costs a load and a
//! branch.
//!
//! An enabled event passes these stages, and never blocks the thread that reports it:
//!
//! ```text
//! trace!(event(arguments…)) → TraceEvent → each sink
//!     log, simple:    buffer → writer thread → file, pipe or standard error
//!     ftrace, syslog: one system call that does not block
//! ```

pub(crate) mod argument;
mod buffer;
pub mod events;
pub mod options;
mod output;
#[cfg(feature = "usdt")]
mod probes;
mod sinks;
pub(crate) mod trace_events_file;
mod writer;

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use argument::{Parameter, Value};
use options::TraceSettings;
use sinks::Sinks;

pub use sinks::SinkError;

/// Sinks of enabled events; not set before [`open`].
static SINKS: OnceLock<Sinks> = OnceLock::new();

/// Event that can be traced.
#[derive(Debug)]
pub struct TraceEvent {
    /// Index in the table, which identifies the event in binary traces.
    id: u64,
    name: &'static str,
    parameters: &'static [Parameter],
    /// Text of the event, in the syntax of `format!`.
    format: &'static str,
    enabled: AtomicBool,
}

impl TraceEvent {
    /// Returns the name that `--trace` matches.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns whether the event is enabled.
    #[inline]
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    fn enable(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Relaxed);
    }

    /// Passes the event to each sink.
    fn emit(&self, values: &[Value<'_>], text: fmt::Arguments<'_>) {
        if let Some(sinks) = SINKS.get() {
            sinks.emit(self, values, text);
        }
    }
}

/// Reports an event if it is enabled. The arguments are not evaluated otherwise.
///
/// With the feature `usdt` the event is a static probe too. Its arguments are evaluated while a
/// tracer is attached to it.
macro_rules! trace {
    ($event:ident($($argument:expr),* $(,)?)) => {{
        // `untraced` removes the trace points; a benchmark compares with that.
        if !cfg!(untraced) && $crate::trace::events::$event::EVENT.is_enabled() {
            $crate::trace::events::$event::emit($($argument),*);
        }
        #[cfg(feature = "usdt")]
        $crate::trace::events::$event::probe(|| {
            $crate::trace::events::$event::probe_args($($argument),*)
        });
    }};
}
pub(crate) use trace;

/// Returns whether any of the events is enabled, for callers that must prepare data for it.
macro_rules! event_enabled {
    ($($event:ident),+) => {
        !cfg!(untraced)
            && (cfg!(feature = "usdt") $(|| $crate::trace::events::$event::EVENT.is_enabled())+)
    };
}
pub(crate) use event_enabled;

/// Opens the sinks if an event is enabled or a file is named. Events are buffered until [`start`].
pub(crate) fn open(settings: &TraceSettings) -> Result<(), SinkError> {
    if settings.file.is_some() || events::ALL.iter().any(|event| event.is_enabled()) {
        // A second call would have no effect.
        let _ = SINKS.set(Sinks::open(settings)?);
    }
    Ok(())
}

/// Starts the writer threads. The steps before it can require a single-threaded process.
pub(crate) fn start() -> Result<(), SinkError> {
    SINKS.get().map_or(Ok(()), Sinks::start)
}

/// Waits a limited time until all events reported so far are written.
pub(crate) fn flush() {
    if let Some(sinks) = SINKS.get() {
        sinks.flush();
    }
}

/// Disables tracing in a forked child. The buffered records belong to the parent.
pub fn disable_in_child() {
    for event in events::ALL {
        event.enable(false);
    }
}

/// Writes the buffered events, and gives up after a limited time.
pub(crate) fn finish() {
    if let Some(sinks) = SINKS.get() {
        sinks.finish();
    }
}
