//! A second process, while there is one thread.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

/// The exit status of a child that has panicked where panics unwind.
const PANIC_STATUS: i32 = 101;

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

/// Runs `run` in a new process and ends that process with the status that `run` returns.
///
/// The new process keeps the standard streams and `keep`, and closes all other descriptors. It gets
/// a copy of `with`. Nothing of the caller's is run, dropped or flushed there.
///
/// # Errors
///
/// The errors of [`fork`].
pub fn spawn_isolated<T: Copy>(
    keep: &OwnedFd,
    with: T,
    run: fn(&OwnedFd, T) -> u8,
) -> io::Result<Pid> {
    match fork()? {
        Fork::Parent(child) => Ok(child),
        Fork::Child => {
            // Neither a return nor a panic may get into the caller's frames here.
            let status = catch_unwind(AssertUnwindSafe(|| {
                match close_fds_except(&[keep.as_raw_fd()]) {
                    Ok(()) => run(keep, with),
                    Err(_) => 1,
                }
            }));
            let status = status.map_or(PANIC_STATUS, i32::from);
            // SAFETY: _exit(2) ends the process, whatever it is doing. It runs no handlers, which
            // would be the caller's.
            unsafe { libc::_exit(status) }
        }
    }
}

/// Handle of a process that keeps descriptors open. Dropping it ends the process.
#[derive(Debug)]
pub struct Holder {
    process: Pid,
    /// The process reads from the other end, until this one is closed.
    release: OwnedFd,
}

impl Holder {
    /// Lets the process end, and returns its id. It is a child of the calling process.
    #[must_use]
    pub fn release(self) -> Pid {
        drop(self.release);
        self.process
    }
}

/// Forks a process that keeps copies of `descriptors` open until the returned handle is dropped,
/// and then ends.
///
/// Closing a descriptor can block, for example the close of a TCP socket that lingers. The kernel
/// does not wait for that in a process that ends. The caller closes its own copies before it drops
/// the handle, so that those of the ending process are the last ones.
///
/// # Errors
///
/// Returns the errors of [`fork`], and the errno of pipe(2).
pub fn hold(descriptors: &[OwnedFd]) -> io::Result<Holder> {
    let (wait, release) = pipe_with(PipeFlags::CLOEXEC)?;
    match fork()? {
        Fork::Parent(process) => Ok(Holder { process, release }),
        Fork::Child => {
            let kept = descriptors.iter().map(AsRawFd::as_raw_fd);
            let kept: Vec<_> = kept.chain([wait.as_raw_fd()]).collect();
            // The read ends when the caller drops the handle, which has the only other writing end.
            drop(release);
            // As in `apart`, the caller's frames must not be reached. If closing the other
            // descriptors fails, they are closed at the end.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                let _ = close_fds_except(&kept);
                while rustix::io::read(&wait, &mut [0; 1]) == Err(rustix::io::Errno::INTR) {}
            }));
            // SAFETY: _exit(2) ends the process, whatever it is doing. It runs no handlers, which
            // would be the caller's.
            unsafe { libc::_exit(0) }
        }
    }
}

/// Closes every descriptor but the standard streams and `keep`. Only in a new process whose values will
/// not be used any more, or dropped.
fn close_fds_except(keep: &[RawFd]) -> io::Result<()> {
    let mut open = Vec::new();
    let folder = fs::read_dir("/proc/self/fd")?;
    for entry in folder {
        let name = entry?.file_name();
        open.extend(name.to_str().and_then(|name| name.parse::<RawFd>().ok()));
    }
    // The folder itself is among them, and closed already.
    for number in open {
        if number > io::stderr().as_raw_fd() && !keep.contains(&number) {
            // SAFETY: close(2) touches no memory. The owners of the numbers are values of the
            // process that this one is a copy of. They are on the stack below, where `apart` does
            // not return to, or in the heap, out of reach of `run`, which is given the one that
            // stays open and plain data.
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
    fn a_process_with_threads_is_not_forked() {
        let (end, wait) = mpsc::channel::<()>();
        let second = thread::spawn(move || wait.recv());
        let error = fork().unwrap_err();
        assert!(error.to_string().contains("threads"), "{error}");
        drop(end);
        second.join().unwrap().unwrap_err();
    }
}
