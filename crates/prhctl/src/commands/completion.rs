// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl completion`: scripts for the completion of command lines.

use clap::Args;
use clap_complete::Shell;

use super::Subcommand;
use crate::completion;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::json::object;

pub(crate) const HELP: &str = "\
Print a script for a shell that completes the command lines of prhctl.

The script runs prhctl, which must be in PATH, to complete options, values,
SCSI disks and multipath maps. The packages install these scripts.";
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  source <(prhctl completion bash)
  prhctl completion zsh > ~/.zfunc/_prhctl
  prhctl completion fish > ~/.config/fish/completions/prhctl.fish

Exit status 0.";

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(
    about = "Print a completion script for a shell",
    long_about = HELP, after_long_help = EXAMPLES
)]
pub(crate) struct CompletionArgs {
    #[arg(
        value_name = "SHELL",
        value_enum,
        hide_possible_values = true,
        help = "Shell: bash, elvish, fish, powershell or zsh"
    )]
    shell: Shell,
}

impl Subcommand for CompletionArgs {
    fn run(&self, context: &Context) -> Exit {
        let script = completion::script(self.shell);
        let text = match context.is_json {
            true => object! { "script": script }.pretty(),
            false => script,
        };
        context.console.print(&text, Exit::SUCCESS)
    }

    fn uses_helper(&self) -> bool {
        false
    }
}
