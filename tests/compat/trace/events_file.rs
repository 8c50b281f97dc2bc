// SPDX-License-Identifier: MIT OR Apache-2.0

//! Event files with names and patterns.

use std::fs;

use anyhow::{Result, ensure};

use super::options::lists_events;
use super::{LISTEN, SHARED, expect_events, expect_warnings, traced_command, traced_stderr};
use crate::case::Case;
use crate::differences::Row;
use crate::helper::Helper;
use crate::scratch::Scratch;

/// The value for the file `events` in the case's directory.
const VALUE: &str = "events={}/events";

/// A line number and an unknown event name in that line.
type Unknown = (u32, &'static str);

/// Case name, text of the file, enabled events, and unknown names.
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
        "comment_that_is_not_utf8",
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
        "blank_after_a_name",
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

/// Texts with a line that prints the list of events.
const HELP: [(&str, &str); 2] = [("help", "help\n"), ("question_mark", "?\n")];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, text, events, unknown) in FILES {
        let name = format!("events_file_with_{name}");
        cases.push(Case::new(name, move |helper| {
            let scratch = Scratch::new()?;
            check_file(helper, &scratch, text, events, unknown)
        }));
    }
    for (name, text) in HELP {
        let name = format!("events_file_with_{name}_lists_the_events");
        cases.push(Case::new(name, move |helper| help(helper, text)));
    }
    cases.extend([
        Case::new("events_file_is_relative_to_the_start_directory", relative),
        Case::new("events_file_with_carriage_return", carriage_return).row(Row::ControlCharacters),
        Case::new("events_file_twice_is_read_twice", twice),
        Case::new("events_file_is_the_null_device", null),
        Case::new("missing_events_file_is_one_line", missing),
        Case::new("events_file_that_is_a_directory", directory).row(Row::EventsDirectory),
        Case::new("events_file_without_a_final_newline", no_final_newline).row(Row::LastEvent),
        Case::new("events_file_with_one_byte_more", one_byte_more).row(Row::LastEvent),
    ]);
    cases
}

/// Checks the effects of a file with this text.
fn check_file(
    helper: &Helper,
    scratch: &Scratch,
    text: &[u8],
    events: &[&str],
    unknown: &[Unknown],
) -> Result<()> {
    let path = scratch.path("events");
    fs::write(&path, text)?;
    let stderr = traced_stderr(helper, scratch, &[VALUE])?;
    expect_events(&stderr, events)?;
    let location = |line| format!("{}:{line}:", path.display());
    let expected: Vec<_> = unknown
        .iter()
        .map(|(line, name)| (location(line), *name))
        .collect();
    expect_warnings(&stderr, &expected)
}

/// Control characters in a name, such as those of a file with CR LF line endings.
fn carriage_return(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let text = b"socket_listen\r\n\r\n";
    if helper.differs(Row::ControlCharacters) {
        let unknown = [(1, r"socket_listen\r"), (2, r"\r")];
        return check_file(helper, &scratch, text, &[], &unknown);
    }
    let unknown = [(1, "socket_listen\r"), (2, "\r")];
    check_file(helper, &scratch, text, &[], &unknown)
}

fn help(helper: &Helper, text: &str) -> Result<()> {
    let scratch = Scratch::new()?;
    fs::write(
        scratch.path("events"),
        format!("no_such_event\n{text}later\n"),
    )?;
    let value = format!("{VALUE},file={{}}/log");
    let finished = traced_command(helper, &scratch, &[value]).finish()?;
    lists_events(&finished)?;
    let location = format!("{}:1:", scratch.path("events").display());
    expect_warnings(&finished.stderr, &[(location, "no_such_event")])?;
    ensure!(scratch.names()? == ["events"], "{:?}", scratch.names()?);
    Ok(())
}

fn relative(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    fs::write(scratch.path("events"), "socket_listen\nno_such_event\n")?;
    let stderr = traced_stderr(helper, &scratch, &["events=events"])?;
    expect_events(&stderr, &[LISTEN])?;
    expect_warnings(&stderr, &[("events:2:".to_owned(), "no_such_event")])
}

fn twice(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    fs::write(scratch.path("events"), "no_such_event\n")?;
    let stderr = traced_stderr(helper, &scratch, &["events=events", "events=events"])?;
    let warning = ("events:1:".to_owned(), "no_such_event");
    expect_warnings(&stderr, &[warning.clone(), warning])
}

fn null(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let stderr = traced_stderr(helper, &scratch, &["events=/dev/null"])?;
    ensure!(stderr.is_empty(), "{stderr}");
    Ok(())
}

fn missing(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let finished = traced_command(helper, &scratch, &["events={}/none"]).finish()?;
    finished.expect_failure(&scratch.path("none").display().to_string())?;
    finished.expect_failure("No such file or directory")?;
    ensure!(finished.stderr.lines().count() == 1, "{finished:?}");
    Ok(())
}

fn directory(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let command = traced_command(helper, &scratch, &["events={}"]);
    if helper.differs(Row::EventsDirectory) {
        let finished = command.finish()?;
        finished.expect_failure(&scratch.dir().display().to_string())?;
        return finished.expect_failure("directory");
    }
    let mut running = command.start()?;
    ensure!(running.terminate()?.success());
    ensure!(running.stderr().is_empty(), "{}", running.stderr());
    Ok(())
}

fn no_final_newline(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let text = b"no_such_event\nsocket_listen";
    if helper.differs(Row::LastEvent) {
        return check_file(helper, &scratch, text, &[LISTEN], &[(1, "no_such_event")]);
    }
    let unknown = [(1, "no_such_event"), (2, "socket_liste")];
    check_file(helper, &scratch, text, &[], &unknown)
}

/// The original drops the last byte.
fn one_byte_more(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let text = b"socket_listenX";
    if helper.differs(Row::LastEvent) {
        return check_file(helper, &scratch, text, &[], &[(1, "socket_listenX")]);
    }
    check_file(helper, &scratch, text, &[LISTEN], &[])
}
