// SPDX-License-Identifier: MIT OR Apache-2.0

//! Processes in a directory that has the layout of procfs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// A process with one open socket.
#[derive(Clone, Copy, Debug)]
pub struct FakeProcess<'a> {
    /// The process ID.
    pub pid: u32,
    /// Contents of `comm`.
    pub name: &'a str,
    /// Target of `root`.
    pub root: &'a Path,
    /// Inode of the open socket.
    pub open: u64,
    /// The sockets of `net/unix`.
    pub sockets: &'a [FakeSocket<'a>],
}

/// A socket of `net/unix`.
#[derive(Clone, Copy, Debug)]
pub enum FakeSocket<'a> {
    /// A socket that listens: its inode and path.
    Listening(u64, &'a Path),
    /// A connection that was accepted: its inode and the path of the listening socket.
    Accepted(u64, &'a Path),
}

impl FakeProcess<'_> {
    /// Creates the directory of the process in `proc`.
    pub fn create(&self, proc: &Path) {
        let process = proc.join(self.pid.to_string());
        let files = process.join(format!("task/{}/fd", self.pid));
        fs::create_dir_all(&files).unwrap();
        symlink(format!("socket:[{}]", self.open), files.join("3")).unwrap();
        symlink(self.root, process.join("root")).unwrap();
        fs::write(process.join("comm"), format!("{}\n", self.name)).unwrap();
        fs::create_dir(process.join("net")).unwrap();
        let lines = self.sockets.iter().map(|socket| {
            let (flags, state, inode, path) = match socket {
                FakeSocket::Listening(inode, path) => ("00010000", "01", inode, path),
                FakeSocket::Accepted(inode, path) => ("00000000", "03", inode, path),
            };
            let path = path.display();
            format!("0000000000000000: 00000002 00000000 {flags} 0001 {state} {inode:5} {path}\n")
        });
        let header = "Num       RefCount Protocol Flags    Type St Inode Path\n";
        let table = header.to_owned() + &lines.collect::<String>();
        fs::write(process.join("net/unix"), table).unwrap();
    }
}
