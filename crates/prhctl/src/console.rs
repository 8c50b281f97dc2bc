// SPDX-License-Identifier: MIT OR Apache-2.0

//! Standard output and standard error: colors, escaping and columns.
//!
//! Results go to standard output, everything else to standard error.

use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use cli_messages::error::system_error;
use cli_messages::escape::Escaped;
use comfy_table::{ContentArrangement, Table, presets};

use crate::exit::Exit;
use crate::terminal::Terminal;
use crate::wrap::{columns, wrap};

/// No style.
pub(crate) const PLAIN: Style = Style::new();
/// Headings, and the device or file that a result is about.
pub(crate) const BOLD: Style = Style::new().bold();
/// Holders of a reservation, and commands that ended with GOOD.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// Commands that ended with another status.
pub(crate) const REJECTED: Style = AnsiColor::Yellow.on_default();
/// Malformed or unexpected data.
pub(crate) const INVALID: Style = AnsiColor::Red.on_default();
const ERROR: Style = AnsiColor::Red.on_default().bold();
const NOTE: Style = AnsiColor::Yellow.on_default().bold();

/// True after an error of writing to standard output, which is reported once.
static HAS_FAILED: AtomicBool = AtomicBool::new(false);

/// When to use colors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// Depending on the terminal and the environment
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Standard output and standard error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Console {
    color: ColorChoice,
}

impl Console {
    pub(crate) const fn new(color: Color) -> Self {
        let color = match color {
            Color::Auto => ColorChoice::Auto,
            Color::Always => ColorChoice::Always,
            Color::Never => ColorChoice::Never,
        };
        Console { color }
    }

    /// Writes `text` to standard output, and returns `exit` unless that fails.
    pub(crate) fn print(self, text: &str, exit: Exit) -> Exit {
        let mut stdout = AutoStream::new(io::stdout(), self.color);
        let end = if text.ends_with('\n') { "" } else { "\n" };
        match write!(stdout, "{text}{end}").and_then(|()| stdout.flush()) {
            Ok(()) => exit,
            // The reader has closed the pipe. The command itself was executed.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => exit,
            Err(error) => {
                // The demonstration prints each step.
                if !HAS_FAILED.swap(true, Ordering::Relaxed) {
                    let error = system_error(&error);
                    self.error(&format!("cannot write to standard output: {error}"), &[]);
                }
                Exit::FAILURE
            }
        }
    }

    /// Returns whether standard output has colors.
    pub(crate) fn has_color(self) -> bool {
        let choice = match self.color {
            ColorChoice::Auto => AutoStream::choice(&io::stdout()),
            choice => choice,
        };
        choice != ColorChoice::Never
    }

    /// Returns `text` without its styles if standard output has no colors.
    pub(crate) fn style(self, text: &str) -> String {
        match self.has_color() {
            false => strip_str(text).to_string(),
            true => text.to_owned(),
        }
    }

    /// Writes an error and, below it, the lines of `advice` to standard error.
    pub(crate) fn error(self, message: &str, advice: &[String]) {
        let advice = advice.iter().map(|line| paragraph("  ", line));
        let message = paragraph(&format!("{ERROR}prhctl:{ERROR:#} "), message);
        // There is nowhere to report that standard error cannot be written.
        let _ = self.eprint(&(message + &advice.collect::<String>()));
    }

    /// Writes a note to standard error.
    pub(crate) fn note(self, line: &str) {
        let _ = self.eprint(&paragraph(&format!("{NOTE}prhctl:{NOTE:#} "), line));
    }

    /// Writes a question to standard error, and returns the line that is entered on standard input.
    pub(crate) fn ask(self, question: &str) -> io::Result<String> {
        self.eprint(&format!("{} ", paragraph("", question).trim_end()))?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(answer)
    }

    fn eprint(self, text: &str) -> io::Result<()> {
        AutoStream::new(io::stderr(), self.color).write_all(text.as_bytes())
    }
}

/// Returns `label` and `text`, in which control characters are escaped, for standard error: one
/// line, or several if standard error is a terminal with shorter lines.
fn paragraph(label: &str, text: &str) -> String {
    let text = escape_control(text);
    let needed = columns(label) + columns(&text);
    match Terminal::stderr() {
        Some(terminal) if needed > terminal.columns => wrap(label, &text, terminal.columns),
        _ => format!("{label}{text}\n"),
    }
}

