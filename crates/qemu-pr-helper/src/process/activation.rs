//! systemd socket activation, by the rules of QEMU's helper: one socket, and only if it is for us.

use std::env;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketType, sockopt};
use thiserror::Error;

/// Why a socket that a service manager passed cannot be used.
#[derive(Debug, Error)]
pub enum ActivationError {
    /// There is more than one, or an absurd number.
    #[error("LISTEN_FDS is {0}, one socket is supported: use one ListenStream= line")]
    Several(i64),
    /// The descriptor is not open.
    #[error(
        "invalid file descriptor fd = {}",
        linux_util::listen_fds::LISTEN_FDS_START
    )]
    NotOpen(#[source] std::io::Error),
    /// It is not a listening Unix stream socket.
    #[error(
        "file descriptor {} is not a listening Unix stream socket",
        linux_util::listen_fds::LISTEN_FDS_START
    )]
    NotListening,
}

/// The socket that a service manager has passed to this process, if it has.
///
/// Variables that are malformed or name another process are as good as none.
///
/// # Errors
///
/// Why it cannot be used.
pub fn take() -> Result<Option<OwnedFd>, ActivationError> {
    match passed() {
        0 => return Ok(None),
        1 => {}
        several => return Err(ActivationError::Several(several)),
    }
    let socket = linux_util::listen_fds::dup_listen_fd().map_err(ActivationError::NotOpen)?;
    let is_listening = sockopt::socket_domain(&socket) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(&socket) == Ok(SocketType::STREAM)
        && sockopt::socket_acceptconn(&socket) == Ok(true);
    if is_listening {
        Ok(Some(socket))
    } else {
        Err(ActivationError::NotListening)
    }
}

/// How many sockets were passed; a number that is none, such as -1, is for [`take`] to refuse.
fn passed() -> i64 {
    let number = |name| {
        env::var(name)
            .ok()
            .and_then(|value| value.trim_start().parse::<i64>().ok())
    };
    let is_for_us = number("LISTEN_PID") == Some(std::process::id().into());
    if is_for_us {
        number("LISTEN_FDS").unwrap_or(0)
    } else {
        0
    }
}
