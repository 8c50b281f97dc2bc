//! The styles, each by what it stands for.

use anstyle::{AnsiColor, Style};

/// Nothing particular.
pub(super) const PLAIN: Style = Style::new();
/// What a text is about.
pub(super) const BOLD: Style = Style::new().bold();
/// What explains, and can be passed over.
pub(super) const DIMMED: Style = Style::new().dimmed();
/// The holder of a reservation, and what was done.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// What was not done.
pub(super) const REFUSED: Style = AnsiColor::Yellow.on_default();
/// What should not be.
pub(super) const WRONG: Style = AnsiColor::Red.on_default();
/// The program's name before an error.
pub(super) const ERROR: Style = AnsiColor::Red.on_default().bold();
/// The program's name before a note.
pub(super) const NOTE: Style = AnsiColor::Yellow.on_default().bold();
