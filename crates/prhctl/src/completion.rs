// SPDX-License-Identifier: MIT OR Apache-2.0

//! Completion of command lines. The script of a shell calls this program, which offers the values.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;
use std::{env, fs};

use clap::Command;
use clap_complete::Shell;
use clap_complete::engine::{
    ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter as _,
};
use clap_complete::env::{Bash, CompleteEnv, Elvish, EnvCompleter, Fish, Powershell, Shells, Zsh};

use crate::block_device::BlockDevice;

/// Variable in which the scripts pass the name of the shell.
const VARIABLE: &str = "PRHCTL_COMPLETE";

const PROGRAM: &str = "prhctl";

/// Directory of the persistent names of disks.
const BY_ID: &str = "/dev/disk/by-id";

const SHELLS: Shells<'_> = Shells(&[
    &Adapter(&Bash),
    &Adapter(&Elvish),
    &Adapter(&Fish),
    &Adapter(&Powershell),
    &Adapter(&Zsh),
]);

/// The script for bash. clap's own passes `COMP_WORDS`, in which "=" and ":" separate words, so
/// that it completes neither `--type=` nor names of disks that contain a colon.
const BASH_SCRIPT: &str = r#"_prhctl() {
    local IFS=$' \t\n' line=${COMP_LINE:0:COMP_POINT}
    local -a words
    # A backslash quotes a blank.
    read -a words <<<"$line"
    [[ $line != *[[:space:]] ]] || words+=("")
    local index=$((${#words[@]} - 1))
    mapfile -t COMPREPLY < <(
        PRHCTL_COMPLETE=bash _CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$index \
            prhctl -- "${words[@]}" 2>/dev/null
    )
    # bash replaces what follows the last "=" or ":".
    local prefix=${words[index]%"$2"}
    COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
    [[ ${COMPREPLY-} != *[/=] ]] || compopt -o nospace
}
complete -o nosort -F _prhctl prhctl 2>/dev/null || complete -F _prhctl prhctl
"#;

/// Appended to the script for zsh. zsh loads the script from a directory at the first completion,
/// for which the script only defines the function.
const ZSH_FIRST_CALL: &str = r#"
if [[ "$funcstack[1]" == _prhctl ]]; then
    _clap_dynamic_completer_prhctl "$@"
fi
"#;

/// Returns the script that a shell reads.
pub(crate) fn script(shell: Shell) -> String {
    let shell: &dyn EnvCompleter = match shell {
        Shell::Elvish => &Elvish,
        Shell::Fish => &Fish,
        Shell::PowerShell => &Powershell,
        Shell::Zsh => &Zsh,
        _ => &Bash,
    };
    let mut script = Vec::new();
    // Writing to a vector does not fail.
    let _ = Adapter(shell).write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Prints the values for a word, if a script asks for them. Returns whether that is the case.
pub(crate) fn complete(
    command_line: fn() -> Command,
    arguments: &[OsString],
) -> Result<bool, clap::Error> {
    let current_dir = env::current_dir().ok();
    CompleteEnv::with_factory(command_line)
        .var(VARIABLE)
        .shells(SHELLS)
        .try_complete(arguments, current_dir.as_deref())
}

/// Returns the completer of a file of any type, such as a socket.
pub(crate) fn file() -> ArgValueCompleter {
    ArgValueCompleter::new(files)
}

/// Returns the completer of a disk or a port of a soft LUN.
pub(crate) fn device() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let mut candidates = disks(current);
        // Without a disk that starts with the word, the word is the start of another path.
        if candidates.is_empty() {
            candidates = files(current);
        }
        candidates
    })
}

fn files(current: &OsStr) -> Vec<CompletionCandidate> {
    let mut files = PathCompleter::any().complete(current);
    // The current directory.
    files.retain(|file| file.get_value() != ".");
    files
}

/// Returns the names of SCSI disks and multipath maps that start with `current`: nodes, and links
/// in `/dev/disk/by-id`.
fn disks(current: &OsStr) -> Vec<CompletionCandidate> {
    let links: Vec<_> = fs::read_dir(BY_ID)
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    let candidates = BlockDevice::scsi_disks().into_iter().flat_map(|disk| {
        let node = disk.node();
        let is_to_disk = |link: &&fs::DirEntry| {
            let target = fs::read_link(link.path()).unwrap_or_default();
            target.file_name() == Path::new(&disk.name()).file_name()
        };
        let names = links
            .iter()
            .filter(is_to_disk)
            .map(|link| CompletionCandidate::new(link.path()).help(Some(node.clone().into())));
        let mut candidates: Vec<_> = names.collect();
        candidates.push(CompletionCandidate::new(&node).help(disk.wwn().map(Into::into)));
        candidates
    });
    let prefix = current.as_encoded_bytes();
    let mut candidates: Vec<_> = candidates
        .filter(|candidate| candidate.get_value().as_encoded_bytes().starts_with(prefix))
        .collect();
    candidates.sort();
    candidates
}

/// A shell of clap, with changes: its own script for bash, and options are offered only for a word
/// that begins with "-" if there is anything else to offer.
struct Adapter<'a>(&'a dyn EnvCompleter);

impl EnvCompleter for Adapter<'_> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn is(&self, name: &str) -> bool {
        self.0.is(name)
    }

    fn write_registration(
        &self,
        variable: &str,
        name: &str,
        binary: &str,
        completer: &str,
        output: &mut dyn Write,
    ) -> io::Result<()> {
        match self.name() {
            "bash" => output.write_all(BASH_SCRIPT.as_bytes()),
            shell => {
                self.0
                    .write_registration(variable, name, binary, completer, output)?;
                let end = if shell == "zsh" { ZSH_FIRST_CALL } else { "" };
                output.write_all(end.as_bytes())
            }
        }
    }

    fn write_complete(
        &self,
        command: &mut Command,
        arguments: Vec<OsString>,
        current_dir: Option<&Path>,
        output: &mut dyn Write,
    ) -> io::Result<()> {
        let mut candidates = Vec::new();
        self.0
            .write_complete(command, arguments, current_dir, &mut candidates)?;
        let text = String::from_utf8_lossy(&candidates);
        let (options, values): (Vec<_>, Vec<_>) = text
            .lines()
            .partition(|candidate| candidate.starts_with('-'));
        let offered = if values.is_empty() { options } else { values };
        output.write_all(offered.join("\n").as_bytes())
    }
}
