// SPDX-License-Identifier: MIT OR Apache-2.0

//! The terminal on standard output or standard error: its size, and text that replaces its
//! contents.

use std::env;
use std::io::{self, IsTerminal, Write as _};
use std::os::fd::AsFd;

use rustix::termios::tcgetwinsize;

/// Number of columns of output that does not go to a terminal, or to one of unknown size.
pub(crate) const DEFAULT_COLUMNS: usize = 80;

const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// A terminal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    pub(crate) columns: usize,
    /// Number of rows, or 0 if it is unknown.
    pub(crate) rows: usize,
    /// True if the terminal executes escape sequences.
    pub(crate) has_cursor: bool,
}

impl Terminal {
    /// Returns the terminal on standard output, or `None` if standard output is not a terminal.
    pub(crate) fn stdout() -> Option<Self> {
        Self::of(&io::stdout())
    }

    /// Returns the terminal on standard error, or `None` if standard error is not a terminal.
    pub(crate) fn stderr() -> Option<Self> {
        Self::of(&io::stderr())
    }

    fn of(stream: &(impl IsTerminal + AsFd)) -> Option<Self> {
        if !stream.is_terminal() {
            return None;
        }
        let size = tcgetwinsize(stream).ok();
        let columns = size.map(|size| size.ws_col.into());
        Some(Terminal {
            columns: columns
                .filter(|columns| *columns > 0)
                .unwrap_or(DEFAULT_COLUMNS),
            rows: size.map_or(0, |size| size.ws_row.into()),
            has_cursor: env::var_os("TERM").is_some_and(|name| name != "dumb"),
        })
    }

    /// Scrolls the contents of the screen away, so that the terminal keeps them when `redraw`
    /// replaces the screen.
    pub(crate) fn scroll_away(self) -> io::Result<()> {
        io::stdout().write_all("\n".repeat(self.rows).as_bytes())
    }

    /// Replaces the screen by `text`, and leaves the cursor below it. Omits lines for which the
    /// screen has no room, in addition to a prompt and the line after it.
    pub(crate) fn redraw(self, text: &str) -> io::Result<()> {
        let lines = text.lines().take(self.rows.saturating_sub(2));
        let lines: String = lines.map(|line| format!("{line}{CLEAR_LINE}\n")).collect();
        let mut stdout = io::stdout();
        write!(stdout, "{HOME}{lines}{CLEAR_BELOW}")?;
        stdout.flush()
    }
}

/// Returns whether the locale has Unicode characters.
pub(crate) fn is_utf8() -> bool {
    let variables = ["LC_ALL", "LC_CTYPE", "LANG"].map(|name| env::var(name).unwrap_or_default());
    is_utf8_locale(&variables)
}

/// Returns whether a locale has Unicode characters. The first of the variables that is not empty
/// counts (POSIX.1-2017, 8.2). Without any, the locale is POSIX.
fn is_utf8_locale(variables: &[String]) -> bool {
    let name = variables.iter().find(|value| !value.is_empty());
    name.is_some_and(|name| {
        let name = name.to_ascii_lowercase();
        name.contains("utf-8") || name.contains("utf8")
    })
}

/// Writes `prompt`, and waits until a line has been entered on standard input, or until standard
/// input ends.
pub(crate) fn wait_for_enter(prompt: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(prompt.as_bytes())?;
    stdout.flush()?;
    io::stdin().read_line(&mut String::new())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_variable_determines_the_locale() {
        for (variables, expected) in [
            (["", "", "en_US.UTF-8"], true),
            (["", "", "C.utf8"], true),
            (["", "", "de_DE.UTF-8@euro"], true),
            (["C", "", "en_US.UTF-8"], false),
            (["", "POSIX", "en_US.UTF-8"], false),
            (["C.UTF-8", "C", "C"], true),
            (["", "", "de_DE.ISO-8859-1"], false),
            (["", "", ""], false),
        ] {
            let values = variables.map(str::to_owned);
            assert_eq!(is_utf8_locale(&values), expected, "{variables:?}");
        }
    }
}
