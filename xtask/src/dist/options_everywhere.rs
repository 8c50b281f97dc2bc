//! An option is in the help, the man page, the document and the completions, or a test fails.

use clap::{Command, CommandFactory as _};
use qemu_pr_helper::cli::Options;

use super::edition::Edition;
use super::{completions, man};

/// Options of a command and of those in it, but for hidden ones, with the name of the command's page. clap's own
/// (help and version) are among them.
fn options(command: &Command, page: &str) -> Vec<(String, String)> {
    let shown = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set());
    let own =
        shown.filter_map(|argument| Some((page.to_owned(), format!("--{}", argument.get_long()?))));
    let inner = command.get_subcommands();
    let inner = inner.filter(|command| command.get_name() != "help");
    own.chain(inner.flat_map(|command| {
        let page = format!("{page}-{}", command.get_name());
        options(command, &page)
    }))
    .collect()
}

fn helper() -> Command {
    let mut command = Options::command();
    command.build();
    command
}

fn client() -> Command {
    let mut command = prhctl::command_line();
    command.build();
    command
}

/// Whether a text has this option, and not only a longer one.
fn has(text: &str, option: &str) -> bool {
    let is_word =
        |rest: &str| rest.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '-');
    text.match_indices(option)
        .any(|(at, _)| !is_word(&text[at + option.len()..]))
}

#[test]
fn help_and_documents_have_every_option() {
    let own = |option: &str| ["--help", "--version"].contains(&option);
    let help = helper().render_long_help().to_string();
    let named = options(&helper(), "qemu-pr-helper");
    assert!(named.len() >= 20);
    for (_, option) in named {
        assert!(has(&help, &option), "--help lacks {option}");
    }
    let document = include_str!("../../../docs/prhctl.md");
    for (page, option) in options(&client(), "prhctl") {
        let is_there = own(&option) || has(document, &option);
        assert!(is_there, "docs/prhctl.md lacks {option} of {page}");
    }
}

#[test]
fn pages_have_every_option() {
    let pages = man::pages(&Edition { time: 0 });
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

#[test]
fn completions_have_every_option() {
    for script in completions::scripts() {
        let command = match script.program {
            "prhctl" => client(),
            _ => helper(),
        };
        let text = String::from_utf8(script.text).unwrap();
        for (_, option) in options(&command, script.program) {
            // fish knows them by their names.
            let name = option.trim_start_matches('-').to_owned();
            let fish = format!("-l {name}");
            let is_there = has(&text, &option) || has(&text, &fish);
            assert!(
                is_there,
                "{}, {}: no {option}",
                script.program, script.shell
            );
        }
    }
}

#[test]
fn shells_take_the_completions() {
    let folder = tempfile::tempdir().unwrap();
    for script in completions::scripts() {
        let shell = script.shell.to_string();
        if crate::process::find(&shell).is_none() {
            println!("skipped: no {shell}");
            continue;
        }
        let path = folder.path().join(&shell);
        std::fs::write(&path, script.text).unwrap();
        crate::process::output(crate::process::command(&shell).arg("-n").arg(path)).unwrap();
    }
}
