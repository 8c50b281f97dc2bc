// SPDX-License-Identifier: MIT OR Apache-2.0

//! Event names and patterns that enable and disable events, and warnings about unknown names.

use anyhow::{Context, Result, ensure};

use super::{
    ACCEPT, ACCEPT_COMPLETE, LISTEN, LISTEN_COMPLETE, SHARED, expect_events, expect_warnings,
    traced_stderr,
};
use crate::case::Case;
use crate::helper::Helper;
use crate::scratch::Scratch;

/// Matches two events, but is not a pattern, because it has no asterisk.
const AMBIGUOUS: &str = "qio_channel_socket_??????_complete";

/// Values without a warning, and the enabled events.
const SILENT: [(&str, &[&str], &[&str]); 26] = [
    ("name_of_listen", &[LISTEN], &[LISTEN]),
    (
        "name_of_listen_complete",
        &[LISTEN_COMPLETE],
        &[LISTEN_COMPLETE],
    ),
    ("name_of_accept", &[ACCEPT], &[ACCEPT]),
    (
        "name_of_accept_complete",
        &[ACCEPT_COMPLETE],
        &[ACCEPT_COMPLETE],
    ),
    ("asterisk", &["*"], &SHARED),
    ("two_asterisks", &["**"], &SHARED),
    (
        "asterisk_at_the_end",
        &["qio_channel_socket_*"],
        &[LISTEN_COMPLETE, ACCEPT, ACCEPT_COMPLETE],
    ),
    ("asterisk_at_the_start", &["*_accept"], &[ACCEPT]),
    (
        "asterisk_in_the_middle",
        &["qio*_complete"],
        &[LISTEN_COMPLETE, ACCEPT_COMPLETE],
    ),
    (
        "asterisks_at_both_ends",
        &["*socket_accept*"],
        &[ACCEPT, ACCEPT_COMPLETE],
    ),
    (
        "asterisks_that_match_nothing",
        &["*socket*_listen*"],
        &[LISTEN, LISTEN_COMPLETE],
    ),
    (
        "asterisk_with_backtracking",
        &["*_*_complete"],
        &[LISTEN_COMPLETE, ACCEPT_COMPLETE],
    ),
    ("pattern_without_match", &["nothing_like_this*"], &[]),
    ("pattern_in_capitals", &["SOCKET_L*"], &[]),
    ("pattern_with_brackets", &["socket_[l]*"], &[]),
    (
        "disabled_pattern_without_match",
        &["-nothing_like_this*"],
        &[],
    ),
    (
        "question_marks_in_a_pattern",
        &["qio_channel_socket_??????_c*"],
        &[LISTEN_COMPLETE, ACCEPT_COMPLETE],
    ),
    ("question_mark_needs_a_character", &["socket_listen?*"], &[]),
    ("question_marks_in_a_name", &["socket_l??ten"], &[LISTEN]),
    (
        "disabled_name",
        &[LISTEN, ACCEPT, "-socket_listen"],
        &[ACCEPT],
    ),
    (
        "disabled_name_with_a_question_mark",
        &[LISTEN, "-?ocket_listen"],
        &[],
    ),
    (
        "disabled_name_with_key",
        &[LISTEN, "enable=-socket_listen"],
        &[],
    ),
    ("disabled_pattern", &["*", "-qio_*"], &[LISTEN]),
    ("disabled_asterisk", &["*", "-*"], &[]),
    (
        "enabled_after_it_was_disabled",
        &["-socket_*", LISTEN],
        &[LISTEN],
    ),
    (
        "enabled_twice_and_disabled_once",
        &[LISTEN, LISTEN, "-socket_listen"],
        &[],
    ),
];

/// Values with unknown names, about which the helper warns.
const WARNED: [(&str, &[&str], &[&str]); 19] = [
    ("unknown_name", &["no_such_event"], &["no_such_event"]),
    (
        "unknown_name_disabled",
        &["-no_such_event"],
        &["no_such_event"],
    ),
    (
        "unknown_name_with_key",
        &["enable=no_such_event"],
        &["no_such_event"],
    ),
    ("two_unknown_names", &["one", "two"], &["one", "two"]),
    ("name_in_capitals", &["SOCKET_LISTEN"], &["SOCKET_LISTEN"]),
    ("help_in_capitals", &["HELP"], &["HELP"]),
    ("help_disabled", &["-help"], &["help"]),
    ("question_mark_disabled", &["-?"], &["?"]),
    ("question_marks_without_match", &["??"], &["??"]),
    ("start_of_a_name", &["socket_liste"], &["socket_liste"]),
    (
        "blank_before_a_name",
        &[" socket_listen"],
        &[" socket_listen"],
    ),
    (
        "blank_after_a_name",
        &["socket_listen "],
        &["socket_listen "],
    ),
    ("doubled_comma", &["one,,two"], &["one,two"]),
    (
        "doubled_comma_at_the_end",
        &["socket_listen,,"],
        &["socket_listen,"],
    ),
    ("two_dashes", &["--socket_listen"], &["-socket_listen"]),
    ("last_of_two_names", &["enable=one,enable=two"], &["two"]),
    ("key_as_a_name", &["file"], &["file"]),
    // An empty value has no name, but an empty name is an unknown name.
    ("empty_name", &["enable="], &[""]),
    ("dash", &["-"], &[""]),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, values, events) in SILENT {
        cases.push(Case::new(name, move |helper| {
            served(helper, values, events, &[])
        }));
    }
    for (name, values, unknown) in WARNED {
        cases.push(Case::new(
            format!("{name}_causes_a_warning"),
            move |helper| served(helper, values, &[], unknown),
        ));
    }
    cases.push(Case::new(
        "question_marks_in_a_name_find_one_event",
        first_match,
    ));
    cases
}

fn served(helper: &Helper, values: &[&str], events: &[&str], unknown: &[&str]) -> Result<()> {
    let scratch = Scratch::new()?;
    let stderr = traced_stderr(helper, &scratch, values)?;
    expect_events(&stderr, events)?;
    let expected: Vec<_> = unknown.iter().map(|name| (String::new(), *name)).collect();
    expect_warnings(&stderr, &expected)?;
    let silent = events.is_empty() && unknown.is_empty();
    ensure!(!silent || stderr.is_empty(), "{stderr}");
    Ok(())
}

/// Without an asterisk, it is the name of one event: the first match in the list.
fn first_match(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let list = helper
        .command(&scratch)
        .args(["-T", "help"])
        .finish()?
        .stdout;
    let both = [LISTEN_COMPLETE, ACCEPT_COMPLETE];
    let first = list.lines().find(|line| both.contains(line));
    let first = first.context("neither event is in the list")?;
    expect_events(&traced_stderr(helper, &scratch, &[AMBIGUOUS])?, &[first])?;

    let others: Vec<&str> = SHARED.into_iter().filter(|event| *event != first).collect();
    ensure!(others.len() == 3, "{others:?}");
    let disabled = format!("-{AMBIGUOUS}");
    expect_events(
        &traced_stderr(helper, &scratch, &["*", &disabled])?,
        &others,
    )
}
