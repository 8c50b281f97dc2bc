//! The file of names and patterns: what a line of it is.

use std::fs;

use anyhow::{Result, ensure};

use super::options::lists_events;
use super::{LISTEN, SHARED, has_fired, has_warned, stderr_of, tracing};
use crate::case::Case;
use crate::differences::Row;
use crate::helper::Helper;
use crate::scratch::Scratch;

/// What a case has in its folder as `events`, and names to the helper.
const VALUE: &str = "events={}/events";

/// The number of a line and the name in it that no event has.
type Unknown = (u32, &'static str);

/// A case's name, the file's text, the events that it brings forth, and what is warned of.
type Content = (
    &'static str,
    &'static [u8],
    &'static [&'static str],
    &'static [Unknown],
);

const FILES: [Content; 16] = [
    ("empty_file", b"", &[], &[]),
    ("empty_lines", b"\n\n", &[], &[]),
    ("name", b"socket_listen\n", &[LISTEN], &[]),
    ("pattern", b"*\n", &SHARED, &[]),
    (
        "name_with_question_marks",
        b"socket_l??ten\n",
        &[LISTEN],
        &[],
    ),
    ("comment", b"#socket_listen\n# x\n", &[], &[]),
    (
        "comment_that_is_no_utf8",
        b"# caf\xe9\nsocket_listen\n",
        &[LISTEN],
        &[],
    ),
    (
        "lines_in_order",
        b"socket_listen\n-socket_listen\n",
        &[],
        &[],
    ),
    (
        "lines_in_the_other_order",
        b"-socket_*\nsocket_listen\n",
        &[LISTEN],
        &[],
    ),
    (
        "lines_are_counted_with_empty_ones_and_comments",
        b"one\n\n# x\ntwo\n",
        &[],
        &[(1, "one"), (4, "two")],
    ),
    (
        "lines_after_a_warning",
        b"one\nsocket_listen\n",
        &[LISTEN],
        &[(1, "one")],
    ),
    (
        "blank_before_a_name",
        b" socket_listen\n",
        &[],
        &[(1, " socket_listen")],
    ),
    (
        "blank_behind_a_name",
        b"socket_listen \n",
        &[],
        &[(1, "socket_listen ")],
    ),
    ("blank_before_a_comment", b" # x\n", &[], &[(1, " # x")]),
    (
        "option_string",
        b"enable=one,two\n",
        &[],
        &[(1, "enable=one,two")],
    ),
    ("dash", b"-\n", &[], &[(1, "")]),
];

/// Texts whose lines print the list of events.
const HELP: [(&str, &str); 2] = [("help", "help\n"), ("question_mark", "?\n")];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, text, events, unknown) in FILES {
        let name = format!("events_file_with_{name}");
        cases.push(Case::new(name, move |helper| {
            let scratch = Scratch::new()?;
            reads(helper, &scratch, text, events, unknown)
        }));
    }
    for (name, text) in HELP {
        let name = format!("events_file_with_{name}_lists_the_events");
        cases.push(Case::new(name, move |helper| help(helper, text)));
    }
    cases.extend([
        Case::new("events_file_is_relative_to_the_start", relative),
        Case::new("events_file_with_carriage_return", carriage_return).row(Row::ControlCharacters),
        Case::new("events_file_twice_is_read_twice", twice),
        Case::new("events_file_is_the_null_device", null),
        Case::new("events_file_that_is_missing_is_one_line", missing),
        Case::new("events_file_that_is_a_folder", folder).row(Row::EventsFolder),
        Case::new("events_file_whose_last_line_does_not_end", unended).row(Row::LastEvent),
        Case::new("events_file_with_one_byte_more", one_byte_more).row(Row::LastEvent),
    ]);
    cases
}

/// Checks what a file of this text does.
fn reads(
    helper: &Helper,
    scratch: &Scratch,
    text: &[u8],
    events: &[&str],
    unknown: &[Unknown],
) -> Result<()> {
    let path = scratch.path("events");
    fs::write(&path, text)?;
    let stderr = stderr_of(helper, scratch, &[VALUE])?;
    has_fired(&stderr, events)?;
    let place = |line| format!("{}:{line}:", path.display());
    let expected: Vec<_> = unknown
        .iter()
        .map(|(line, name)| (place(line), *name))
        .collect();
    has_warned(&stderr, &expected)
}

/// Control characters in a name, such as those of a file with the line ends of another system.
fn carriage_return(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let text = b"socket_listen\r\n\r\n";
    if helper.differs(Row::ControlCharacters) {
        let unknown = [(1, r"socket_listen\r"), (2, r"\r")];
        return reads(helper, &scratch, text, &[], &unknown);
    }
    let unknown = [(1, "socket_listen\r"), (2, "\r")];
    reads(helper, &scratch, text, &[], &unknown)
}

fn help(helper: &Helper, text: &str) -> Result<()> {
    let scratch = Scratch::new()?;
    fs::write(
        scratch.path("events"),
        format!("no_such_event\n{text}later\n"),
    )?;
    let value = format!("{VALUE},file={{}}/log");
    let finished = tracing(helper, &scratch, &[value]).finish()?;
    lists_events(&finished)?;
    let place = format!("{}:1:", scratch.path("events").display());
    has_warned(&finished.stderr, &[(place, "no_such_event")])?;
    ensure!(scratch.names()? == ["events"], "{:?}", scratch.names()?);
    Ok(())
}

fn relative(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    fs::write(scratch.path("events"), "socket_listen\nno_such_event\n")?;
    let stderr = stderr_of(helper, &scratch, &["events=events"])?;
    has_fired(&stderr, &[LISTEN])?;
    has_warned(&stderr, &[("events:2:".to_owned(), "no_such_event")])
}

fn twice(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    fs::write(scratch.path("events"), "no_such_event\n")?;
    let stderr = stderr_of(helper, &scratch, &["events=events", "events=events"])?;
    let warning = ("events:1:".to_owned(), "no_such_event");
    has_warned(&stderr, &[warning.clone(), warning])
}

fn null(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let stderr = stderr_of(helper, &scratch, &["events=/dev/null"])?;
    ensure!(stderr.is_empty(), "{stderr}");
    Ok(())
}

fn missing(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let finished = tracing(helper, &scratch, &["events={}/none"]).finish()?;
    finished.refused(&scratch.path("none").display().to_string())?;
    finished.refused("No such file or directory")?;
    ensure!(finished.stderr.lines().count() == 1, "{finished:?}");
    Ok(())
}

fn folder(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let launch = tracing(helper, &scratch, &["events={}"]);
    if helper.differs(Row::EventsFolder) {
        let finished = launch.finish()?;
        finished.refused(&scratch.folder().display().to_string())?;
        return finished.refused("directory");
    }
    let mut running = launch.start()?;
    ensure!(running.terminate()?.success());
    ensure!(running.stderr()?.is_empty(), "{}", running.stderr()?);
    Ok(())
}

fn unended(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let text = b"no_such_event\nsocket_listen";
    if helper.differs(Row::LastEvent) {
        return reads(helper, &scratch, text, &[LISTEN], &[(1, "no_such_event")]);
    }
    let unknown = [(1, "no_such_event"), (2, "socket_liste")];
    reads(helper, &scratch, text, &[], &unknown)
}

/// What the original takes for the whole name.
fn one_byte_more(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let text = b"socket_listenX";
    if helper.differs(Row::LastEvent) {
        return reads(helper, &scratch, text, &[], &[(1, "socket_listenX")]);
    }
    reads(helper, &scratch, text, &[LISTEN], &[])
}
