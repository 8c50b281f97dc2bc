// SPDX-License-Identifier: MIT OR Apache-2.0

//! Completions that bash, fish and zsh offer for a command line.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use crate::process;
use crate::pty::Pty;
use crate::{eventually, skip};

/// Prompt of the interactive shells.
const PROMPT: &str = "ready> ";

/// Keys that insert all completions, and write the line to the file `line`.
const KEYS: &str = "\x18i\x18w";

const BASH: &str = r#"
PS1='ready> '
source ./bash-script
bind '"\C-xi": insert-completions'
write_line() { printf '%s' "$READLINE_LINE" >line.tmp; mv line.tmp line; }
bind -x '"\C-xw": write_line'
"#;

const ZSH: &str = r#"
PS1='ready> '
fpath=($PWD/zsh-functions $fpath)
autoload -U compinit
compinit -u -D
insert_all() { _main_complete; compstate[insert]=all; compstate[list]=; }
zle -C insert-all complete-word insert_all
bindkey '^Xi' insert-all
write_line() { print -rn -- "$BUFFER" >line.tmp; mv line.tmp line; }
zle -N write-line write_line
bindkey '^Xw' write-line
"#;

/// A shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// bash.
    Bash,
    /// fish.
    Fish,
    /// zsh.
    Zsh,
}

impl Shell {
    /// All shells.
    pub const ALL: [Self; 3] = [Self::Bash, Self::Fish, Self::Zsh];

    /// Returns the name of the program.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Fish => "fish",
            Self::Zsh => "zsh",
        }
    }

    /// Returns whether the shell is installed. Otherwise, skips the test.
    #[must_use]
    pub fn is_installed(self) -> bool {
        let is_installed = process::find(self.name()).is_some();
        if !is_installed {
            skip(&format!("{} is not installed", self.name()));
        }
        is_installed
    }
}

/// A completion script, and the directory in which a shell completes command lines with it.
#[derive(Clone, Copy, Debug)]
pub struct Completion<'a> {
    /// Shell of the script.
    pub shell: Shell,
    /// Program that the script is for.
    pub program: &'a str,
    /// Content of the script.
    pub script: &'a str,
    /// Current directory, which gets some files.
    pub dir: &'a Path,
    /// Directory that is added to `PATH`.
    pub bin: &'a Path,
    /// Program with arguments that runs the shell, or nothing.
    pub wrapper: &'a [String],
}

/// A command line, the words that a shell must offer for its last word, and words that it must not
/// offer.
pub type Line<'a> = (&'a str, &'a [&'a str], &'a [&'a str]);

impl Completion<'_> {
    /// Panics unless the shell offers what `line` requires.
    #[track_caller]
    pub fn check(self, (line, required, forbidden): &Line<'_>) {
        let offered = self.offered(line);
        // Shells also insert the unchanged part of a word, or a character that follows the word.
        let offers = |word: &&&str| {
            let mut words = offered.iter().map(|one| one.trim_end_matches(['/', '=']));
            words.any(|one| one == **word || one.rsplit(['=', ',']).next() == Some(word))
        };
        let missing: Vec<_> = required.iter().filter(|word| !offers(word)).collect();
        let wrong: Vec<_> = forbidden.iter().filter(offers).collect();
        assert!(
            missing.is_empty() && wrong.is_empty(),
            "{}: {line}: offers {offered:?}, without {missing:?}, with {wrong:?}",
            self.shell.name()
        );
    }

    fn offered(self, line: &str) -> Vec<String> {
        match self.shell {
            Shell::Fish => self.fish(line),
            Shell::Bash => {
                fs::write(self.dir.join("bash-script"), self.script).unwrap();
                fs::write(self.dir.join("bash-init"), BASH).unwrap();
                self.interactive(
                    line,
                    &["bash", "--noprofile", "--rcfile", "bash-init", "-i"],
                )
            }
            Shell::Zsh => {
                let functions = self.dir.join("zsh-functions");
                fs::create_dir_all(&functions).unwrap();
                fs::write(functions.join(format!("_{}", self.program)), self.script).unwrap();
                fs::write(self.dir.join(".zshrc"), ZSH).unwrap();
                // Without the files of the system.
                self.interactive(line, &["zsh", "--no-globalrcs", "-i"])
            }
        }
    }

    /// Asks fish, which prints a word and its description on each line.
    fn fish(self, line: &str) -> Vec<String> {
        fs::write(self.dir.join("fish-script"), self.script).unwrap();
        let code = "source fish-script; complete --do-complete \"$argv\"";
        let mut command = self.command(&["fish", "--no-config", "-c", code, line]);
        let text = process::text(&mut command).unwrap();
        let words = text
            .lines()
            .map(|line| line.split('\t').next().unwrap_or(line));
        words.map(str::to_owned).collect()
    }

    /// Types the line into an interactive shell, and has the shell insert all completions.
    fn interactive(self, line: &str, shell: &[&str]) -> Vec<String> {
        let result = self.dir.join("line");
        let _ = fs::remove_file(&result);
        let words = [&["setsid", "--ctty"], shell].concat();
        // The line does not reach the last column, at which the shells would scroll it.
        let mut pty = Pty::start_with_stderr(&mut self.command(&words), 4000, 24);
        pty.read_until(PROMPT, 1);
        pty.write(line);
        pty.write(KEYS);
        let completed = eventually("the completed line", || fs::read_to_string(&result).ok());
        // An empty line, and the end of the input.
        pty.write("\x15\x04");
        pty.finish();
        let (start, _) = line.rsplit_once(' ').unwrap();
        let offered = completed.strip_prefix(start).unwrap();
        offered.split_whitespace().map(str::to_owned).collect()
    }

    fn command(self, words: &[&str]) -> Command {
        let wrapper = self.wrapper.iter().map(String::as_str);
        let mut words = wrapper.chain(words.iter().copied());
        let mut command = process::command(words.next().unwrap());
        command.args(words).current_dir(self.dir);
        let path = env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", self.bin.display());
        command.env_clear().env("PATH", path).env("TERM", "xterm");
        command.env("LC_ALL", "C.UTF-8");
        command.env("HOME", self.dir).env("ZDOTDIR", self.dir);
        command
    }
}
