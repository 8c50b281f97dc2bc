//! Processes that were killed and cannot end, because a thread is stuck in the kernel.
//!
//! The main thread of such a process is a zombie already, but the process keeps its files open: its
//! listening socket accepts connections into the backlog, and its file locks are held. A device that
//! does not answer can keep a helper in this state for hours, and its successor must be able to start.

use std::fs::{self, ReadDir};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The bit of SIGKILL in the masks of `/proc/PID/status`.
const SIGKILL_BIT: u64 = 1 << 8;

/// `__SO_ACCEPTCON` of the kernel's `net.h`, in the flags of `/proc/net/unix`: the socket listens.
const LISTENS: u32 = 1 << 16;

/// `PF_EXITING` of the kernel's `sched.h`, in the flags of `/proc/PID/stat`.
const PF_EXITING: u64 = 0x4;

/// State of a process that was found to hold a socket or a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// The process runs or may run, or cannot be seen from here.
    Alive,
    /// Every thread has ended or is about to, and at least one has not ended yet.
    Exiting,
    /// No thread is left, so the process holds nothing any more. A process that has inherited the
    /// socket may hold it.
    Gone,
}

/// Returns the state of the process `pid` by `proc`, where procfs is mounted.
pub(crate) fn holder(proc: &Path, pid: i32) -> Holder {
    // 0: the process is in another PID namespace. -1: the lock belongs to no process.
    if pid <= 0 {
        return Holder::Alive;
    }
    let threads = match fs::read_dir(proc.join(pid.to_string()).join("task")) {
        Ok(threads) => threads,
        // With hidepid= a process of another user looks like this too.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Holder::Gone,
        Err(_) => return Holder::Alive,
    };
    let mut state = Holder::Gone;
    for thread in threads {
        let Ok(thread) = thread else {
            return Holder::Alive;
        };
        match thread_state(&thread.path()) {
            Holder::Gone => {}
            Holder::Exiting => state = Holder::Exiting,
            Holder::Alive => return Holder::Alive,
        }
    }
    state
}

/// Returns the process that has the socket at `path` open and listens, if it is [exiting](Holder::Exiting)
/// and no other process has the socket open.
///
/// This looks at every process, and is for a socket whose backlog is full: a connection would tell which
/// process listens. Returns `None` if there is a process whose descriptors cannot be seen from here.
pub(crate) fn exiting_listener(proc: &Path, path: &Path) -> Option<i32> {
    let sockets = fs::read(proc.join("net/unix")).ok()?;
    let lines = sockets.split(|byte| *byte == b'\n');
    let inodes = lines.filter_map(|line| listener_inode(line, path));
    let links: Vec<_> = inodes
        .map(|inode| PathBuf::from(format!("socket:[{inode}]")))
        .collect();
    let mut found = None;
    for process in fs::read_dir(proc).ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if !has_open(&process.path(), &links)? {
            continue;
        }
        match holder(proc, pid) {
            Holder::Exiting => found = Some(pid),
            Holder::Alive | Holder::Gone => return None,
        }
    }
    found
}

/// Returns the inode of a socket that listens at `path`, by a line of `/proc/net/unix`.
fn listener_inode(line: &[u8], path: &Path) -> Option<u64> {
    let fields = line.strip_suffix(path.as_os_str().as_bytes())?;
    let fields: Vec<_> = str::from_utf8(fields).ok()?.split(' ').collect();
    let fields: Vec<_> = fields
        .into_iter()
        .filter(|field| !field.is_empty())
        .collect();
    let [
        _address,
        _references,
        _protocol,
        flags,
        _kind,
        _state,
        inode,
    ] = fields.as_slice()
    else {
        return None;
    };
    let flags = u32::from_str_radix(flags, 16).ok()?;
    (flags & LISTENS != 0).then(|| inode.parse().ok())?
}

/// Returns whether a process has a file open to which one of `links` leads; `None` if this process may
/// not look. A main thread that has ended has no files, so all threads are looked at.
fn has_open(process: &Path, links: &[PathBuf]) -> Option<bool> {
    for thread in entries(&process.join("task"))?.flatten() {
        for file in entries(&thread.path().join("fd"))?.flatten() {
            if fs::read_link(file.path()).is_ok_and(|link| links.contains(&link)) {
                return Some(true);
            }
        }
    }
    Some(false)
}

/// Returns the entries of a directory of procfs, none if it has ended meanwhile; `None` if this process
/// may not look.
fn entries(dir: &Path) -> Option<impl Iterator<Item = io::Result<fs::DirEntry>>> {
    match fs::read_dir(dir) {
        Ok(entries) => Some(Some(entries).into_iter().flatten()),
        Err(error) if is_missing(&error) => Some(None::<ReadDir>.into_iter().flatten()),
        Err(_) => None,
    }
}

