// SPDX-License-Identifier: MIT OR Apache-2.0

//! Lines of a fix. Values in commands are quoted, because they can come from the arguments of any
//! process, and root runs the commands.

use std::ffi::OsStr;

use crate::console::escape_control;

/// A command, or a comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    text: String,
    /// A value that begins with a hyphen follows `--`.
    has_end_of_options: bool,
}

impl Line {
    /// Returns a command. Only constant text is not quoted.
    pub(super) fn command(text: &'static str) -> Self {
        Self {
            text: text.to_owned(),
            has_end_of_options: false,
        }
    }

    /// Returns a line of a configuration file, or an explanation.
    pub(super) fn comment(text: impl AsRef<str>) -> Self {
        Self {
            text: format!("# {}", escape_control(text.as_ref())),
            has_end_of_options: false,
        }
    }

    /// Appends a value to a command.
    pub(super) fn value(mut self, value: impl AsRef<OsStr>) -> Self {
        let value = value.as_ref().to_string_lossy();
        if value.starts_with('-') && !self.has_end_of_options {
            self.text += " --";
            self.has_end_of_options = true;
        }
        self.text = format!("{} {}", self.text, quote(&value));
        self
    }

    /// Appends a command that is run after this one was successful.
    pub(super) fn and(mut self, text: &'static str) -> Self {
        self.text = format!("{} && {text}", self.text);
        self.has_end_of_options = false;
        self
    }

    /// Appends an explanation to a command.
    pub(super) fn note(mut self, text: impl AsRef<str>) -> Self {
        self.text = format!("{}    # {}", self.text, escape_control(text.as_ref()));
        self
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

/// Returns a value as one word of the shell.
fn quote(value: &str) -> String {
    let is_plain =
        |character: char| character.is_ascii_alphanumeric() || "_@%+=:,./-".contains(character);
    match !value.is_empty() && !value.starts_with('-') && value.chars().all(is_plain) {
        true => value.to_owned(),
        false => format!("'{}'", value.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_plain_values_are_not_quoted() {
        for (value, expected) in [
            ("/run/pr.sock", "/run/pr.sock"),
            ("a_b@c%d+e=f:g,h.i-j", "a_b@c%d+e=f:g,h.i-j"),
            ("", "''"),
            ("/run/x;cmd", "'/run/x;cmd'"),
            ("it's", r"'it'\''s'"),
            ("~", "'~'"),
            ("é", "'é'"),
        ] {
            let line = Line::command("umount").value(value);
            assert_eq!(line.as_str(), format!("umount {expected}"));
        }
        let line = Line::command("chown")
            .value("-a")
            .value("-b")
            .and("chmod 0600")
            .value("-c");
        assert_eq!(line.as_str(), "chown -- '-a' '-b' && chmod 0600 -- '-c'");
    }

    #[test]
    fn shell_passes_values_unchanged() {
        for value in [
            "",
            "a b",
            "$(false)`false`",
            "'; false '",
            "\\",
            "a\nb",
            "#",
            "*",
            "!!",
        ] {
            let line = Line::command("printf '%s|'")
                .value(value)
                .value("end")
                .note("it's\nid");
            let output = Command::new("sh")
                .args(["-c", line.as_str()])
                .output()
                .unwrap();
            let printed = String::from_utf8(output.stdout).unwrap();
            assert_eq!(printed, format!("{value}|end|"), "{line:?}");
        }
    }

    #[test]
    fn comment_is_one_line() {
        assert!(!Line::comment("a\nid").as_str().contains('\n'));
    }
}
