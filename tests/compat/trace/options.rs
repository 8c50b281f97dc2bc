// SPDX-License-Identifier: MIT OR Apache-2.0

//! Values of the option: keys, rejected values, and the list of events.

use std::fs;

use anyhow::{Result, ensure};

use super::{
    ACCEPT, LISTEN, SHARED, expect_events, expect_warnings, traced_command, traced_stderr,
};
use crate::case::Case;
use crate::differences::Row;
use crate::helper::Helper;
use crate::process::Finished;
use crate::scratch::Scratch;

/// Arguments that print the list of events and exit with status 0.
const HELP: [(&str, &[&str]); 11] = [
    ("short", &["-T", "help"]),
    ("attached", &["-Thelp"]),
    ("long", &["--trace", "help"]),
    ("with_equals", &["--trace=help"]),
    ("abbreviated", &["--tr=help"]),
    ("question_mark", &["-T", "?"]),
    ("with_key", &["-T", "enable=help"]),
    ("daemon", &["-d", "-T", "help"]),
    ("before_a_wrong_value", &["-T", "help", "-T", "bad=1"]),
    ("before_a_missing_events_file", &["-T", "help,events=none"]),
    ("before_a_file", &["-T", "help,file=log"]),
];

/// Values that are rejected, and a word of the message. `{}` is the case's directory.
const REJECTED: [(&str, &[&str], &str); 19] = [
    ("unknown_key", &["bad=1"], "'bad'"),
    ("unknown_key_after_help", &["help,bad=1"], "'bad'"),
    ("unknown_key_after_file", &["file={}/log,bad=1"], "'bad'"),
    ("unknown_key_in_capitals", &["ENABLE=x"], "'ENABLE'"),
    ("unknown_key_with_a_blank", &["x, file={}/log"], "' file'"),
    (
        "unknown_key_before_file",
        &["bad=1", "file={}/log"],
        "'bad'",
    ),
    (
        "unknown_key_after_a_file_option",
        &["file={}/log", "bad=1"],
        "'bad'",
    ),
    ("empty_key", &["=x"], "''"),
    ("unknown_word_after_a_comma", &["file={}/log,bad"], "'bad'"),
    ("missing_events_file", &["events={}/none"], "/none"),
    (
        "missing_events_file_after_file",
        &["file={}/log,events={}/none"],
        "/none",
    ),
    ("empty_events_file_name", &["events="], "No such file"),
    (
        "file_in_a_missing_directory",
        &["file={}/none/log"],
        "none/log",
    ),
    ("file_that_is_a_directory", &["file={}"], "directory"),
    ("empty_file_name", &["x*,file="], "No such file"),
    ("file_with_a_percent_sign", &["file={}/log%"], "/log%"),
    (
        "file_with_two_percent_signs",
        &["file={}/log%%d"],
        "/log%%d",
    ),
    ("file_with_two_numbers", &["file={}/%d-%d"], "/%d-%d"),
    ("file_with_another_letter", &["file={}/log%s"], "/log%s"),
];

/// Values, and the enabled events.
const KEYS: [(&str, &[&str], &[&str]); 8] = [
    ("nothing", &[""], &[]),
    ("enable", &["enable=socket_listen"], &[LISTEN]),
    ("trailing_comma", &["socket_listen,"], &[LISTEN]),
    (
        "last_enable",
        &["enable=socket_listen,enable=qio_channel_socket_accept"],
        &[ACCEPT],
    ),
    (
        "last_enable_after_the_implied_one",
        &["socket_listen,enable=-socket_listen"],
        &[],
    ),
    (
        "repeated_option",
        &["socket_listen", "qio_channel_socket_accept"],
        &[LISTEN, ACCEPT],
    ),
    (
        "repeated_option_with_nothing",
        &["socket_listen", ""],
        &[LISTEN],
    ),
    (
        "last_events_file",
        &["events={}/none,events=/dev/null"],
        &[],
    ),
];

/// Words without an equals sign, and the original's interpretation.
const SHORT_FORMS: [(&str, &str, Short); 4] = [
    ("file", "no_such_event,file", Short::File("on")),
    ("no_file", "no_such_event,nofile", Short::File("off")),
    ("enable", "socket_listen,enable", Short::Event("on")),
    ("no_enable", "socket_listen,noenable", Short::Event("off")),
];

