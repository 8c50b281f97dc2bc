//! The trace option: its keys, its help, and what is only warned about.

use std::fs;

use anyhow::{Result, ensure};

use crate::case::Case;
use crate::differences::Row;
use crate::helper::Helper;
use crate::scratch::Scratch;

/// Values that end with the list of events and status 0.
const HELP: [(&str, &[&str]); 6] = [
    ("short", &["-T", "help"]),
    ("long", &["--trace", "help"]),
    ("with_equals", &["--trace=help"]),
    ("abbreviated", &["--tr=help"]),
    ("question_mark", &["-T", "?"]),
    ("with_key", &["-T", "enable=help"]),
];

/// Values that are refused, and a word of the reason. `{}` is the case's folder.
const REFUSED: [(&str, &str, &str); 7] = [
    ("unknown_key", "bad=1", "bad"),
    ("unknown_key_after_help", "help,bad=1", "bad"),
    ("unknown_key_after_file", "file={}/log,bad=1", "bad"),
    ("unknown_word_after_a_comma", "file={}/log,bad", "bad"),
    ("missing_events_file", "events={}/none", "none"),
    ("file_in_a_missing_folder", "file={}/none/log", "none/log"),
    ("file_that_is_a_folder", "file={}", "directory"),
];

/// Values that do not keep the helper from serving, and what it says about them.
const SERVED: [(&str, &str, Option<&str>); 13] = [
    ("empty", "", None),
    ("pattern_without_match", "nothing_like_this*", None),
    ("disabled_pattern", "-nothing_like_this*", None),
    ("unknown_event", "no_such_event", Some("no_such_event")),
    (
        "unknown_event_disabled",
        "-no_such_event",
        Some("no_such_event"),
    ),
    (
        "unknown_event_with_key",
        "enable=no_such_event",
        Some("no_such_event"),
    ),
    ("capital_help", "HELP", Some("HELP")),
    ("doubled_comma", "one,,two", Some("one,two")),
    (
        "repeated_key",
        "enable=no_such_event,enable=second",
        Some("second"),
    ),
    ("empty_events_file", "events=/dev/null", None),
    ("events_file", "events={}/events", Some("no_such_event")),
    ("file", "nothing_like_this*,file={}/log", None),
    ("all_events", "*,file={}/log", None),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, arguments) in HELP {
        cases.push(Case::new(format!("trace_help_{name}"), move |helper| {
            lists_events(helper, arguments)
        }));
    }
    cases.push(
        Case::new("trace_help_before_a_relative_path", before_a_mistake).row(Row::OptionsInOrder),
    );
    for (name, value, word) in REFUSED {
        let name = format!("trace_{name}_is_refused");
        cases.push(Case::new(name, move |helper| {
            let scratch = Scratch::new()?;
            let value = value.replace("{}", &scratch.folder().display().to_string());
            let launch = helper.serving(&scratch).args(["-T", &value]);
            launch.finish()?.refused(word)?;
            ensure!(!scratch.socket().exists(), "a socket is left");
            Ok(())
        }));
    }
    for (name, value, warning) in SERVED {
        cases.push(Case::new(
            format!("trace_{name}_is_served"),
            move |helper| serves(helper, value, warning),
        ));
    }
    cases.push(Case::new("trace_options_are_applied_in_order", in_order));
    cases
}

fn lists_events(helper: &Helper, arguments: &[&str]) -> Result<()> {
    let scratch = Scratch::new()?;
    let finished = helper.bare(&scratch).args(arguments).finish()?;
    finished.succeeded()?;
    ensure!(!finished.stdout.is_empty(), "no event is listed");
    for line in finished.stdout.lines() {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        ensure!(
            !line.is_empty() && line.bytes().all(plain),
            "an event `{line}`"
        );
    }
    Ok(())
}

fn serves(helper: &Helper, value: &str, warning: Option<&str>) -> Result<()> {
    let scratch = Scratch::new()?;
    fs::write(scratch.path("events"), "# a comment\n\nno_such_event\n")?;
    let value = value.replace("{}", &scratch.folder().display().to_string());
    let mut running = helper.serving(&scratch).args(["-T", &value]).start()?;
    ensure!(running.terminate()?.success());
    let stderr = running.stderr()?;
    match warning {
        Some(word) => ensure!(
            stderr.contains("warning") && stderr.contains(word),
            "no warning of `{word}`: {stderr}"
        ),
        None => ensure!(stderr.is_empty(), "{stderr}"),
    }
    ensure!(scratch.path("log").exists() == value.contains("file="));
    Ok(())
}

/// The warning of the first occurrence comes although the second is an error.
fn in_order(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let launch = helper.serving(&scratch);
    let finished = launch
        .args(["-T", "no_such_event", "-T", "bad=1"])
        .finish()?;
    finished.refused("bad")?;
    ensure!(finished.stderr.contains("no_such_event"), "{finished:?}");
    Ok(())
}

fn before_a_mistake(helper: &Helper) -> Result<()> {
    let arguments = ["-T", "help", "-k", "relative"];
    if !helper.differs(Row::OptionsInOrder) {
        return lists_events(helper, &arguments);
    }
    let scratch = Scratch::new()?;
    helper
        .bare(&scratch)
        .args(arguments)
        .finish()?
        .refused("absolute")
}
