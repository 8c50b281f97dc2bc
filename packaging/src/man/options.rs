// SPDX-License-Identifier: MIT OR Apache-2.0

//! Converts the options of a command to roff.

use clap::{Arg, Command};

use super::roff::{bold, escape, flow, italic};

/// Returns the visible options and arguments. Options with a heading of their own come last.
pub(super) fn section(command: &Command) -> String {
    let visible = || {
        command
            .get_arguments()
            .filter(|argument| !argument.is_hide_set())
    };
    let mut headings: Vec<_> = visible().filter_map(Arg::get_help_heading).collect();
    headings.dedup();
    let entries = |heading: Option<&str>| -> String {
        let entries = visible().filter(|argument| argument.get_help_heading() == heading);
        entries.map(entry).collect()
    };
    let mut page = entries(None);
    for heading in headings {
        page += &format!(".SS {}\n{}", escape(heading), entries(Some(heading)));
    }
    page
}

fn entry(argument: &Arg) -> String {
    let help = argument.get_long_help().or_else(|| argument.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    // clap's own text about the two forms of help.
    let help = help.replace(" (see more with '--help')", "");
    let help = help.replace(" (see a summary with '-h')", "");
    let mut paragraphs = help.split("\n\n").map(flow);
    let mut help = paragraphs.next().unwrap_or_default();
    if let Some(default) = default(argument) {
        let default = format!(" [default: {}]\n", escape(&default));
        help.truncate(help.trim_end().len());
        help += &default;
    }
    for paragraph in paragraphs {
        help += ".IP\n";
        help += &paragraph;
    }
    format!(".TP\n{}\n{help}{}", name(argument), values(argument))
}

/// Returns `-k, --socket=PATH`, or the name of an argument.
fn name(argument: &Arg) -> String {
    let value = value(argument);
    if argument.is_positional() {
        return italic(&value);
    }
    let short = argument.get_short().map(|short| bold(&format!("-{short}")));
    let long = argument.get_long().map(|long| {
        let equals = if value.is_empty() { "" } else { "=" };
        bold(&format!("--{long}{equals}")) + &italic(&value)
    });
    let names: Vec<_> = short.into_iter().chain(long).collect();
    names.join(", ").replace("\\fI\\fR", "")
}

fn value(argument: &Arg) -> String {
    if !argument.is_positional() && !argument.get_action().takes_values() {
        return String::new();
    }
    let names = argument.get_value_names().unwrap_or_default();
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    names.join(" ")
}

/// Returns the default value of an option, unless the option takes no value.
fn default(argument: &Arg) -> Option<String> {
    let takes_values = argument.get_action().takes_values();
    let default = argument.get_default_values().first()?;
    (takes_values && !argument.is_hide_default_value_set())
        .then(|| default.to_string_lossy().into_owned())
}

/// Returns the possible values of an option with their help texts, unless the option hides them.
fn values(argument: &Arg) -> String {
    if argument.is_hide_possible_values_set() || !argument.get_action().takes_values() {
        return String::new();
    }
    let values = argument.get_possible_values();
    let values = values.iter().filter(|value| !value.is_hide_set());
    let entries: String = values
        .map(|value| {
            let help = value.get_help().map(ToString::to_string);
            let help = flow(&help.unwrap_or_default());
            format!(".TP\n{}\n{help}", bold(value.get_name()))
        })
        .collect();
    if entries.is_empty() {
        return entries;
    }
    format!(".RS\n{entries}.RE\n")
}
