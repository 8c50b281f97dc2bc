// SPDX-License-Identifier: MIT OR Apache-2.0

//! Shell completions of both command lines.

use clap::builder::PossibleValuesParser;
use clap::{CommandFactory as _, ValueHint};
use clap_complete::{Shell, generate};
use qemu_pr_helper::cli::Options;
use qemu_pr_helper::trace::events::ALL;

/// A completion script.
pub struct Script {
    /// Shell that the script is for.
    pub shell: Shell,
    /// Program that it completes the command line of.
    pub program: &'static str,
    /// Content of the script.
    pub text: String,
}

/// Returns the scripts for each shell and program.
pub fn scripts() -> Vec<Script> {
    let shells = [Shell::Bash, Shell::Zsh, Shell::Fish];
    let both = shells.map(|shell| {
        [
            Script {
                shell,
                program: "qemu-pr-helper",
                text: helper_script(shell),
            },
            Script {
                shell,
                program: "prhctl",
                text: prhctl::completion_script(shell),
            },
        ]
    });
    both.into_iter().flatten().collect()
}

/// Returns the script for the helper, which offers events, users and groups.
fn helper_script(shell: Shell) -> String {
    let events = ALL.iter().map(|event| event.name());
    let events = PossibleValuesParser::new(["help"].into_iter().chain(events));
    let command = Options::command().mut_arg("trace", |option| option.value_parser(events));
    // clap knows users, but not in bash, and no groups.
    let mut command = match shell {
        Shell::Bash => command
            .mut_arg("user", |option| option.value_parser(["$(compgen -u)"]))
            .mut_arg("group", |option| option.value_parser(["$(compgen -g)"])),
        _ => command
            .mut_arg("user", |option| option.value_hint(ValueHint::Username))
            .mut_arg("group", |option| option.value_hint(ValueHint::Hostname)),
    };
    let mut text = Vec::new();
    generate(shell, &mut command, "qemu-pr-helper", &mut text);
    String::from_utf8_lossy(&text)
        .replace(":GROUP:_hosts", ":GROUP:_groups")
        .replace("__fish_print_hostnames", "__fish_complete_groups")
}
