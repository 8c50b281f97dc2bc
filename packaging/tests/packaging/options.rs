// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests that the help, the man pages and the documents have every option, and the table of
//! commands every command.

use clap::{Command, CommandFactory as _};
use pr_testkit::table;
use qemu_pr_helper::cli::Options;

use packaging::man;

/// Returns the visible options of a command and its subcommands, each with the name of the
/// command's man page. The options include clap's own (help and version).
pub(crate) fn options(command: &Command, page: &str) -> Vec<(String, String)> {
    let command_line = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set());
    let is_builtin = command_line
        .filter_map(|argument| Some((page.to_owned(), format!("--{}", argument.get_long()?))));
    let inner = command.get_subcommands();
    let inner = inner.filter(|command| command.get_name() != "help");
    is_builtin
        .chain(inner.flat_map(|command| {
            let page = format!("{page}-{}", command.get_name());
            options(command, &page)
        }))
        .collect()
}

pub(crate) fn helper() -> Command {
    let mut command = Options::command();
    command.build();
    command
}

fn client() -> Command {
    let mut command = prhctl::command_line();
    command.build();
    command
}

/// Returns whether a text contains this option, and not only a longer one.
pub(crate) fn has(text: &str, option: &str) -> bool {
    let is_word =
        |rest: &str| rest.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '-');
    text.match_indices(option)
        .any(|(at, _)| !is_word(&text[at + option.len()..]))
}

#[test]
fn help_and_documents_have_every_option() {
    let is_builtin = |option: &str| ["--help", "--version"].contains(&option);
    let help = helper().render_long_help().to_string();
    let named = options(&helper(), "qemu-pr-helper");
    assert!(named.len() >= 20);
    for (_, option) in named {
        assert!(has(&help, &option), "--help lacks {option}");
    }
    let document = include_str!("../../../docs/prhctl.md");
    for (page, option) in options(&client(), "prhctl") {
        let is_present = is_builtin(&option) || has(document, &option);
        assert!(is_present, "docs/prhctl.md lacks {option} of {page}");
    }
}

/// Returns the names of the commands that have no subcommands.
fn commands(command: &Command, prefix: &str) -> Vec<String> {
    let inner = command.get_subcommands();
    let inner = inner.filter(|command| command.get_name() != "help");
    inner
        .flat_map(|command| {
            let name = format!("{prefix}{}", command.get_name());
            match command.has_subcommands() {
                true => commands(command, &format!("{name} ")),
                false => vec![name],
            }
        })
        .collect()
}

#[test]
fn document_has_every_command() {
    let document = include_str!("../../../docs/prhctl.md");
    let rows = document
        .lines()
        .skip_while(|line| !line.starts_with("| command | sends |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let usages = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let is_name = |word: &&str| word.starts_with(|first: char| first.is_ascii_lowercase());
    let names = usages.map(|usage| {
        let words: Vec<_> = usage.split(' ').take_while(is_name).collect();
        words.join(" ")
    });
    table::assert_same(
        ("the table of commands in docs/prhctl.md", names),
        ("prhctl --help", commands(&client(), "")),
    );
}

#[test]
fn pages_have_every_option() {
    let pages = man::pages("1970-01-01");
    let helper = options(&helper(), "qemu-pr-helper");
    for (name, option) in helper.into_iter().chain(options(&client(), "prhctl")) {
        let page = pages
            .iter()
            .find(|page| page.name.rsplit_once('.').unwrap().0 == name)
            .unwrap_or_else(|| panic!("no page {name}"));
        let option = option.replace('-', "\\-");
        assert!(has(&page.text, &option), "{} lacks {option}", page.name);
    }
}
