//! What shells complete of both command lines.

use clap::{Command, CommandFactory as _};
use clap_complete::{Shell, generate};
use qemu_pr_helper::cli::Options;

/// A file of completions.
pub(crate) struct Script {
    /// For which shell.
    pub(crate) shell: Shell,
    /// The program.
    pub(crate) program: &'static str,
    /// The script.
    pub(crate) text: Vec<u8>,
}

/// Those for each shell and program.
pub(crate) fn scripts() -> Vec<Script> {
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
