// SPDX-License-Identifier: MIT OR Apache-2.0

//! Forking a process with a single thread.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

/// Exit status of a child that panicked, in builds in which panics unwind.
const PANIC_STATUS: i32 = 101;

/// The side of a [`fork`] on which the code runs.
#[derive(Debug)]
pub enum Fork {
    /// The calling process, with the process id of its new child.
    Parent(Pid),
    /// The new process.
    Child,
}

/// Returns the number of threads of this process.
///
/// # Errors
///
/// Returns the error of reading `/proc/self/task`.
pub fn thread_count() -> io::Result<usize> {
    let tasks = fs::read_dir("/proc/self/task").map_err(|error| {
        let hint = format!("cannot read /proc/self/task, is /proc mounted? {error}");
        io::Error::new(error.kind(), hint)
    })?;
    Ok(tasks.count())
}

/// Creates a copy of this process (fork(2)).
///
/// # Errors
///
/// * `ErrorKind::Other` if this process has more than one thread. The child would have only the
///   calling thread, and a lock that another thread held would stay locked forever.
/// * The errno of fork(2).
pub fn fork() -> io::Result<Fork> {
    let threads = thread_count()?;
    if threads != 1 {
        let message = format!("cannot fork with {threads} threads");
        return Err(io::Error::other(message));
    }
    // SAFETY: fork(2) is dangerous because the child inherits locks and half-done work of threads
    // that it does not have. This process has one thread. That thread runs this function, so no
    // other thread can have been started since the check.
    match unsafe { libc::fork() } {
        0 => Ok(Fork::Child),
        -1 => Err(io::Error::last_os_error()),
        child => Pid::from_raw(child)
            .map(Fork::Parent)
            .ok_or_else(io::Error::last_os_error),
    }
}

/// Calls `run` in a new process, and ends that process with the status that `run` returns.
///
/// The new process keeps the standard streams and `keep`, closes all other descriptors, and gets a
/// copy of `arg`. It runs, drops and flushes nothing that belongs to the caller.
///
/// # Errors
///
/// Returns the errors of [`fork`].
pub fn spawn_isolated<T: Copy>(
    keep: &OwnedFd,
    arg: T,
    run: fn(&OwnedFd, T) -> u8,
) -> io::Result<Pid> {
    match fork()? {
        Fork::Parent(child) => Ok(child),
        Fork::Child => {
            run_and_exit(|| close_fds_except(&[keep.as_raw_fd()]).map_or(1, |()| run(keep, arg)))
        }
    }
}

/// Handle of a process that keeps descriptors open. Dropping the handle ends the process.
#[derive(Debug)]
pub struct FdHolder {
    process: Pid,
    /// Write end of a pipe. The process exits when this end is closed.
    release: OwnedFd,
}

impl FdHolder {
    /// Lets the process exit, and returns its id. It is a child of the calling process.
    #[must_use]
    pub fn release(self) -> Pid {
        drop(self.release);
        self.process
    }
}

/// Forks a process that keeps copies of `descriptors` open until the returned handle is dropped,
/// and then exits.
///
/// Closing a descriptor can block, for example the close of a TCP socket that lingers. The kernel
/// does not wait for such a close in a process that exits. The caller must close its own copies
/// before it drops the handle, so that the exiting process has the last copies.
///
/// # Errors
///
/// Returns the errors of [`fork`], or the errno of pipe(2).
pub fn spawn_fd_holder(descriptors: &[OwnedFd]) -> io::Result<FdHolder> {
    let (wait, release) = pipe_with(PipeFlags::CLOEXEC)?;
    match fork()? {
        Fork::Parent(process) => Ok(FdHolder { process, release }),
        Fork::Child => {
            let kept = descriptors.iter().map(AsRawFd::as_raw_fd);
            let kept: Vec<_> = kept.chain([wait.as_raw_fd()]).collect();
            // The read returns when the caller drops the handle, which has the only other write
            // end.
            drop(release);
            run_and_exit(|| {
                // If closing the other descriptors fails, the exit closes them.
                let _ = close_fds_except(&kept);
                while rustix::io::read(&wait, &mut [0; 1]) == Err(rustix::io::Errno::INTR) {}
                0
            })
        }
    }
}

/// Calls `run` and ends this process with the status that it returns, or with [`PANIC_STATUS`].
///
/// A new process must not return or unwind into the frames that it copied from its parent.
fn run_and_exit(run: impl FnOnce() -> u8) -> ! {
    let status = catch_unwind(AssertUnwindSafe(run)).map_or(PANIC_STATUS, i32::from);
    // SAFETY: _exit(2) ends the process whatever state it is in. It runs no exit handlers, which
    // would be those of the parent.
    unsafe { libc::_exit(status) }
}

/// Closes every descriptor except the standard streams and `keep`. Must only be called in a new
/// process that neither uses nor drops the values of its parent anymore.
fn close_fds_except(keep: &[RawFd]) -> io::Result<()> {
    let mut open = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        open.extend(name.to_str().and_then(|name| name.parse::<RawFd>().ok()));
    }
    // The list contains the descriptor of the directory itself, which is closed already.
    for number in open {
        if number > io::stderr().as_raw_fd() && !keep.contains(&number) {
            // SAFETY: close(2) touches no memory. The owners of the descriptors are values copied
            // from the parent process. They are on the stack below, to which `run_and_exit` never
            // returns, or on the heap, out of reach of the code that this process runs: it gets
            // only the descriptors that stay open, and plain data.
            unsafe { libc::close(number) };
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn fork_with_two_threads_fails() {
        let (_end, wait) = mpsc::channel::<()>();
        thread::spawn(move || wait.recv());
        let error = fork().unwrap_err();
        assert!(error.to_string().contains("threads"), "{error}");
    }
}
