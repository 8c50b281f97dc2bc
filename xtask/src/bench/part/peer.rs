//! A client's end of a connection that allocates nothing for a request.
//!
//! `pr_helper_protocol::Client` makes a vector of each answer's data, which is right for everybody else.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use pr_helper_protocol::fd_passing;
use pr_helper_protocol::wire::{CDB_SIZE, FEATURES_SIZE, Features, MAX_TRANSFER, RESPONSE_SIZE};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect as connect_to, socket_with,
};

/// Connects to a helper and begins the protocol. Each step of it may take `patience`.
pub(crate) fn connect(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // Also how long it may take until the listener has room.
    set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(patience))?;
    connect_to(&socket, &SocketAddrUnix::new(path)?)?;
    let mut socket = UnixStream::from(socket);
    socket.read_exact(&mut [0; FEATURES_SIZE])?;
    socket.write_all(&Features::NONE.encode())?;
    Ok(socket)
}

/// A client.
pub(crate) struct Peer {
    socket: UnixStream,
    reply: Box<[u8; RESPONSE_SIZE + MAX_TRANSFER]>,
}

impl Peer {
    /// Connects; an answer too may take `patience`.
    pub(crate) fn connect(path: &Path, patience: Duration) -> io::Result<Self> {
        Ok(Self {
            socket: connect(path, patience)?,
            reply: Box::new([0; RESPONSE_SIZE + MAX_TRANSFER]),
        })
    }

    /// Sends a command, and gives the status that it was answered with.
    pub(crate) fn ask(
        &mut self,
        cdb: &[u8; CDB_SIZE],
        device: BorrowedFd<'_>,
        parameters: &[u8],
    ) -> io::Result<u8> {
        fd_passing::send(self.socket.as_fd(), cdb, device)?;
        if !parameters.is_empty() {
            self.socket.write_all(parameters)?;
        }
        let mut filled = 0;
        let mut length = RESPONSE_SIZE;
        while filled < length {
            // As much as there is: the data comes with the head.
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
        // No more than there is room for, which would end in an answer without end.
        usize::try_from(u32::from_be_bytes([b0, b1, b2, b3]))
            .unwrap_or(MAX_TRANSFER)
            .min(MAX_TRANSFER)
    }
}
