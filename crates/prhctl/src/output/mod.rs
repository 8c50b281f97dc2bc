//! Shows what there is to say: answers on standard output, everything else on standard error.

mod held;
mod json;
mod style;
mod table;
mod text;

use std::io::{self, ErrorKind, Write};
use std::path::Path;

use anstream::{AutoStream, ColorChoice};
use anstyle::Style;

use crate::advice;
use crate::cli::Color;
use crate::commands::demo::{Demonstration, Event};
use crate::commands::release::Outcome;
use crate::error::{Error, Failure};
use crate::exit::Exit;
use style::{ERROR, NOTE};

/// What stands before everything on standard error.
const PROGRAM: &str = "prhctl";

/// An error in words.
#[derive(Debug)]
struct Told {
    /// What failed, on what, why.
    message: String,
    /// What is the case, what to do.
    advice: Vec<String>,
}

impl Told {
    fn of(error: &Error) -> Self {
        Told {
            message: error.chain(),
            advice: advice::on(error),
        }
    }
}

/// Where output goes, and in which form.
#[derive(Debug)]
pub(crate) struct Output {
    color: ColorChoice,
    json: bool,
}

impl Output {
    /// As the command line says.
    pub(crate) const fn new(color: Color, json: bool) -> Self {
        let color = match color {
            Color::Auto => ColorChoice::Auto,
            Color::Always => ColorChoice::Always,
            Color::Never => ColorChoice::Never,
        };
        Output { color, json }
    }

    /// Shows what came of a command. Gives the exit status.
    pub(crate) fn outcome(&self, outcome: &Outcome) -> Exit {
        let exit = match outcome {
            Outcome::Explained(explanation) if explanation.summary.is_err() => Exit::FAILURE,
            Outcome::Played(played) => return self.played(played),
            _ => Exit::DONE,
        };
        let shown = match self.json {
            true => json::outcome(outcome),
            false => text::device::outcome(outcome),
        };
        self.print(&shown, exit)
    }

    /// Shows what has just been played. A document is for the end.
    pub(crate) fn event(&self, event: &Event<'_>) {
        if !self.json {
            // What cannot be written now cannot be at the end either, which is when it counts.
            self.print(&text::demo::event(event), Exit::DONE);
        }
    }

    /// Shows how a demonstration has ended. Gives the exit status.
    fn played(&self, played: &Demonstration) -> Exit {
        let told = played.trouble.as_ref().map(Told::of);
        if let Some(told) = &told {
            self.tell(told);
        }
        let exit = match played.is_as_it_should_be() {
            true => Exit::DONE,
            false => Exit::FAILURE,
        };
        match (self.json, &told) {
            (true, told) => self.print(&json::demonstration(played, told.as_ref()), exit),
            (false, None) => self.print(&text::demo::end(played), exit),
            // Nobody knows how it would have gone on.
            (false, Some(_)) => exit,
        }
    }

    /// Shows why a command was not done: on standard error, and with `--json` as a document too. Gives the
    /// exit status.
    pub(crate) fn failure(&self, failure: &Failure) -> Exit {
        let (told, exit) = (Told::of(&failure.error), failure.error.exit());
        self.tell(&told);
        match self.json {
            true => self.print(&json::failure(failure, &told), exit),
            false => exit,
        }
    }

    fn tell(&self, told: &Told) {
        let lines = told.advice.iter();
        let lines: String = lines
            .map(|line| format!("\n  {}", escape_control(line)))
            .collect();
        let message = escape_control(&told.message);
        self.say(ERROR, &format!("{message}{lines}"));
    }

    /// Says on standard error what happens meanwhile.
    pub(crate) fn note(&self, line: &str) {
        self.say(NOTE, &escape_control(line));
    }

    /// Says on standard error what is wrong with the command line, in words that are complete.
    pub(crate) fn complain(&self, text: &str) {
        let _ = writeln!(AutoStream::new(io::stderr(), self.color), "{text}");
    }

    /// Writes `text` to standard output. Gives `exit`, unless that fails.
    pub(crate) fn print(&self, text: &str, exit: Exit) -> Exit {
        let mut stdout = AutoStream::new(io::stdout(), self.color);
        let end = if text.ends_with('\n') { "" } else { "\n" };
        match write!(stdout, "{text}{end}").and_then(|()| stdout.flush()) {
            Ok(()) => exit,
            // Whoever reads has seen enough; what was to be done has been done.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => exit,
            Err(error) => {
                self.say(ERROR, &format!("cannot write to standard output: {error}"));
                Exit::FAILURE
            }
        }
    }

    /// Writes `text`, whose lines are escaped, to standard error. A failure to do so cannot be reported.
    fn say(&self, style: Style, text: &str) {
        let mut stderr = AutoStream::new(io::stderr(), self.color);
        let _ = writeln!(stderr, "{style}{PROGRAM}:{style:#} {text}");
    }
}

/// Returns `text` with its control characters escaped.
///
/// File names, content of files and answers of devices may have any in them, and a terminal obeys them;
/// a line end forges a line. Everything that is shown and comes from outside goes through here, but
/// for JSON, which has escapes of its own.
fn escape_control(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match is_control(character) {
            true => escaped.extend(character.escape_default()),
            false => escaped.push(character),
        }
    }
    escaped
}

/// Returns whether a terminal or a viewer may obey a character: control characters, separators of
/// lines and paragraphs, and changes of the direction of writing.
fn is_control(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// Returns a path as part of a line.
fn path(path: &Path) -> String {
    escape_control(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let escaped = escape_control("a\x1b[2J\nb\u{9b}\u{202e}é");
        assert_eq!(escaped, r"a\u{1b}[2J\nb\u{9b}\u{202e}é");
        assert_eq!(path(Path::new("a\nb\r")), r"a\nb\r");
    }
}
