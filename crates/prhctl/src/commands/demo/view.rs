// SPDX-License-Identifier: MIT OR Apache-2.0

//! Shows the demonstration step by step: as a screen with a picture on a terminal that is large
//! enough, and otherwise as a listing.

use std::thread;
use std::time::Duration;

use super::listing;
use super::picture::{self, Picture};
use super::runner::StepResult;
use super::{DemoArgs, DemoEvent, DemoInfo, Demonstration, scenario};
use crate::console::Console;
use crate::exit::Exit;
use crate::terminal::{DEFAULT_COLUMNS, Terminal, wait_for_enter};

/// Time to read a step.
const STEP_TIME: Duration = Duration::from_secs(1);
/// Size of the smallest terminal that shows the screen.
const MIN_COLUMNS: usize = picture::COLUMNS + 1;
const MIN_ROWS: usize = 24;

/// When the next step follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    AtOnce,
    Timed,
    OnEnter,
}

/// The demonstration on standard output.
#[derive(Debug)]
pub(crate) struct View {
    console: Console,
    pace: Pace,
    picture: Picture,
}

impl View {
    pub(crate) fn new(args: &DemoArgs, console: Console) -> Self {
        let pace = match (Terminal::stdout(), args.step) {
            (None, _) => Pace::AtOnce,
            (Some(_), _) if args.fast => Pace::AtOnce,
            (Some(_), true) => Pace::OnEnter,
            (Some(_), false) => Pace::Timed,
        };
        View {
            console,
            pace,
            picture: Picture::initial(),
        }
    }

    /// Shows an event, and waits before the next one. Write errors are ignored: they show again in
    /// the conclusion.
    pub(crate) fn show(&mut self, event: &DemoEvent<'_>) {
        let previous = self.picture.clone();
        if let DemoEvent::Completed(_, result) = event {
            self.picture = previous.next(result);
        }
        match (self.screen(), event) {
            (Some(terminal), DemoEvent::Started(info)) => {
                let _ = terminal.scroll_away();
                self.draw(terminal, &self.first_screen(info, terminal.columns));
            }
            (Some(terminal), DemoEvent::Completed(number, result)) => {
                self.draw(
                    terminal,
                    &self.step_screen(*number, result, &previous, terminal.columns),
                );
            }
            (None, DemoEvent::Started(info)) => {
                self.print(&listing::introduction(info, width()));
            }
            (None, DemoEvent::Completed(number, result)) => {
                self.print(&step_text(*number, result, &previous, width()));
            }
        }
        self.wait();
    }

    /// Shows the summary of a demonstration that was not aborted, and returns `exit` unless that
    /// fails.
    pub(crate) fn conclude(&self, demonstration: &Demonstration, exit: Exit) -> Exit {
        let width = width();
        let summary = listing::summary(&demonstration.steps, width);
        let conclusion = listing::conclusion(demonstration, width);
        match self.screen() {
            // After a mismatch, its step stays visible.
            Some(terminal) if demonstration.passed() => {
                let picture = self.picture.draw(&self.picture, None, "");
                self.draw(terminal, &format!("{picture}{summary}"));
                self.console.print(&conclusion, exit)
            }
            _ => self
                .console
                .print(&format!("{summary}\n{conclusion}"), exit),
        }
    }

    /// Returns the terminal if the demonstration is shown as a screen.
    fn screen(&self) -> Option<Terminal> {
        Terminal::stdout().filter(|terminal| {
            self.pace != Pace::AtOnce
                && terminal.has_cursor
                && terminal.columns >= MIN_COLUMNS
                && terminal.rows >= MIN_ROWS
        })
    }

    fn first_screen(&self, info: &DemoInfo, width: usize) -> String {
        let picture = self.picture.draw(&self.picture, None, "");
        format!("{picture}\n{}\n", listing::introduction(info, width))
    }

    fn step_screen(
        &self,
        number: usize,
        result: &StepResult,
        previous: &Picture,
        width: usize,
    ) -> String {
        let note = format!("step {number} of {}", scenario::STEPS.len());
        let picture = self.picture.draw(previous, Some(result), &note);
        let command = listing::command(number, result, width);
        let explanation = listing::explanation(result, width);
        format!("{picture}\n{command}\n{explanation}\n")
    }

    fn draw(&self, terminal: Terminal, text: &str) {
        let _ = terminal.redraw(&self.console.style(text));
    }

    fn print(&self, text: &str) {
        self.console.print(&format!("{text}\n"), Exit::SUCCESS);
    }

    fn wait(&self) {
        match self.pace {
            Pace::AtOnce => (),
            Pace::Timed => thread::sleep(STEP_TIME),
            Pace::OnEnter => {
                let _ = wait_for_enter("Press Enter to continue.");
                if self.screen().is_none() {
                    self.print("");
                }
            }
        }
    }
}

/// Returns a step for the listing. The first one has all properties of the disk, later ones those
/// that have changed.
fn step_text(number: usize, result: &StepResult, previous: &Picture, width: usize) -> String {
    let command = listing::command(number, result, width);
    let previous = (number > 1).then_some(&previous.state);
    let state = listing::state(&result.state, previous, width);
    let explanation = listing::explanation(result, width);
    format!("{command}{state}{explanation}")
}

/// Returns the number of columns of the text.
fn width() -> usize {
    Terminal::stdout().map_or(DEFAULT_COLUMNS, |terminal| terminal.columns)
}
