// SPDX-License-Identifier: MIT OR Apache-2.0

//! A client that allocates nothing for a request.
//!
//! `pr_helper_protocol::Client` allocates a vector for the data of each response, which would
//! distort the measurement.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use pr_helper_protocol::fd_passing;
use pr_helper_protocol::wire::{FEATURES_SIZE, Features, MAX_TRANSFER, RESPONSE_SIZE};
use pr_testkit::cdb::PrCommand;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect as connect_to, socket_with,
};

/// Connects to a helper and does the handshake. `timeout` is the timeout of each step.
pub(crate) fn connect(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // The send timeout also limits the wait for room in the listener's backlog.
    set_socket_timeout(&socket, Timeout::Send, Some(timeout))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(timeout))?;
    connect_to(&socket, &SocketAddrUnix::new(path)?)?;
    let mut socket = UnixStream::from(socket);
    socket.read_exact(&mut [0; FEATURES_SIZE])?;
    socket.write_all(&Features::NONE.encode())?;
    Ok(socket)
}

/// A connected client.
pub(crate) struct RawClient {
    socket: UnixStream,
    reply: Box<[u8; RESPONSE_SIZE + MAX_TRANSFER]>,
}

impl RawClient {
    /// Connects; `timeout` is also the timeout of each response.
    pub(crate) fn connect(path: &Path, timeout: Duration) -> io::Result<Self> {
        Ok(Self {
            socket: connect(path, timeout)?,
            reply: Box::new([0; RESPONSE_SIZE + MAX_TRANSFER]),
        })
    }

    /// Sends a command and returns the SCSI status of the response.
    pub(crate) fn request(
        &mut self,
        command: &PrCommand,
        device: BorrowedFd<'_>,
    ) -> io::Result<u8> {
        fd_passing::send(self.socket.as_fd(), &command.cdb, device)?;
        if !command.parameter_list.is_empty() {
            self.socket.write_all(&command.parameter_list)?;
        }
        let mut filled = 0;
        let mut length = RESPONSE_SIZE;
        while filled < length {
            // Read as much as possible: the data comes with the header.
            match self.socket.read(&mut self.reply[filled..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
            if filled >= RESPONSE_SIZE {
                length = RESPONSE_SIZE + self.data_length();
            }
        }
        Ok(self.reply[3])
    }

    fn data_length(&self) -> usize {
        let [_, _, _, _, bytes @ ..] = *self.reply;
        let [b0, b1, b2, b3, ..] = bytes;
        // Limit the length to the buffer, because a read into an empty buffer looks like the end of
        // the stream.
        usize::try_from(u32::from_be_bytes([b0, b1, b2, b3]))
            .unwrap_or(MAX_TRANSFER)
            .min(MAX_TRANSFER)
    }
}