/// The original's interpretation of a word without an equals sign.
#[derive(Clone, Copy, Debug)]
enum Short {
    /// The name of the log file.
    File(&'static str),
    /// The name of an event.
    Event(&'static str),
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, arguments) in HELP {
        cases.push(Case::new(format!("help_{name}"), move |helper| {
            help(helper, arguments)
        }));
    }
    for (name, values, word) in REJECTED {
        cases.push(Case::new(format!("{name}_is_rejected"), move |helper| {
            let scratch = Scratch::new()?;
            let finished = traced_command(helper, &scratch, values).finish()?;
            finished.expect_failure(word)?;
            ensure!(finished.stdout.is_empty(), "{finished:?}");
            ensure!(scratch.names()?.is_empty(), "{:?}", scratch.names()?);
            Ok(())
        }));
    }
    for (name, values, events) in KEYS {
        cases.push(Case::new(format!("{name}_is_served"), move |helper| {
            let scratch = Scratch::new()?;
            let stderr = traced_stderr(helper, &scratch, values)?;
            expect_events(&stderr, events)?;
            expect_warnings(&stderr, &[])
        }));
    }
    for (name, value, short) in SHORT_FORMS {
        let name = format!("{name}_without_an_equals_sign");
        let case = Case::new(name, move |helper| short_form(helper, value, short));
        cases.push(case.row(Row::ShortForm));
    }
    cases.extend([
        Case::new("events_without_an_equals_sign_is_rejected", short_events),
        Case::new("option_before_an_invalid_one_is_applied", in_order),
        Case::new("keys_are_processed_in_fixed_order", keys_in_order),
        Case::new("help_lists_the_shared_events_once", lists_shared),
        Case::new("help_after_an_unknown_event", help_after_unknown),
        Case::new("help_before_a_relative_path", before_an_error).row(Row::OptionsInOrder),
        Case::new("mistake_before_version", before_version).row(Row::OptionsInOrder),
    ]);
    cases
}

fn help(helper: &Helper, arguments: &[&str]) -> Result<()> {
    let scratch = Scratch::new()?;
    let finished = helper.serving_command(&scratch).args(arguments).finish()?;
    lists_events(&finished)?;
    finished.expect_success()?;
    ensure!(scratch.names()?.is_empty(), "{:?}", scratch.names()?);
    Ok(())
}

/// Checks that the helper exited with status 0 and printed only names, one in a line.
pub(crate) fn lists_events(finished: &Finished) -> Result<()> {
    ensure!(finished.status.success(), "{finished:?}");
    ensure!(!finished.stdout.is_empty(), "the list has no event");
    ensure!(finished.stdout.ends_with('\n'), "{finished:?}");
    for line in finished.stdout.lines() {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        ensure!(
            !line.is_empty() && line.bytes().all(plain),
            "an event `{line}`"
        );
    }
    Ok(())
}

fn lists_shared(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let finished = helper.command(&scratch).args(["-T", "help"]).finish()?;
    for event in SHARED {
        let count = finished.stdout.lines().filter(|line| *line == event);
        ensure!(count.count() == 1, "{event}: {}", finished.stdout);
    }
    Ok(())
}

fn help_after_unknown(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let values = ["no_such_event", "help"];
    let finished = traced_command(helper, &scratch, &values).finish()?;
    lists_events(&finished)?;
    expect_warnings(&finished.stderr, &[(String::new(), "no_such_event")])
}

fn short_form(helper: &Helper, value: &str, short: Short) -> Result<()> {
    let scratch = Scratch::new()?;
    let command = traced_command(helper, &scratch, &[value]);
    if helper.differs(Row::ShortForm) {
        let (_, word) = value.split_once(',').unwrap_or_default();
        command.finish()?.expect_failure(word)?;
        ensure!(scratch.names()?.is_empty(), "{:?}", scratch.names()?);
        return Ok(());
    }
    let mut running = command.start()?;
    ensure!(running.terminate()?.success());
    running.wait_for_log("deprecated");
    match short {
        Short::File(name) => ensure!(scratch.names()? == [name], "{:?}", scratch.names()?),
        Short::Event(name) => running.wait_for_log(&format!("'{name}'")),
    }
    Ok(())
}

/// Both helpers reject it: the original does not find a file `on`.
fn short_events(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let command = traced_command(helper, &scratch, &["socket_listen,events"]);
    command.finish()?.expect_failure("events")
}

/// The first value causes a warning although the second is an error.
fn in_order(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let finished = traced_command(helper, &scratch, &["no_such_event", "bad=1"]).finish()?;
    finished.expect_failure("'bad'")?;
    expect_warnings(&finished.stderr, &[(String::new(), "no_such_event")])
}

/// The keys are processed in the order enable, events, file, regardless of their order in the
/// value.
fn keys_in_order(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let list = scratch.path("events");
    fs::write(&list, "second\n")?;
    let value = "file={}/none/log,events={}/events,enable=first";
    let finished = traced_command(helper, &scratch, &[value]).finish()?;
    finished.expect_failure("none/log")?;
    let location = format!("{}:1:", list.display());
    expect_warnings(
        &finished.stderr,
        &[(String::new(), "first"), (location, "second")],
    )?;
    let last = finished.stderr.lines().last().unwrap_or_default();
    ensure!(last.contains("none/log"), "{finished:?}");

    fs::write(&list, "socket_listen\n")?;
    let value = "events={}/events,enable=-socket_listen";
    expect_events(&traced_stderr(helper, &scratch, &[value])?, &[LISTEN])
}

fn before_an_error(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let arguments = ["-T", "help", "-k", "relative"];
    let finished = helper.command(&scratch).args(arguments).finish()?;
    if helper.differs(Row::OptionsInOrder) {
        return finished.expect_failure("absolute");
    }
    lists_events(&finished)?;
    finished.expect_success()
}

fn before_version(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let finished = helper
        .command(&scratch)
        .args(["-T", "bad=1", "-V"])
        .finish()?;
    if !helper.differs(Row::OptionsInOrder) {
        return finished.expect_failure("'bad'");
    }
    ensure!(
        finished.stdout.starts_with("qemu-pr-helper "),
        "{finished:?}"
    );
    finished.expect_success()
}
