// SPDX-License-Identifier: MIT OR Apache-2.0

//! Line breaks on terminals.

use std::process::Stdio;

use pr_testkit::pty::Pty;

use crate::support::TestHelper;

/// Command lines that fail with advice.
const FAILURES: &[&str] = &[
    "clear a --key 5 --yes",
    "reserve a --key b --type we",
    "keys none",
    "keys .",
    "--json keys none",
    "register a",
    "stauts a",
    "keys a --color sometimes",
    "reserve a --key 1 --type 2",
    "keys a -k none",
    "keys a -k luns",
];

/// Returns what a command writes to a terminal.
fn on_terminal(helper: &TestHelper, line: &str, columns: u16) -> String {
    let mut command = helper.prhctl(line);
    command.env("NO_COLOR", "1");
    let (_, output) = Pty::start_with_stderr(&mut command, columns, 24).finish();
    output.replace('\r', "")
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

#[track_caller]
fn check_width(text: &str, columns: u16) {
    for line in text.lines() {
        assert!(line.chars().count() <= columns.into(), "{columns}: {line}");
    }
}

#[test]
fn errors_are_broken_between_words() {
    let helper = TestHelper::start();
    helper.register_both();
    let mut broken = 0;
    for line in FAILURES {
        let unbroken = helper.run(line);
        for columns in [80, 40] {
            let text = on_terminal(&helper, line, columns);
            // JSON goes to standard output, and is not broken.
            let text = text.strip_suffix(&unbroken.stdout).unwrap();
            check_width(text, columns);
            assert_eq!(words(text), words(&unbroken.stderr), "{line}");
            broken += text.lines().count() - unbroken.stderr.lines().count();
        }
    }
    assert!(broken > FAILURES.len(), "{broken}");
}

#[test]
fn notes_and_questions_are_broken_between_words() {
    let helper = TestHelper::start();
    let note = "prhctl: luns/lun is itself a soft LUN; use 'prhctl lun show'";
    for columns in [80, 40] {
        let text = on_terminal(&helper, "lun list luns/lun", columns);
        check_width(&text, columns);
        assert!(
            text.starts_with("prhctl: luns/lun is itself"),
            "{text}: {note}"
        );

        let mut command = helper.prhctl("clear a --key a");
        command.env("NO_COLOR", "1");
        let mut pty = Pty::start_with_stderr(&mut command, columns, 24);
        pty.read_until("[y/N] ", 1);
        pty.write("n\n");
        let (status, text) = pty.finish();
        assert_eq!(status, Some(1));
        check_width(&text.replace('\r', ""), columns);
        let question = "a: removes the reservation and the registrations of all ports. Continue?";
        assert!(words(&text).starts_with(&words(question)), "{text}");
    }
}

/// Results with lines of more than 80 columns.
const RESULTS: &[&str] = &[
    "status a",
    "lun show luns/lun",
    "lun list luns",
    "decode 5f 04 05 00 00 00 00 00 18 00",
    "decode 72 06 2a 05 00 00 00 00",
];

#[test]
fn results_are_broken_between_words() {
    let helper = TestHelper::start();
    helper.register_both();
    let reserve = "reserve b --key b --type we-ro";
    helper.run(reserve).success();
    let mut broken = 0;
    for line in RESULTS {
        let unbroken = helper.run(line).success();
        for columns in [80, 60] {
            let text = on_terminal(&helper, line, columns);
            check_width(&text, columns);
            assert_eq!(words(&text), words(&unbroken), "{line}");
            broken += text.lines().count() - unbroken.lines().count();
        }
        assert_eq!(on_terminal(&helper, line, 200), unbroken);
    }
    assert!(broken >= RESULTS.len(), "{broken}");
    // A script and a JSON document are not broken.
    for line in ["completion bash", "--json status a"] {
        let unbroken = helper.run(line).success();
        assert_eq!(words(&on_terminal(&helper, line, 40)), words(&unbroken));
        assert!(on_terminal(&helper, line, 20).contains(unbroken.trim_end()));
    }
}

/// Standard error is a pipe, although standard output is a terminal.
#[test]
fn pipe_has_one_line_for_each_paragraph() {
    let helper = TestHelper::start();
    let mut command = helper.prhctl("clear a --key 5 --yes");
    let unbroken = helper.run("clear a --key 5 --yes").stderr;
    let log = helper.path("log");
    let file = std::fs::File::create(&log).unwrap();
    let pty = Pty::start(command.stderr(Stdio::from(file)), 40, 24);
    assert_eq!(pty.finish().1, "");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), unbroken);
    assert!(unbroken.lines().any(|line| line.len() > 80), "{unbroken}");
}
