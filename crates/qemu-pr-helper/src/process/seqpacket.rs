// SPDX-License-Identifier: MIT OR Apache-2.0

//! Pairs of `SOCK_SEQPACKET` sockets between processes of the helper, which keep messages apart.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};

/// Creates a pair of connected sockets.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    Ok(socketpair(AddressFamily::UNIX, kind, flags, None)?)
}

/// Sends a message without waiting for room in the queue.
pub(crate) fn try_send(socket: impl AsFd, message: &[u8]) -> io::Result<()> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    send(socket, message, flags)?;
    Ok(())
}

/// Waits until a message has arrived or the peer has closed its end. Returns false after `timeout`.
pub(crate) fn wait_readable(socket: impl AsFd, timeout: Duration) -> io::Result<bool> {
    let end = Instant::now().checked_add(timeout);
    loop {
        let left = end.map_or(Duration::MAX, |end| {
            end.saturating_duration_since(Instant::now())
        });
        let left = Timespec::try_from(left).ok();
        match poll(&mut [PollFd::new(&socket, PollFlags::IN)], left.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
