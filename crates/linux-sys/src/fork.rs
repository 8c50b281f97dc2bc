//! A second process, while there is one thread.

use std::fs;
use std::io;

use rustix::process::Pid;

/// Which side of a [`fork`] this is.
#[derive(Debug)]
pub enum Fork {
    /// The process that called, with the id of its new child.
    Parent(Pid),
    /// The new process.
    Child,
}

/// How many threads this process has.
///
/// # Errors
///
/// That `/proc` cannot be read.
pub fn threads() -> io::Result<usize> {
    let tasks = fs::read_dir("/proc/self/task").map_err(|error| {
        let hint = format!("cannot read /proc/self/task, is /proc mounted? {error}");
        io::Error::new(error.kind(), hint)
    })?;
    Ok(tasks.count())
}

/// Makes a copy of this process (fork(2)).
///
/// # Errors
///
/// The errno of fork(2), or `ErrorKind::Other` if there is more than one thread: the child would
/// have only the calling one, and every lock that another held would stay locked for good.
pub fn fork() -> io::Result<Fork> {
    let threads = threads()?;
    if threads != 1 {
        return Err(io::Error::other(format!(
            "cannot fork with {threads} threads"
        )));
    }
    // SAFETY: the danger of fork(2) is a child that inherits locks and half-done work of threads it
    // does not have. There is one thread, which is in this function, and so nobody who could have
    // started another since the check.
    match unsafe { libc::fork() } {
        0 => Ok(Fork::Child),
        -1 => Err(io::Error::last_os_error()),
        child => Pid::from_raw(child)
            .map(Fork::Parent)
            .ok_or_else(io::Error::last_os_error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn a_process_with_threads_is_not_forked() {
        let (end, wait) = mpsc::channel::<()>();
        let second = thread::spawn(move || wait.recv());
        let error = fork().unwrap_err();
        assert!(error.to_string().contains("threads"), "{error}");
        drop(end);
        second.join().unwrap().unwrap_err();
    }
}
