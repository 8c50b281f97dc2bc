// SPDX-License-Identifier: MIT OR Apache-2.0

//! The state of another process: alive, gone, or killed and unable to exit.
//!
//! A killed process cannot exit while one of its threads is stuck in the kernel. Its main thread is
//! a zombie already, but the process keeps its files open: its listening socket accepts connections
//! into the backlog, and its file locks are held. A device that does not answer can keep a helper
//! in this state for hours, and another helper must be able to start meanwhile.

use std::fs;
use std::io;
use std::path::Path;

use linux_util::procfs::{is_gone, listening_sockets, open_sockets};

/// The bit of SIGKILL in the masks of `/proc/PID/status`.
const SIGKILL_BIT: u64 = 1 << 8;

/// `PF_EXITING` of the kernel's `sched.h`, in the flags of `/proc/PID/stat`.
const PF_EXITING: u64 = 0x4;

/// State of a process that holds a socket or a lock, or of a thread. The state of a process is the
/// highest one of its threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ProcessState {
    /// No thread is left, so the process holds nothing. Another process can have inherited the
    /// socket.
    Gone,
    /// Every thread has exited or is exiting, and at least one has not exited yet.
    Exiting,
    /// The process runs or can run, or is not visible from here.
    Alive,
}

/// Returns the state of process `pid` from the procfs that is mounted at `proc`.
pub(crate) fn process_state(proc: &Path, pid: i32) -> ProcessState {
    // 0: the process is in another PID namespace. -1: the lock belongs to no process.
    if pid <= 0 {
        return ProcessState::Alive;
    }
    let threads = match fs::read_dir(proc.join(pid.to_string()).join("task")) {
        Ok(threads) => threads,
        // With the mount option hidepid=, a process of another user is not found either.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return ProcessState::Gone,
        Err(_) => return ProcessState::Alive,
    };
    let states = threads.map(|thread| match thread {
        Ok(thread) => thread_state(&thread.path()),
        Err(_) => ProcessState::Alive,
    });
    states.max().unwrap_or(ProcessState::Gone)
}

/// Returns the process that listens on the socket at `path`, if it is
/// [exiting](ProcessState::Exiting) and no other process has the socket open.
///
/// This function searches all processes. It is for a socket with a full backlog, on which no
/// connection can be made that would identify the process. Returns `None` if this process lacks the
/// permission to read the descriptors of a process.
pub(crate) fn exiting_listener(proc: &Path, path: &Path) -> Option<i32> {
    let sockets = fs::read(proc.join("net/unix")).ok()?;
    let listeners: Vec<_> = listening_sockets(&sockets)
        .filter(|socket| socket.path == path)
        .map(|socket| socket.inode)
        .collect();
    let mut found = None;
    for process in fs::read_dir(proc).ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let open = open_sockets(&process.path())?;
        if listeners.iter().all(|inode| !open.contains(inode)) {
            continue;
        }
        match process_state(proc, pid) {
            ProcessState::Exiting => found = Some(pid),
            ProcessState::Alive | ProcessState::Gone => return None,
        }
    }
    found
}

/// Returns the state of a thread from its directory in procfs.
fn thread_state(dir: &Path) -> ProcessState {
    let status = match fs::read_to_string(dir.join("status")) {
        Ok(status) => status,
        // The thread has exited meanwhile.
        Err(error) if is_gone(&error) => return ProcessState::Gone,
        Err(_) => return ProcessState::Alive,
    };
    let field = |name: &str| {
        let mut lines = status.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    match field("State").map(|state| state.trim_start().as_bytes()) {
        Some([b'Z' | b'X', ..]) => return ProcessState::Gone,
        Some(_) => {}
        None => return ProcessState::Alive,
    }
    let is_killed = ["SigPnd", "ShdPnd"].into_iter().any(|name| {
        let mask = field(name).and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask & SIGKILL_BIT != 0)
    });
    // SIGKILL is no longer pending in a thread that has received it and closes its files.
    match is_killed || is_exiting(dir) {
        true => ProcessState::Exiting,
        false => ProcessState::Alive,
    }
}

/// Returns whether the kernel is ending the thread.
fn is_exiting(dir: &Path) -> bool {
    let stat = fs::read_to_string(dir.join("stat")).unwrap_or_default();
    // The name, in parentheses, can contain any character. The flags are the seventh field after
    // it.
    let flags = stat
        .rsplit_once(')')
        .and_then(|(_, fields)| fields.split_ascii_whitespace().nth(6)?.parse().ok());
    flags.is_some_and(|flags: u64| flags & PF_EXITING != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    const SLEEPING: (&str, &str) = ("S (sleeping)", "0");
    const ZOMBIE: (&str, &str) = ("Z (zombie)", "0");
    const BLOCKED: (&str, &str) = ("D (disk sleep)", "0");
    const KILLED: (&str, &str) = ("D (disk sleep)", "0000000000000100");

    /// Returns the state of a process with threads of these states and pending signals.
    fn state_with(threads: &[(&str, &str)], flags: u64) -> ProcessState {
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
        process_state(proc.path(), 7)
    }

    #[test]
    fn killed_process_is_exiting() {
        assert_eq!(state_with(&[ZOMBIE, KILLED], 0), ProcessState::Exiting);
        assert_eq!(state_with(&[KILLED], 0), ProcessState::Exiting);
        assert_eq!(
            state_with(&[ZOMBIE, BLOCKED], PF_EXITING),
            ProcessState::Exiting
        );
    }

    #[test]
    fn process_with_a_running_thread_is_alive() {
        assert_eq!(state_with(&[SLEEPING, SLEEPING], 0), ProcessState::Alive);
        // Only the main thread has exited.
        assert_eq!(state_with(&[ZOMBIE, SLEEPING], 0), ProcessState::Alive);
        assert_eq!(state_with(&[BLOCKED], 0), ProcessState::Alive);
        // SIGTERM, which the process can handle.
        let terminated = ("S (sleeping)", "0000000000004000");
        assert_eq!(state_with(&[terminated], 0), ProcessState::Alive);
    }

    #[test]
    fn exited_process_is_gone() {
        assert_eq!(state_with(&[ZOMBIE], PF_EXITING), ProcessState::Gone);
        assert_eq!(state_with(&[], 0), ProcessState::Gone);
    }

    #[test]
    fn process_of_another_namespace_is_alive() {
        assert_eq!(process_state(Path::new("/proc"), 0), ProcessState::Alive);
        assert_eq!(process_state(Path::new("/proc"), -1), ProcessState::Alive);
    }

    #[test]
    fn running_listener_is_not_exiting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let _listener = UnixListener::bind(&path).unwrap();
        assert_eq!(exiting_listener(Path::new("/proc"), &path), None);
    }

    #[test]
    fn this_process_is_alive() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert_eq!(process_state(Path::new("/proc"), pid), ProcessState::Alive);
    }
}
