//! Trace points: named events that can be enabled one by one, and cost a load and a branch if not.
//!
//! An enabled event goes one straight way, and waits for nothing on it:
//!
//! ```text
//! trace!(event(arguments…)) → Event → each sink → Writer (memory) ─ its own thread → file, pipe, standard error
//!                                          └─ ftrace, syslog: one call that does not block
//! ```
//!
//! | module | job |
//! |---|---|
//! | [`events`] | the table of events: name, arguments, text |
//! | [`argument`] | the types that arguments have |
//! | [`definitions`] | the table in the syntax of QEMU's `trace-events` files |
//! | [`options`], [`pattern`] | the values of `--trace` |
//! | [`sinks`] | what becomes of an event: a line, a record |
//! | `kept` | records in memory |
//! | [`writer`] | the thread that takes them to where they belong |
//! | [`target`] | where they belong |

pub mod argument;
mod buffer;
pub mod events;
pub mod options;
pub mod output;
pub mod pattern;
#[cfg(feature = "usdt")]
pub mod probes;
pub mod sinks;
pub mod trace_events_file;
pub mod writer;

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use argument::{Parameter, Value};
use sinks::Sinks;

pub use sinks::{Backend, SinkError};

/// Where enabled events go. Nothing before the sinks are [opened](open).
static SINKS: OnceLock<Sinks> = OnceLock::new();

/// A kind of thing that happens, and whether anybody wants to know.
#[derive(Debug)]
pub struct Event {
    /// Its place in the table, by which binary traces call it.
    id: u64,
    name: &'static str,
    parameters: &'static [Parameter],
    /// The text, as `format!` takes it.
    format: &'static str,
    enabled: AtomicBool,
}

impl Event {
    const fn new(
        id: u64,
        name: &'static str,
        parameters: &'static [Parameter],
        format: &'static str,
    ) -> Self {
        Self {
            id,
            name,
            parameters,
            format,
            enabled: AtomicBool::new(false),
        }
    }

    /// The name that `--trace` knows it by.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it is to be reported.
    #[inline]
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    fn enable(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Relaxed);
    }

    /// Reports it to every sink.
    fn emit(&self, values: &[Value<'_>], text: fmt::Arguments<'_>) {
        if let Some(sinks) = SINKS.get() {
            sinks.emit(self, values, text);
        }
    }
}

/// Reports an event if it is enabled; the arguments are not even looked at if it is not.
///
/// With the feature `usdt` it is a static probe too, for which they are looked at when somebody is
/// attached to it.
macro_rules! trace {
    ($event:ident($($argument:expr),* $(,)?)) => {{
        // `untraced` is without trace points, which is what benchmarks compare with.
        if !cfg!(untraced) && $crate::trace::events::$event::EVENT.is_enabled() {
            $crate::trace::events::$event::emit($($argument),*);
        }
        #[cfg(feature = "usdt")]
        $crate::trace::events::$event::probe(|| {
            $crate::trace::events::$event::words($($argument),*)
        });
    }};
}
pub(crate) use trace;

/// Whether an event is enabled, where more than its arguments has to be made for it.
macro_rules! event_enabled {
    ($($event:ident),+) => {
        !cfg!(untraced) && (cfg!(feature = "usdt") $(|| $crate::trace::events::$event::EVENT.is_enabled())+)
    };
}
pub(crate) use event_enabled;

/// Opens what the events go to, if any is enabled. They are kept in memory until [`start`].
///
/// # Errors
///
/// [`SinkError`].
pub fn open(settings: &options::TraceSettings) -> Result<(), SinkError> {
    let is_wanted = settings.file.is_some() || events::ALL.iter().any(|event| event.is_enabled());
    if is_wanted {
        let sinks = Sinks::open(settings)?;
        // Only a second call finds some there; they stay.
        let _ = SINKS.set(sinks);
    }
    Ok(())
}

/// Starts the threads that write. Before this there may have to be no thread but the first.
///
/// # Errors
///
/// [`SinkError::Thread`].
pub fn start() -> Result<(), SinkError> {
    SINKS.get().map_or(Ok(()), Sinks::start)
}

/// Waits until what was reported so far is written, as far as that takes no long time.
pub fn flush() {
    if let Some(sinks) = SINKS.get() {
        sinks.flush();
    }
}

/// Lets this process report no more: it is one that was forked, and what is kept is the other's to write.
pub fn disable_in_child() {
    for event in events::ALL {
        event.enable(false);
    }
}

/// Writes what is kept, as far as that takes no long time.
pub fn finish() {
    if let Some(sinks) = SINKS.get() {
        sinks.finish();
    }
}
