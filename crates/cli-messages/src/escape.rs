// SPDX-License-Identifier: MIT OR Apache-2.0

//! Control characters in external text.

use std::fmt::{self, Write as _};

/// Text that is displayed with its control characters escaped, so that it can neither begin another
/// line nor control a terminal.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<T>(pub T);

struct EscapingWriter<W>(W);

impl<T: fmt::Display> fmt::Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(EscapingWriter(f), "{}", self.0)
    }
}

impl<W: fmt::Write> fmt::Write for EscapingWriter<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Fast path for printable ASCII, which nearly every line is.
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return self.0.write_str(text);
        }
        let mut start = 0;
        for (index, character) in text.match_indices(is_control) {
            self.0
                .write_str(text.get(start..index).unwrap_or_default())?;
            write!(self.0, "{}", character.escape_default())?;
            start = index + character.len();
        }
        self.0.write_str(text.get(start..).unwrap_or_default())
    }
}

/// Returns whether a terminal or a viewer can interpret a character: control characters, line and
/// paragraph separators, and marks that change the writing direction.
fn is_control(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let forged = "unknown field `a\nqemu-pr-helper: \x1b[2J\u{9b}\u{202e}\0`é";
        let escaped = r"unknown field `a\nqemu-pr-helper: \u{1b}[2J\u{9b}\u{202e}\u{0}`é";
        assert_eq!(Escaped(forged).to_string(), escaped);
    }
}
