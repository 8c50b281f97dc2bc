//! The socket that a service manager hands over by number.
//!
//! Source: `sd_listen_fds(3)`: descriptors start at 3, for the process that `LISTEN_PID` names.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// `SD_LISTEN_FDS_START` of `sd_listen_fds(3)`.
pub const LISTEN_FDS_START: RawFd = 3;

/// A descriptor of this process's own for what number 3, which the service manager passed, refers
/// to. It is close-on-exec. Number 3 itself is left as it is.
///
/// # Errors
///
/// `EBADF` if number 3 is not open.
pub fn dup_listen_fd() -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC makes a new entry of the descriptor table and touches no memory; for a
    // number that is not open it fails with EBADF.
    let new = unsafe { libc::fcntl(LISTEN_FDS_START, libc::F_DUPFD_CLOEXEC, LISTEN_FDS_START) };
    if new < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for this call; nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}
