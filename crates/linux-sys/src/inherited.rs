//! The socket that a service manager hands over by number.
//!
//! Source: `sd_listen_fds(3)`: descriptors start at 3 and belong to the process named in `LISTEN_PID`.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// `SD_LISTEN_FDS_START` of `sd_listen_fds(3)`.
pub const FIRST: RawFd = 3;

/// Takes descriptor 3, which the service manager passed to this process, and makes it close-on-exec.
///
/// To be called once, and only where `LISTEN_PID` and `LISTEN_FDS` say that the descriptor is there
/// for this process.
///
/// # Errors
///
/// `EBADF` if descriptor 3 is not open, or if it was taken before.
pub fn take_first() -> io::Result<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: F_SETFD reads and changes a flag of the descriptor table and no memory; for a number
    // that is not open it fails with EBADF.
    if unsafe { libc::fcntl(FIRST, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open (just checked). The manager's protocol gives it to this process
    // and the flag above to this caller alone, so nothing else in the process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(FIRST) })
}
