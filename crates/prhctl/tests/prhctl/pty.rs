// SPDX-License-Identifier: MIT OR Apache-2.0

//! Runs of prhctl on a pseudo-terminal, and the screens that its output produces there.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A program on a pseudo-terminal.
pub(crate) struct Pty {
    master: File,
    child: Child,
    output: Vec<u8>,
}

impl Pty {
    /// Starts `command` with standard input and standard output on a terminal of the given size.
    pub(crate) fn start(command: &mut Command, columns: u16, rows: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let terminal = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let child = command
            .stdin(terminal.try_clone().unwrap())
            .stdout(terminal)
            .spawn()
            .unwrap();
        // The command also holds the terminal open.
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Pty {
            master: master.into(),
            child,
            output: Vec::new(),
        }
    }

    pub(crate) const fn child(&self) -> &Child {
        &self.child
    }

    pub(crate) const fn master(&self) -> &File {
        &self.master
    }

    /// Reads until the output contains `text` `count` times.
    pub(crate) fn read_until(&mut self, text: &str, count: usize) {
        while String::from_utf8_lossy(&self.output).matches(text).count() < count {
            let mut buffer = [0; 4096];
            let length = self.master.read(&mut buffer).unwrap();
            self.output.extend(&buffer[..length]);
        }
    }

    pub(crate) fn press_enter(&mut self) {
        self.master.write_all(b"\n").unwrap();
    }

    /// Returns the exit status and all output.
    pub(crate) fn finish(mut self) -> (Option<i32>, String) {
        // The read fails when all writers have closed the terminal.
        let _ = self.master.read_to_end(&mut self.output);
        let status = self.child.wait().unwrap();
        (status.code(), String::from_utf8(self.output).unwrap())
    }
}

/// A character and its select graphic rendition, for example `32` for green.
pub(crate) type Cell = (char, String);

/// The lines of a screen.
pub(crate) type Screen = Vec<Vec<Cell>>;

/// Returns the screens that `output` produces on a terminal with `columns` and `rows`: one before
/// each jump to the first line, and one at the end.
///
/// Panics if a line is longer than the terminal, or if a sequence is unknown.
pub(crate) fn screens(output: &str, columns: usize, rows: usize) -> Vec<Screen> {
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
pub(crate) fn plain(lines: &[Vec<Cell>]) -> String {
    let lines = lines.iter().map(|line| {
        let line: String = line.iter().map(|(character, _)| character).collect();
        line.trim_end().to_owned() + "\n"
    });
    lines.collect()
}
