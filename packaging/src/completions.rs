// SPDX-License-Identifier: MIT OR Apache-2.0

//! Shell completions of both command lines.

use clap::{Command, CommandFactory as _};
use clap_complete::{Shell, generate};
use qemu_pr_helper::cli::Options;

/// A completion script.
pub struct Script {
    /// Shell that the script is for.
    pub shell: Shell,
    /// Program that it completes the command line of.
    pub program: &'static str,
    /// Content of the script.
    pub text: Vec<u8>,
}

/// Returns the scripts for each shell and program.
pub fn scripts() -> Vec<Script> {
    let shells = [Shell::Bash, Shell::Zsh, Shell::Fish];
    let both = shells.map(|shell| {
        [
            script(shell, "qemu-pr-helper", Options::command()),
            script(shell, "prhctl", prhctl::command_line()),
        ]
    });
    both.into_iter().flatten().collect()
}

fn script(shell: Shell, program: &'static str, mut command: Command) -> Script {
    let mut text = Vec::new();
    generate(shell, &mut command, program, &mut text);
    Script {
        shell,
        program,
        text,
    }
}
