// SPDX-License-Identifier: MIT OR Apache-2.0

//! Processes in procfs: their IDs, the Unix sockets that listen, and those that a process has open.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// `__SO_ACCEPTCON` of the kernel's `net.h`, in the flags of `/proc/net/unix`: the socket listens.
const SO_ACCEPTCON: u32 = 1 << 16;

/// A Unix socket that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListeningSocket<'a> {
    /// The inode of the socket, not of the file at `path`.
    pub inode: u64,
    /// The path as it was bound; with the prefix `@`, a name in the abstract namespace.
    pub path: &'a Path,
}

/// Returns the listening sockets with a name in the contents of `/proc/net/unix`.
pub fn listening_sockets(table: &[u8]) -> impl Iterator<Item = ListeningSocket<'_>> {
    table
        .split(|byte| *byte == b'\n')
        .filter_map(listening_socket)
}

fn listening_socket(line: &[u8]) -> Option<ListeningSocket<'_>> {
    // Address, reference count, protocol, flags, type, state, inode.
    let mut fields = [""; 7];
    let mut rest = line;
    for field in &mut fields {
        rest = rest.trim_ascii_start();
        let end = rest.iter().position(|byte| *byte == b' ')?;
        let (start, next) = rest.split_at(end);
        *field = str::from_utf8(start).ok()?;
        rest = next;
    }
    let [_, _, _, flags, _, _, inode] = fields;
    let is_listening = u32::from_str_radix(flags, 16).ok()? & SO_ACCEPTCON != 0;
    // The path can begin with a blank.
    let path = Path::new(OsStr::from_bytes(rest.strip_prefix(b" ")?));
    let inode = inode.parse().ok()?;
    is_listening.then_some(ListeningSocket { inode, path })
}

/// Returns the inodes of the sockets that `process`, a directory of procfs, has open; `None`
/// without the permission to read them. A main thread that has exited has no files, so all threads
/// are searched.
#[must_use]
pub fn open_sockets(process: &Path) -> Option<BTreeSet<u64>> {
    let mut inodes = BTreeSet::new();
    for thread in entries(&process.join("task"))? {
        let files = entries(&thread.join("fd"))?.into_iter();
        inodes.extend(files.filter_map(|file| {
            let link = fs::read_link(file).ok()?;
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            inode.parse::<u64>().ok()
        }));
    }
    Some(inodes)
}

/// Returns the value of a line of `status` in `process`, a directory of procfs, such as `PPid`.
#[must_use]
pub fn status_value(process: &Path, name: &str) -> Option<String> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let values = status.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = values.into_iter().find(|(found, _)| *found == name)?;
    Some(value.trim().to_owned())
}

/// Returns the process ID of `process`, a directory of procfs, in its own PID namespace.
#[must_use]
pub fn namespace_pid(process: &Path) -> Option<u32> {
    let pids = status_value(process, "NSpid")?;
    pids.split_ascii_whitespace().next_back()?.parse().ok()
}

/// Returns the entries of a directory of procfs, which are none if the process or thread has exited
/// meanwhile; `None` without the permission to read them.
fn entries(dir: &Path) -> Option<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(entries) => Some(entries.flatten().map(|entry| entry.path()).collect()),
        Err(error) if is_gone(&error) => Some(Vec::new()),
        Err(_) => None,
    }
}

/// Returns whether a file of procfs cannot be read because its process or thread has exited.
#[must_use]
pub fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn named_listeners_are_found() {
        let table = b"Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 41837 /run/a b\n\
            0000000000000000: 00000002 00000000 00010000 0001 01   837  /run/c\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 41838 /run/accepted\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 41839\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 41840 @abstract\n";
        let found: Vec<_> = listening_sockets(table)
            .map(|socket| (socket.inode, socket.path.to_str().unwrap()))
            .collect();
        let expected = [(41837, "/run/a b"), (837, " /run/c"), (41840, "@abstract")];
        assert_eq!(found, expected);
    }

    #[test]
    fn open_socket_is_found_until_it_is_closed() {
        let this_process = Path::new("/proc/self");
        let (socket, _peer) = UnixStream::pair().unwrap();
        let file = format!("/proc/self/fd/{}", socket.as_raw_fd());
        let inode = fs::metadata(file).unwrap().ino();
        assert!(open_sockets(this_process).unwrap().contains(&inode));
        drop(socket);
        assert!(!open_sockets(this_process).unwrap().contains(&inode));
    }

    #[test]
    fn process_ids_are_those_of_the_process() {
        let this_process = Path::new("/proc/self");
        assert_eq!(namespace_pid(this_process), Some(std::process::id()));
        let parent = status_value(this_process, "PPid").unwrap();
        assert_eq!(parent, std::os::unix::process::parent_id().to_string());
        assert_eq!(status_value(this_process, "Pid "), None);
        assert_eq!(namespace_pid(Path::new("/proc/0")), None);
    }

    #[test]
    fn exited_process_has_no_sockets() {
        assert_eq!(open_sockets(Path::new("/proc/0")), Some(BTreeSet::new()));
    }
}
