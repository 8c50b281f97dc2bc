// SPDX-License-Identifier: MIT OR Apache-2.0

//! Properties of a process, as `/proc` reports them.

use std::collections::HashSet;
use std::fs;

use rustix::process::Pid;

/// Returns the children of a process with one thread, or of the main thread of a process.
#[must_use]
pub fn children(process: Pid) -> Vec<Pid> {
    let process = process.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap();
    let children = children.split_whitespace();
    children
        .map(|child| Pid::from_raw(child.parse().unwrap()).unwrap())
        .collect()
}

/// Returns the only child of a process: the broker of a helper, or the helper of strace.
#[track_caller]
#[must_use]
pub fn only_child(process: Pid) -> Pid {
    match *children(process) {
        [child] => child,
        ref others => panic!("not one child: {others:?}"),
    }
}

/// Returns the children of a helper's broker that execute commands on multipath maps, or are about
/// to.
#[must_use]
pub fn workers(broker: Pid) -> Vec<Pid> {
    let mut children = children(broker);
    // A child can have exited.
    let is_resolver = |child: &Pid| {
        let comm = format!("/proc/{}/comm", child.as_raw_nonzero());
        fs::read_to_string(comm).is_ok_and(|comm| comm.trim() == "pr-names")
    };
    children.retain(|child| !is_resolver(child));
    children
}

/// Returns the value of a line of `/proc/PID/status`.
#[track_caller]
#[must_use]
pub fn status(process: Pid, name: &str) -> String {
    let process = process.as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let mut lines = status.lines().filter_map(|line| line.split_once(':'));
    let line = lines.find(|(key, _)| *key == name);
    line.unwrap().1.trim().to_owned()
}

/// Returns whether a process runs. A zombie does not.
#[must_use]
pub fn is_running(process: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero()));
    status.is_ok_and(|status| !status.contains("\nState:\tZ"))
}

/// Returns the numbers of the open descriptors of a process and the names of their files, in the
/// order of the numbers.
#[must_use]
pub fn open_files(process: Pid) -> Vec<(i32, String)> {
    let dir = fs::read_dir(format!("/proc/{}/fd", process.as_raw_nonzero())).unwrap();
    let files = dir.filter_map(|entry| {
        let entry = entry.unwrap();
        // The process can close a descriptor meanwhile.
        let link = fs::read_link(entry.path()).ok()?;
        let number = entry.file_name().to_str().unwrap().parse().unwrap();
        Some((number, link.to_string_lossy().into_owned()))
    });
    let mut files: Vec<_> = files.collect();
    files.sort();
    files
}

/// Returns the names of the files that a helper has open, sorted, without sockets of type
/// SEQPACKET: the helper resolves names over such sockets, at times that a client does not see.
#[must_use]
pub fn client_files(process: Pid) -> Vec<String> {
    let mut excluded = seqpacket_sockets();
    let files = open_files(process);
    // Also those that were created after the first call.
    excluded.extend(seqpacket_sockets());
    let names = files.into_iter().map(|(_, name)| name);
    let mut names: Vec<_> = names.filter(|name| !excluded.contains(name)).collect();
    names.sort();
    names
}

/// Returns the names of Unix sockets of type SEQPACKET, as in `/proc/PID/fd`.
fn seqpacket_sockets() -> HashSet<String> {
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    // Num RefCount Protocol Flags Type St Inode Path
    let names = sockets.lines().filter_map(|line| {
        let mut columns = line.split_ascii_whitespace().skip(4);
        let (kind, inode) = (columns.next()?, columns.nth(1)?);
        (kind == "0005").then(|| format!("socket:[{inode}]"))
    });
    names.collect()
}
