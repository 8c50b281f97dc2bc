// SPDX-License-Identifier: MIT OR Apache-2.0

//! The client's end of a connection. It blocks.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use scsi_pr::Status;
use thiserror::Error;

use crate::fd_passing;
use crate::wire::{
    CDB_SIZE, Command, Direction, FEATURES_SIZE, Features, ProtocolError, RESPONSE_SIZE, Response,
};

/// A failure to get a response from a helper.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No helper listens at the path, or access to its socket was denied.
    #[error("cannot connect to the helper")]
    Connect(#[source] io::Error),
    /// The connection failed during the exchange of feature words.
    #[error("the helper did not complete the handshake")]
    Handshake(#[source] io::Error),
    /// The protocol cannot carry the command. Nothing was sent.
    #[error("the command cannot be sent to a helper")]
    Command(#[source] ProtocolError),
    /// The length of the parameter list differs from the one in the CDB. Nothing was sent.
    #[error("the CDB announces {announced} bytes of parameters, but {given} were given")]
    ParameterLength {
        /// Length in the CDB, in bytes.
        announced: usize,
        /// Length of the parameter list, in bytes.
        given: usize,
    },
    /// The request could not be sent.
    #[error("cannot send the request")]
    Send(#[source] io::Error),
    /// No complete response arrived. The command may have been executed.
    #[error("the helper sent no complete response")]
    Receive(#[source] io::Error),
    /// The response has more data than the command allows, which violates the protocol.
    #[error("the helper answered with {size} bytes, but at most {allowed} are allowed")]
    TooMuchData {
        /// Length of the data by the response's header, in bytes.
        size: u32,
        /// Allocation length of the command, in bytes.
        allowed: usize,
    },
    /// The result in the response is not a SCSI status.
    #[error("the helper answered with result {0}, which is not a SCSI status")]
    BadStatus(u32),
}

/// A connection to a helper. It carries one request at a time.
///
/// After an error of [`Client::execute`] other than [`ClientError::Command`] and
/// [`ClientError::ParameterLength`] the stream is out of sync: drop the client and connect again.
#[derive(Debug)]
pub struct Client {
    socket: UnixStream,
}

impl Client {
    /// Connects to the helper that listens at `path`.
    ///
    /// # Errors
    ///
    /// * [`ClientError::Connect`] if the socket cannot be connected.
    /// * [`ClientError::Handshake`] if the feature words cannot be exchanged.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        Self::negotiate(UnixStream::connect(path).map_err(ClientError::Connect)?)
    }

    /// Exchanges feature words on a socket that is connected to a helper.
    ///
    /// # Errors
    ///
    /// Returns [`ClientError::Handshake`] if the feature words cannot be exchanged.
    pub fn negotiate(mut socket: UnixStream) -> Result<Self, ClientError> {
        // The offer is ignored, because this client requests no feature.
        let mut exchange = || {
            socket.read_exact(&mut [0; FEATURES_SIZE])?;
            socket.write_all(&Features::NONE.encode())
        };
        exchange().map_err(|error| ClientError::Handshake(name_timeout(error)))?;
        Ok(Self { socket })
    }

    /// Sends `cdb`, `device` and `parameters` to the helper and waits for the response.
    ///
    /// `parameters` is the parameter list of PERSISTENT RESERVE OUT, or empty for IN. A command
    /// that the device rejects is not an error: see [`Response::status`].
    ///
    /// # Errors
    ///
    /// * [`ClientError::Command`] or [`ClientError::ParameterLength`] if the request is invalid.
    /// * [`ClientError::Send`] if the request cannot be sent.
    /// * [`ClientError::Receive`] if the connection ends before the response is complete.
    /// * [`ClientError::TooMuchData`] or [`ClientError::BadStatus`] if the response violates the
    ///   protocol.
    pub fn execute(
        &mut self,
        cdb: [u8; CDB_SIZE],
        device: BorrowedFd<'_>,
        parameters: &[u8],
    ) -> Result<Response, ClientError> {
        let command = Command::new(cdb).map_err(ClientError::Command)?;
        let (announced, allowed) = match command.direction() {
            Direction::In => (0, command.transfer_length()),
            Direction::Out => (command.transfer_length(), 0),
        };
        if parameters.len() != announced {
            return Err(ClientError::ParameterLength {
                announced,
                given: parameters.len(),
            });
        }
        fd_passing::send(self.socket.as_fd(), &cdb, device)
            .and_then(|()| self.socket.write_all(parameters))
            .map_err(ClientError::Send)?;
        self.receive(allowed)
    }

    /// Receives a response with at most `allowed` bytes of data.
    fn receive(&mut self, allowed: usize) -> Result<Response, ClientError> {
        let mut head = [0; RESPONSE_SIZE];
        self.socket
            .read_exact(&mut head)
            .map_err(|error| ClientError::Receive(name_timeout(error)))?;
        let [r0, r1, r2, r3, s0, s1, s2, s3, sense @ ..] = head;
        let result = u32::from_be_bytes([r0, r1, r2, r3]);
        let status = u8::try_from(result).map_err(|_| ClientError::BadStatus(result))?;
        let size = u32::from_be_bytes([s0, s1, s2, s3]);
        let length = usize::try_from(size)
            .ok()
            .filter(|length| *length <= allowed)
            .ok_or(ClientError::TooMuchData { size, allowed })?;
        let mut data = vec![0; length];
        self.socket
            .read_exact(&mut data)
            .map_err(|error| ClientError::Receive(name_timeout(error)))?;
        Ok(Response {
            status: Status(status),
            sense,
            data,
        })
    }
}

/// Returns the error of a read. The kernel reports the timeout of a socket as EAGAIN.
fn name_timeout(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    }
}