/// Returns the state of one thread, by its directory in procfs.
fn thread_state(dir: &Path) -> Holder {
    let status = match fs::read_to_string(dir.join("status")) {
        Ok(status) => status,
        // The thread has ended meanwhile.
        Err(error) if is_missing(&error) => return Holder::Gone,
        Err(_) => return Holder::Alive,
    };
    let field = |name: &str| {
        let mut lines = status.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    match field("State").map(|state| state.trim_start().as_bytes()) {
        Some([b'Z' | b'X', ..]) => return Holder::Gone,
        Some(_) => {}
        None => return Holder::Alive,
    }
    let is_killed = ["SigPnd", "ShdPnd"].into_iter().any(|name| {
        let mask = field(name).and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask & SIGKILL_BIT != 0)
    });
    // A thread that has taken its SIGKILL and closes its files has the signal pending no longer.
    match is_killed || is_exiting(dir) {
        true => Holder::Exiting,
        false => Holder::Alive,
    }
}

/// Returns whether the kernel is ending the thread.
fn is_exiting(dir: &Path) -> bool {
    let stat = fs::read_to_string(dir.join("stat")).unwrap_or_default();
    // The name, in parentheses, may have any character in it. Five fields stand before the flags.
    let flags = stat
        .rsplit_once(')')
        .and_then(|(_, fields)| fields.split_ascii_whitespace().nth(6)?.parse().ok());
    flags.is_some_and(|flags: u64| flags & PF_EXITING != 0)
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    const RUNS: (&str, &str) = ("S (sleeping)", "0");
    const ZOMBIE: (&str, &str) = ("Z (zombie)", "0");
    const STUCK: (&str, &str) = ("D (disk sleep)", "0");
    const KILLED: (&str, &str) = ("D (disk sleep)", "0000000000000100");

    /// Returns the state of a process whose threads have these states and pending signals.
    fn holder_with(threads: &[(&str, &str)], flags: u64) -> Holder {
        let proc = tempfile::tempdir().unwrap();
        for (thread, (state, pending)) in (7..).zip(threads) {
            let dir = proc.path().join(format!("7/task/{thread}"));
            fs::create_dir_all(&dir).unwrap();
            let status = format!(
                "Name:\tState:\tZ\nState:\t{state}\nSigPnd:\t{pending}\nShdPnd:\t0000000000000000\n"
            );
            fs::write(dir.join("status"), status).unwrap();
            let stat = format!("{thread} (a) 4 (b) S 1 7 7 0 -1 {flags} 0 0\n");
            fs::write(dir.join("stat"), stat).unwrap();
        }
        holder(proc.path(), 7)
    }

    #[test]
    fn killed_process_is_exiting() {
        assert_eq!(holder_with(&[ZOMBIE, KILLED], 0), Holder::Exiting);
        assert_eq!(holder_with(&[KILLED], 0), Holder::Exiting);
        assert_eq!(holder_with(&[ZOMBIE, STUCK], PF_EXITING), Holder::Exiting);
    }

    #[test]
    fn process_with_a_thread_is_alive() {
        assert_eq!(holder_with(&[RUNS, RUNS], 0), Holder::Alive);
        // The main thread has ended alone.
        assert_eq!(holder_with(&[ZOMBIE, RUNS], 0), Holder::Alive);
        assert_eq!(holder_with(&[STUCK], 0), Holder::Alive);
        // SIGTERM, which the process may handle.
        let terminated = ("S (sleeping)", "0000000000004000");
        assert_eq!(holder_with(&[terminated], 0), Holder::Alive);
    }

    #[test]
    fn ended_process_is_gone() {
        assert_eq!(holder_with(&[ZOMBIE], PF_EXITING), Holder::Gone);
        assert_eq!(holder_with(&[], 0), Holder::Gone);
    }

    #[test]
    fn process_of_another_namespace_is_alive() {
        assert_eq!(holder(Path::new("/proc"), 0), Holder::Alive);
        assert_eq!(holder(Path::new("/proc"), -1), Holder::Alive);
    }

    #[test]
    fn listener_is_found_by_its_path() {
        let line = b"0000000000000000: 00000002 00000000 00010000 0001 01 41837 /run/a b";
        assert_eq!(listener_inode(line, Path::new("/run/a b")), Some(41837));
        assert_eq!(listener_inode(line, Path::new("b")), None);
        // A connection that was accepted has the same path.
        let line = b"0000000000000000: 00000003 00000000 00000000 0001 03 41838 /run/a";
        assert_eq!(listener_inode(line, Path::new("/run/a")), None);
    }

    #[test]
    fn listener_that_runs_is_not_exiting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let _listener = UnixListener::bind(&path).unwrap();
        assert_eq!(exiting_listener(Path::new("/proc"), &path), None);
    }

    #[test]
    fn this_process_is_alive() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert_eq!(holder(Path::new("/proc"), pid), Holder::Alive);
    }
}
