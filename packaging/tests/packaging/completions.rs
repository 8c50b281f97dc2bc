// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests of the completion scripts in the packages, and of what shells offer for the helper.

use std::fs;
use std::path::Path;

use clap_complete::Shell as ScriptShell;
use packaging::completions::{self, Script};
use pr_testkit::shells::{Completion, Line, Shell};

use crate::options::{has, helper, options};
use crate::tool;

const LINES: &[Line<'_>] = &[
    ("qemu-pr-helper --soft", &["--soft-luns"], &["file"]),
    (
        "qemu-pr-helper -T ",
        &["help", "pr_helper_stopping"],
        &["file"],
    ),
    (
        "qemu-pr-helper --trace socket",
        &["socket_listen"],
        &["help"],
    ),
    (
        "qemu-pr-helper --trace-backend ",
        &["log", "simple"],
        &["file"],
    ),
    ("qemu-pr-helper --sandbox ", &["off"], &["file"]),
    ("qemu-pr-helper -k ", &["file", "dir"], &[]),
    ("qemu-pr-helper --soft-luns ", &["dir"], &["file"]),
];

fn helper_script(shell: ScriptShell) -> Script {
    let scripts = completions::scripts().into_iter();
    let mut scripts = scripts.filter(|script| script.program == "qemu-pr-helper");
    scripts.find(|script| script.shell == shell).unwrap()
}

/// Returns the names in a database such as `/etc/passwd`.
fn names(database: &str) -> Vec<String> {
    let text = fs::read_to_string(database).unwrap();
    let names = text
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0));
    names.map(str::to_owned).collect()
}

fn check(shell: Shell, script: ScriptShell) {
    if !shell.is_installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    fs::create_dir(dir.path().join("dir")).unwrap();
    let completion = Completion {
        shell,
        program: "qemu-pr-helper",
        script: &helper_script(script).text,
        dir: dir.path(),
        bin: Path::new("/usr/bin"),
        wrapper: &[],
    };
    for line in LINES {
        completion.check(line);
    }
    for (option, database) in [("-u", "/etc/passwd"), ("-g", "/etc/group")] {
        let names = names(database);
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        completion.check(&(&format!("qemu-pr-helper {option} "), &names, &["file"]));
    }
}

#[test]
fn bash_offers_values_for_helper() {
    check(Shell::Bash, ScriptShell::Bash);
}

#[test]
fn fish_offers_values_for_helper() {
    check(Shell::Fish, ScriptShell::Fish);
}

#[test]
fn zsh_offers_values_for_helper() {
    check(Shell::Zsh, ScriptShell::Zsh);
}

#[test]
fn completions_have_every_option() {
    for shell in [ScriptShell::Bash, ScriptShell::Fish, ScriptShell::Zsh] {
        let script = helper_script(shell);
        for (_, option) in options(&helper(), script.program) {
            // The completions of fish name options without dashes.
            let name = option.trim_start_matches('-').to_owned();
            let fish = format!("-l {name}");
            let is_present = has(&script.text, &option) || has(&script.text, &fish);
            assert!(is_present, "{shell}: no {option}");
        }
    }
}

#[test]
fn completions_are_valid_shell_syntax() {
    let dir = tempfile::tempdir().unwrap();
    for script in completions::scripts() {
        let shell = script.shell.to_string();
        let Some(mut command) = tool(&shell) else {
            continue;
        };
        let path = dir.path().join(&shell);
        fs::write(&path, script.text).unwrap();
        pr_testkit::process::output(command.arg("-n").arg(path)).unwrap();
    }
}
