// SPDX-License-Identifier: MIT OR Apache-2.0

//! Generates roff, the language of man pages.

use std::fmt::Write as _;

/// Escapes the characters that have a meaning in roff.
pub(super) fn escape(text: &str) -> String {
    let mut page = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => page.push_str("\\e"),
            // A plain `-` can be rendered as a hyphen, which does not work when it is pasted into a
            // shell.
            '-' => page.push_str("\\-"),
            '\'' => page.push_str("\\(aq"),
            '`' => page.push_str("\\(ga"),
            '~' => page.push_str("\\(ti"),
            '^' => page.push_str("\\(ha"),
            '.' if page.is_empty() => page.push_str("\\&."),
            character if character.is_ascii() => page.push(character),
            other => {
                let _ = write!(page, "\\[u{:04X}]", u32::from(other));
            }
        }
    }
    page
}

/// Returns bold text.
pub(super) fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", escape(text))
}

/// Returns italic text, for placeholders.
pub(super) fn italic(text: &str) -> String {
    format!("\\fI{}\\fR", escape(text))
}

/// Returns filled text.
pub(super) fn flow(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    escape(&words.join(" ")) + "\n"
}

/// Returns indented lines that are not filled.
pub(super) fn verbatim(lines: &[&str]) -> String {
    let indent = |line: &&str| line.len() - line.trim_start().len();
    let common = lines.iter().filter(|line| !line.is_empty()).map(indent);
    let common = common.min().unwrap_or(0);
    let lines = lines.iter().map(|line| line.get(common..).unwrap_or(""));
    let text: String = lines.map(|line| escape(line) + "\n").collect();
    format!(".RS 4\n.nf\n{text}.fi\n.RE\n")
}

/// Returns paragraphs, which are separated by blank lines. Indented lines are not filled.
pub(super) fn paragraphs(text: &str) -> String {
    let paragraphs = text.split("\n\n").filter(|text| !text.trim().is_empty());
    let pages: Vec<_> = paragraphs.map(paragraph).collect();
    pages.join(".PP\n")
}

fn paragraph(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    let mut page = String::new();
    for lines in lines.chunk_by(|one, next| one.starts_with(' ') == next.starts_with(' ')) {
        if lines.iter().all(|line| line.starts_with(' ')) {
            page += &verbatim(lines);
        } else {
            page += &flow(&lines.join("\n"));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_are_escaped() {
        assert_eq!(escape(".nf -k 'a' \\"), "\\&.nf \\-k \\(aqa\\(aq \\e");
        assert_eq!(escape("…"), "\\[u2026]");
    }

    #[test]
    fn columns_are_kept_and_sentences_filled() {
        let text = "Two\nlines.\n  a  1\n    b  2\n\nMore.";
        assert_eq!(
            paragraphs(text),
            "Two lines.\n.RS 4\n.nf\na  1\n  b  2\n.fi\n.RE\n.PP\nMore.\n"
        );
    }
}