/// Returns `text` with its control characters escaped.
///
/// File names, file contents and device responses can contain control characters, which a terminal
/// would interpret; a line feed would forge a line. All external text is escaped by this function,
/// except in JSON, which has its own escapes.
pub(crate) fn escape_control(text: &str) -> String {
    Escaped(text).to_string()
}

/// Returns a path as part of a line.
pub(crate) fn escape_path(path: &Path) -> String {
    escape_control(&path.to_string_lossy())
}

/// Returns rows of cells in aligned columns without borders, each row in its own style. The header
/// is bold, and omitted if it is empty. Control characters in cells are escaped.
pub(crate) fn table(
    header: &[&str],
    rows: impl IntoIterator<Item = (Style, Vec<String>)>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    let mut styles = Vec::new();
    if !header.is_empty() {
        table.set_header(header.to_vec());
        styles.push(BOLD);
    }
    for (style, cells) in rows {
        styles.push(style);
        table.add_row(cells.iter().map(|cell| escape_control(cell)));
    }
    // The padding of a cell is one column on both sides.
    let widths = table.column_max_content_widths();
    let last = widths
        .iter()
        .rev()
        .skip(1)
        .map(|width| usize::from(*width) + 2)
        .sum::<usize>()
        + 1;
    // Lines are styled as a whole, because escape sequences in a cell would count as columns. No
    // cell spans lines.
    let lines = table.lines().zip(styles);
    lines.fold(String::new(), |text, (line, style)| {
        let line = fit_line(line.trim_end(), last);
        text + &format!("{style}{line}{style:#}\n")
    })
}

/// Returns a [`table`], or, on a terminal that is too narrow for it, the cells of each row below
/// the first one, without empty ones. A last cell that ends its row early has no label.
pub(crate) fn table_or_cells(header: &[&str], rows: Vec<(Style, Vec<String>)>) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|(_, cells)| cells.get(column));
        let label = header.get(column).copied().map(columns);
        cells.map(|cell| columns(cell)).chain(label).max()
    };
    let needed: usize = (0..header.len())
        .filter_map(width)
        .map(|width| width + 2)
        .sum();
    if Terminal::stdout().is_none_or(|terminal| needed <= terminal.columns) {
        return table(header, rows);
    }
    let label_width = header.iter().map(|label| columns(label)).max().unwrap_or(0);
    let mut text = String::new();
    for (style, cells) in rows {
        let (is_complete, last) = (cells.len() == header.len(), cells.len().saturating_sub(1));
        let cells = header.iter().zip(&cells).enumerate();
        for (index, (label, cell)) in cells.filter(|(_, (_, cell))| !cell.is_empty()) {
            let label = match (index, is_complete || index < last) {
                (0, _) => String::new(),
                (_, true) => format!("  {label:label_width$}  "),
                (_, false) => "  ".to_owned(),
            };
            let line = fit_line(&format!("{label}{}", escape_control(cell)), columns(&label));
            text += &format!("{style}{line}{style:#}\n");
        }
    }
    text
}

/// Returns `text` for standard output: if that is a terminal, lines that are too long for it are
/// broken between words.
pub(crate) fn fit(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let blanks = line.len() - line.trim_start().len();
        fit_line(line, blanks) + "\n"
    });
    lines.collect()
}

/// Breaks a line as [`fit`]. Its further lines are indented by `indent` columns.
fn fit_line(line: &str, indent: usize) -> String {
    let terminal = Terminal::stdout().filter(|terminal| columns(line) > terminal.columns);
    let start = line.char_indices().nth(indent).map(|(start, _)| start);
    match (
        terminal,
        start.and_then(|start| line.split_at_checked(start)),
    ) {
        (Some(terminal), Some((label, text))) => {
            wrap(label, text, terminal.columns).trim_end().to_owned()
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let escaped = escape_control("a\x1b[2J\nb\u{9b}\u{202e}é");
        assert_eq!(escaped, r"a\u{1b}[2J\nb\u{9b}\u{202e}é");
        assert_eq!(escape_path(Path::new("a\nb\r")), r"a\nb\r");
    }
}
