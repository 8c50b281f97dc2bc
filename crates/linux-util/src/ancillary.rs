// SPDX-License-Identifier: MIT OR Apache-2.0

//! Socket options that make the kernel add control messages to received data.

use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsFd, AsRawFd as _};

/// `SO_PASSPIDFD` (`include/uapi/asm-generic/socket.h`), since Linux 6.5.
const SO_PASSPIDFD: libc::c_int = 76;

/// Turns off the control messages with credentials, security labels and process descriptors on a
/// Unix socket. Accepted connections inherit these options from their listening socket.
///
/// A kernel that does not know one of the options does not send its messages either.
///
/// # Errors
///
/// Returns the errno of setsockopt(2), except `ENOPROTOOPT`.
pub fn disable_ancillary_messages(socket: impl AsFd) -> io::Result<()> {
    for option in [libc::SO_PASSCRED, libc::SO_PASSSEC, SO_PASSPIDFD] {
        let off: libc::c_int = 0;
        // SAFETY: the kernel reads from the address as many bytes as the length says, which is the
        // size of the value there, and does not retain the pointer. The borrow keeps the descriptor
        // open.
        let result = unsafe {
            libc::setsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const off).cast(),
                libc::socklen_t::try_from(size_of_val(&off)).unwrap_or(4),
            )
        };
        let error = io::Error::last_os_error();
        if result != 0 && error.raw_os_error() != Some(libc::ENOPROTOOPT) {
            return Err(error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::sockopt::{set_socket_passcred, socket_passcred};
    use std::os::unix::net::UnixStream;

    #[test]
    fn credentials_are_turned_off() {
        let (socket, _peer) = UnixStream::pair().unwrap();
        set_socket_passcred(&socket, true).unwrap();
        disable_ancillary_messages(&socket).unwrap();
        assert!(!socket_passcred(&socket).unwrap());
    }
}
