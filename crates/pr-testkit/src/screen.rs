// SPDX-License-Identifier: MIT OR Apache-2.0

//! The screens that output produces on a terminal.

/// A character and its select graphic rendition, for example `32` for green.
pub type Cell = (char, String);

/// The lines of a screen.
pub type Screen = Vec<Vec<Cell>>;

/// Returns the screens that `output` produces on a terminal with `columns` and `rows`: one before
/// each jump to the first line, and one at the end.
///
/// Panics if a line is longer than the terminal, or if a sequence is unknown.
pub fn screens(output: &str, columns: usize, rows: usize) -> Vec<Screen> {
    let mut screens = Vec::new();
    let mut screen: Screen = vec![Vec::new(); rows];
    let (mut row, mut column, mut style) = (0, 0, String::new());
    let mut rest = output.chars();
    while let Some(character) = rest.next() {
        match character {
            '\r' => column = 0,
            '\n' if row + 1 < rows => row += 1,
            '\n' => {
                screen.remove(0);
                screen.push(Vec::new());
            }
            '\x1b' => {
                assert_eq!(rest.next(), Some('['), "{:?}", rest.as_str());
                let end = rest.as_str().find(|one: char| one.is_ascii_alphabetic());
                let sequence: String = rest.by_ref().take(end.unwrap() + 1).collect();
                match sequence.as_str() {
                    "H" => {
                        screens.push(screen.clone());
                        (row, column) = (0, 0);
                    }
                    "K" => screen[row].truncate(column),
                    "J" => {
                        screen[row].truncate(column);
                        screen[row + 1..].fill(Vec::new());
                    }
                    "0m" => style.clear(),
                    other => {
                        let code = other.strip_suffix('m').unwrap_or_else(|| panic!("{other}"));
                        style = format!("{style} {code}").trim().to_owned();
                    }
                }
            }
            _ => {
                let line = &mut screen[row];
                assert!(column < columns, "longer than the terminal: {line:?}");
                line.resize(line.len().max(column + 1), (' ', String::new()));
                line[column] = (character, style.clone());
                column += 1;
            }
        }
    }
    screens.push(screen);
    screens
}

/// Returns the text of lines.
pub fn plain(lines: &[Vec<Cell>]) -> String {
    let lines = lines.iter().map(|line| {
        let line: String = line.iter().map(|(character, _)| character).collect();
        line.trim_end().to_owned() + "\n"
    });
    lines.collect()
}
