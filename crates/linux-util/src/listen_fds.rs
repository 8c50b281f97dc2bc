// SPDX-License-Identifier: MIT OR Apache-2.0

//! The socket that a service manager passes to a process by descriptor number.
//!
//! Source: `sd_listen_fds(3)`: descriptors start at 3, in the process that `LISTEN_PID` names.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// `SD_LISTEN_FDS_START` of `sd_listen_fds(3)`.
pub const LISTEN_FDS_START: RawFd = 3;

/// Duplicates descriptor 3, which the service manager passed. The duplicate is close-on-exec;
/// descriptor 3 itself stays unchanged.
///
/// # Errors
///
/// Returns `EBADF` if descriptor 3 is not open.
pub fn dup_listen_fd() -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC creates a new entry in the descriptor table and touches no memory. It
    // fails with EBADF if the number is not open.
    let new = unsafe { libc::fcntl(LISTEN_FDS_START, libc::F_DUPFD_CLOEXEC, LISTEN_FDS_START) };
    if new < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just created this descriptor for this call, so it has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}
