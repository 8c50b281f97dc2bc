// SPDX-License-Identifier: MIT OR Apache-2.0

//! Generates a page for each command of prhctl from its `--help`.

use clap::Command;

use super::roff::{bold, escape, flow, italic, paragraphs, verbatim};
use super::{Page, VERSION, equivalents, options};

/// Returns the pages of a command and its subcommands.
pub(super) fn pages(command: &Command, day: &str) -> Vec<Page> {
    let mut pages = Vec::new();
    add(command, "", day, &mut pages);
    pages
}

fn add(command: &Command, parent: &str, day: &str, pages: &mut Vec<Page>) {
    let name = match parent {
        "" => command.get_name().to_owned(),
        parent => format!("{parent}-{}", command.get_name()),
    };
    pages.push(Page {
        name: format!("{name}.1"),
        text: page(command, &name, parent, day),
    });
    for command in commands(command) {
        add(command, &name, day, pages);
    }
}

/// Returns the subcommands without clap's `help`.
fn commands(command: &Command) -> impl Iterator<Item = &Command> {
    let commands = command.get_subcommands();
    commands.filter(|command| command.get_name() != "help")
}

fn page(command: &Command, name: &str, parent: &str, day: &str) -> String {
    let about = command.get_about().map(ToString::to_string);
    let about = about.unwrap_or_default();
    let mut page = format!(
        ".TH {} 1 \"{}\" \"{}\" \"User Commands\"\n.SH NAME\n{} \\- {}",
        escape(&name.to_uppercase()),
        day,
        escape(VERSION),
        escape(name),
        flow(&lowercase_first(&about)),
    );
    page += &format!(".SH SYNOPSIS\n{}\n", synopsis(command));
    let description = command.get_long_about().map(ToString::to_string);
    page += ".SH DESCRIPTION\n";
    page += &paragraphs(&description.unwrap_or(about));
    let list: String = commands(command)
        .map(|command| {
            let page = format!("{name}-{}", command.get_name());
            let about = command.get_about().map(ToString::to_string);
            let about = flow(&about.unwrap_or_default());
            format!(".TP\n{}(1)\n{about}", bold(&page))
        })
        .collect();
    if !list.is_empty() {
        page += &format!(".SH COMMANDS\n{list}");
    }
    page += &format!(".SH OPTIONS\n{}", options::section(command));
    let after = command.get_after_long_help().map(ToString::to_string);
    // Refer to a page instead of a command.
    let after = after.unwrap_or_default();
    page += &sections(&after.replace("'prhctl --help' lists", "prhctl(1) lists"));
    if parent.is_empty() {
        page += &equivalents::section();
    }
    page += &see_also(name, parent);
    page
}

/// Returns `prhctl keys [OPTIONS] <DEVICE>` with literals in bold and the rest in italics.
fn synopsis(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage);
    let words = usage.split_whitespace().map(|word| {
        let name = word.trim_matches(|character| "[]<>.".contains(character));
        let Some((before, after)) = word.split_once(name) else {
            return escape(word);
        };
        let plain = |text: &str| escape(&text.replace(['<', '>'], ""));
        let is_literal = !before.contains(['<', '[']);
        let name = if is_literal { bold(name) } else { italic(name) };
        format!("{}{name}{}", plain(before), plain(after))
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Converts the text after the options of a help page. A line in capitals is a heading; a paragraph
/// that begins with "Exit status" becomes the section of that name.
fn sections(text: &str) -> String {
    let mut page = String::new();
    let mut is_open = false;
    for paragraph in text.split("\n\n").filter(|text| !text.trim().is_empty()) {
        let (first, rest) = paragraph.split_once('\n').unwrap_or((paragraph, ""));
        let columns: Vec<_> = rest.lines().collect();
        if let Some(statuses) = first.strip_prefix("EXIT STATUS, the same as for sg_persist") {
            let statuses = format!("The same as for sg_persist{statuses}");
            page += &format!(".SH EXIT STATUS\n{}{}", flow(&statuses), verbatim(&columns));
        } else if first == "EXAMPLES" {
            page += &format!(".SH EXAMPLES\n{}", verbatim(&columns));
        } else if let Some(statuses) = paragraph.strip_prefix("Exit status ") {
            page += &format!(".SH EXIT STATUS\n{}", flow(statuses));
        } else {
            page += if is_open {
                ".PP\n"
            } else {
                ".SH CONVENTIONS\n"
            };
            is_open = true;
            page += &paragraphs(paragraph);
        }
    }
    page
}

fn see_also(name: &str, parent: &str) -> String {
    let mut pages = vec!["prhctl(1)", "qemu-pr-helper(8)", "sg_persist(8)"];
    let parent = format!("{parent}(1)");
    if !pages.contains(&parent.as_str()) && parent != "(1)" {
        pages.insert(0, &parent);
    }
    pages.retain(|page| *page != format!("{name}(1)"));
    let pages: Vec<_> = pages
        .iter()
        .filter_map(|page| page.split_once('('))
        .map(|(name, section)| format!("{}({}", bold(name), escape(section)))
        .collect();
    format!(".SH SEE ALSO\n{}\n", pages.join(",\n"))
}

/// Changes the first letter to lower case, as in the NAME section.
fn lowercase_first(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}
