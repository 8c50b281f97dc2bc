//! Shows what there is to say: answers on standard output, everything else on standard error.

mod demo;
mod json;
mod lun;
mod table;
mod text;

use std::io::{self, ErrorKind, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

use crate::advice;
use crate::cli::Color;
use crate::error::Error;
use crate::exit::Exit;
use crate::outcome::Outcome;

/// What stands before everything on standard error.
const PROGRAM: &str = "prhctl";

const ERROR: Style = AnsiColor::Red.on_default().bold();
const NOTE: Style = AnsiColor::Yellow.on_default().bold();

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
            Outcome::Played(played) if !played.is_as_it_should_be() => Exit::FAILURE,
            _ => Exit::DONE,
        };
        let shown = match self.json {
            true => json::outcome(outcome),
            false => text::outcome(outcome),
        };
        self.print(&shown, exit)
    }

    /// Shows an error: on standard error, and with `--json` as a document too. Gives the exit status.
    pub(crate) fn error(&self, error: &Error) -> Exit {
        let (message, advice, exit) = (error.chain(), advice::on(error), error.exit());
        let lines: String = advice.iter().map(|line| format!("\n  {line}")).collect();
        self.say(ERROR, &format!("{message}{lines}"));
        match self.json {
            true => self.print(&json::error(error, &message, &advice), exit),
            false => exit,
        }
    }

    /// Says on standard error what happens meanwhile.
    pub(crate) fn note(&self, line: &str) {
        self.say(NOTE, line);
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

    /// Writes to standard error. If that fails there is nobody left to tell.
    fn say(&self, style: Style, text: &str) {
        let mut stderr = AutoStream::new(io::stderr(), self.color);
        let _ = writeln!(stderr, "{style}{PROGRAM}:{style:#} {text}");
    }
}
