//! Trace points: named events that can be enabled one by one, and cost a load and a branch if not.

pub mod events;
pub mod options;

use std::fmt;
use std::fs::File;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::logging;

/// Where enabled events go instead of standard error.
static FILE: OnceLock<File> = OnceLock::new();

/// A kind of thing that happens, and whether anybody wants to know.
#[derive(Debug)]
pub struct Event {
    name: &'static str,
    enabled: AtomicBool,
}

impl Event {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            enabled: AtomicBool::new(false),
        }
    }

    /// The name that `--trace` knows it by.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it is to be reported.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    fn enable(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Relaxed);
    }

    /// Reports it: one line, the name and what is to be said.
    pub fn emit(&self, details: fmt::Arguments<'_>) {
        let line = format!("{} {details}", self.name);
        match FILE.get() {
            None => logging::write_line(&line),
            Some(file) => logging::write_line_to(file, &line),
        }
    }
}

/// Reports an event if it is enabled; the arguments are not even looked at if it is not.
macro_rules! trace {
    ($event:ident, $($argument:tt)+) => {
        if $crate::trace::events::$event.is_enabled() {
            $crate::trace::events::$event.emit(format_args!($($argument)+));
        }
    };
}
pub(crate) use trace;
