// SPDX-License-Identifier: MIT OR Apache-2.0

//! Programs on a pseudo-terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A program on a pseudo-terminal.
pub struct Pty {
    master: File,
    child: Child,
    output: Vec<u8>,
}

impl Pty {
    /// Starts `command` with standard input and standard output on a terminal of the given size.
    pub fn start(command: &mut Command, columns: u16, rows: u16) -> Self {
        let (master, terminal) = open_pair(columns, rows);
        Self::spawn(command, master, terminal)
    }

    /// Like [`Self::start`], with standard error on the terminal too.
    pub fn start_with_stderr(command: &mut Command, columns: u16, rows: u16) -> Self {
        let (master, terminal) = open_pair(columns, rows);
        command.stderr(terminal.try_clone().unwrap());
        Self::spawn(command, master, terminal)
    }

    fn spawn(command: &mut Command, master: OwnedFd, terminal: OwnedFd) -> Self {
        let child = command
            .stdin(terminal.try_clone().unwrap())
            .stdout(terminal)
            .spawn()
            .unwrap();
        // The command also holds the terminal open.
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null());
        Pty {
            master: master.into(),
            child,
            output: Vec::new(),
        }
    }

    /// Returns the program.
    pub const fn child(&self) -> &Child {
        &self.child
    }

    /// Returns the other side of the terminal.
    pub const fn master(&self) -> &File {
        &self.master
    }

    /// Reads until the output contains `text` `count` times.
    pub fn read_until(&mut self, text: &str, count: usize) {
        while String::from_utf8_lossy(&self.output).matches(text).count() < count {
            let mut buffer = [0; 4096];
            let length = self.master.read(&mut buffer).unwrap();
            self.output.extend(&buffer[..length]);
        }
    }

    /// Types text.
    pub fn write(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Returns the exit status and all output.
    pub fn finish(mut self) -> (Option<i32>, String) {
        // The read fails when all writers have closed the terminal.
        let _ = self.master.read_to_end(&mut self.output);
        let status = self.child.wait().unwrap();
        (status.code(), String::from_utf8(self.output).unwrap())
    }
}

/// Opens a pseudo-terminal: the master and the terminal.
fn open_pair(columns: u16, rows: u16) -> (OwnedFd, OwnedFd) {
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
    (master, terminal)
}
