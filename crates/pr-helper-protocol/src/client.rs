//! A client's end of a connection, blocking.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use scsi_pr::Status;
use thiserror::Error;

use crate::error::ProtocolError;
use crate::fd_passing;
use crate::wire::{
    CDB_SIZE, Command, Direction, FEATURES_SIZE, Features, RESPONSE_SIZE, Response, SENSE_SIZE,
};

/// Why a helper could not be asked.
#[derive(Debug, Error)]
pub enum ClientError {
    /// There is no helper at the path, or it may not be used.
    #[error("cannot connect to the helper")]
    Connect(#[source] io::Error),
    /// The connection broke before the two sides had agreed on the protocol.
    #[error("the helper did not complete the handshake")]
    Handshake(#[source] io::Error),
    /// The protocol cannot carry the command; nothing was sent.
    #[error("the command cannot be sent to a helper")]
    Command(#[source] ProtocolError),
    /// The parameter list is not as long as the CDB says; nothing was sent.
    #[error("the CDB announces {announced} bytes of parameters, there are {given}")]
    ParameterLength {
        /// Bytes by the CDB.
        announced: usize,
        /// Bytes given.
        given: usize,
    },
    /// The request could not be sent.
    #[error("cannot send the request")]
    Send(#[source] io::Error),
    /// No complete answer came. Whether the command was executed is unknown.
    #[error("the helper did not answer")]
    Answer(#[source] io::Error),
    /// The answer breaks the protocol.
    #[error("the helper answered with {size} bytes where at most {allowed} are allowed")]
    TooMuchData {
        /// Bytes announced.
        size: u32,
        /// Bytes that the command allows.
        allowed: usize,
    },
    /// The result is no SCSI status.
    #[error("the helper answered with result {0}, which is no SCSI status")]
    BadStatus(u32),
}

/// A connection to a helper. One request at a time.
///
/// After an error of [`Client::execute`] other than [`ClientError::Command`] and
/// [`ClientError::ParameterLength`] the two sides no longer agree on where they are: connect anew.
#[derive(Debug)]
pub struct Client {
    socket: UnixStream,
}

impl Client {
    /// Connects to the helper whose socket is at `path`.
    ///
    /// # Errors
    ///
    /// [`ClientError::Connect`] and [`ClientError::Handshake`].
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        Self::negotiate(UnixStream::connect(path).map_err(ClientError::Connect)?)
    }

    /// Begins the protocol on a socket that is connected to a helper.
    ///
    /// # Errors
    ///
    /// [`ClientError::Handshake`].
    pub fn negotiate(mut socket: UnixStream) -> Result<Self, ClientError> {
        // What the helper offers does not matter: nothing is asked for.
        let mut offered = [0; FEATURES_SIZE];
        socket
            .read_exact(&mut offered)
            .map_err(ClientError::Handshake)?;
        socket
            .write_all(&Features::NONE.encode())
            .map_err(ClientError::Handshake)?;
        Ok(Self { socket })
    }

    /// Has the helper execute `cdb` on `device`, and waits for the answer.
    ///
    /// `parameters` is the parameter list of PERSISTENT RESERVE OUT, and empty for IN. A command that
    /// the device refuses is no error: see [`Response::status`].
    ///
    /// # Errors
    ///
    /// Why there is no answer.
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
        fd_passing::send(self.socket.as_fd(), &cdb, device).map_err(ClientError::Send)?;
        self.socket
            .write_all(parameters)
            .map_err(ClientError::Send)?;
        self.response(allowed)
    }

    fn response(&mut self, allowed: usize) -> Result<Response, ClientError> {
        let mut head = [0; RESPONSE_SIZE];
        self.socket
            .read_exact(&mut head)
            .map_err(ClientError::Answer)?;
        let [r0, r1, r2, r3, s0, s1, s2, s3, sense @ ..] = head;
        let sense: [u8; SENSE_SIZE] = sense;
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
            .map_err(ClientError::Answer)?;
        Ok(Response {
            status: Status(status),
            sense,
            data,
        })
    }
}
