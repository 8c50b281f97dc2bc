// SPDX-License-Identifier: MIT OR Apache-2.0

//! Breaks text into lines between words.

use anstream::adapter::strip_str;

/// Minimum number of columns beside a label. If there is less room, further lines begin below it.
const MIN_ROOM: usize = 20;

/// Indentation of lines below a label, relative to the label.
const INDENT: usize = 2;

/// Returns `label` and then `text`, in lines of at most `width` columns. Further lines are indented
/// by the width of the label, or less on a narrow terminal. Styles occupy no columns.
///
/// A word that is longer than a line, such as a path, continues in the next line.
pub(crate) fn wrap(label: &str, text: &str, width: usize) -> String {
    let is_narrow = columns(label) > INDENT && width < columns(label) + MIN_ROOM;
    let (mut lines, indent) = match (is_narrow, label.trim_end()) {
        (false, _) => (label.to_owned(), columns(label)),
        (true, "") => (" ".repeat(INDENT), INDENT),
        (true, label) => {
            let blanks = label.len() - label.trim_start().len();
            (label.to_owned(), blanks + INDENT)
        }
    };
    let room = width.saturating_sub(indent).max(1);
    let mut used = columns(&lines).saturating_sub(indent);
    for word in text.split_whitespace() {
        for (index, piece) in pieces(word, room).into_iter().enumerate() {
            let is_new_word = index == 0 && used > 0;
            let needed = columns(piece) + usize::from(is_new_word);
            if used > 0 && used + needed > room {
                lines += &format!("\n{:indent$}{piece}", "");
                used = columns(piece);
            } else {
                lines += if is_new_word { " " } else { "" };
                lines += piece;
                used += needed;
            }
        }
    }
    lines + "\n"
}

/// Returns the number of columns of a text without line feeds.
pub(crate) fn columns(text: &str) -> usize {
    strip_str(text).to_string().chars().count()
}

/// Returns the parts of a word that fit into lines of `room` columns, if possible divided after a
/// slash.
fn pieces(word: &str, room: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = word;
    while columns(rest) > room
        && let Some((end, _)) = rest.char_indices().nth(room)
    {
        let (fitting, _) = rest.split_at(end);
        let end = fitting.rfind('/').map_or(end, |slash| slash + 1);
        let (piece, remaining) = rest.split_at(end);
        pieces.push(piece);
        rest = remaining;
    }
    pieces.push(rest);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::BOLD;

    #[test]
    fn lines_are_broken_between_words() {
        assert_eq!(wrap("a ", "bc def g", 6), "a bc\n  def\n  g\n");
        assert_eq!(wrap("a ", "bc def g", 7), "a bc\n  def g\n");
        assert_eq!(wrap("", "", 7), "\n");
        let styled = format!("{BOLD}bc de{BOLD:#} f");
        assert_eq!(wrap("", &styled, 5), format!("{BOLD}bc de{BOLD:#}\nf\n"));
    }

    #[test]
    fn narrow_terminal_has_text_below_label() {
        let narrow = wrap("    command  ", "bc defghij klmnopq r", 20);
        assert_eq!(narrow, "    command bc\n      defghij\n      klmnopq r\n");
        assert_eq!(wrap("      ", "bc def", 7), "  bc\n  def\n");
    }

    #[test]
    fn long_word_continues_in_next_line() {
        assert_eq!(wrap("x ", "in /ab/cd/ef", 8), "x in\n  /ab/\n  cd/ef\n");
        assert_eq!(wrap("", "abcdefg h", 3), "abc\ndef\ng h\n");
    }
}
