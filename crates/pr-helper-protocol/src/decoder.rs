// SPDX-License-Identifier: MIT OR Apache-2.0

//! Decoder of a client's byte stream and file descriptors into requests. It does no I/O.

use std::os::fd::OwnedFd;

use crate::fd_passing::ReceivedFds;
use crate::wire::{CDB_SIZE, Command, Direction, FEATURES_SIZE, Features, ProtocolError};

/// The file descriptor of the device that a request addresses.
#[derive(Debug)]
pub enum RequestFd {
    /// The descriptor that arrived with the CDB.
    Open(OwnedFd),
    /// The client sent a descriptor, but the kernel did not deliver it: this process has reached
    /// its descriptor limit, or a security policy forbids this descriptor. The request cannot be
    /// executed, but it can be answered.
    Lost,
}

/// A complete request.
#[derive(Debug)]
pub struct Request {
    /// Command to execute.
    pub command: Command,
    /// Descriptor of the device.
    pub fd: RequestFd,
    /// Parameter list of PERSISTENT RESERVE OUT, as long as the CDB says; empty for other commands.
    pub parameters: Vec<u8>,
}

/// The decoder's state after it consumed bytes.
#[derive(Debug)]
pub enum Progress {
    /// More bytes are needed.
    Incomplete,
    /// The feature word is complete. Requests can follow.
    Negotiated(Features),
    /// A request is complete.
    Request(Request),
}

/// The decoder of one connection's stream.
///
/// The caller reads into [`RequestDecoder::buffer`], then passes the number of bytes read to
/// [`RequestDecoder::advance`]. The buffer ends where the current feature word, CDB or parameter
/// list ends, so that a descriptor received in one read belongs to exactly one of them.
///
/// Descriptors are closed only when the decoder, or the request that owns them, is dropped. The
/// owner thus decides which thread runs a close that can block.
#[derive(Debug, Default)]
pub struct RequestDecoder {
    state: DecodeState,
    filled: usize,
    /// Feature word or CDB. Inline, because every connection receives both.
    head: [u8; CDB_SIZE],
    /// Parameter list. Empty except while one is arriving.
    parameters: Vec<u8>,
    fd: Option<RequestFd>,
    /// Descriptors that violate the protocol.
    rejected_fds: Vec<RequestFd>,
}

#[derive(Clone, Copy, Debug, Default)]
enum DecodeState {
    #[default]
    Features,
    Cdb,
    Parameters(Command),
}

impl RequestDecoder {
    /// Creates a decoder at the start of a stream.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: DecodeState::Features,
            filled: 0,
            head: [0; CDB_SIZE],
            parameters: Vec::new(),
            fd: None,
            rejected_fds: Vec::new(),
        }
    }

    /// Returns the buffer for the next bytes. It is at least one byte long.
    pub fn buffer(&mut self) -> &mut [u8] {
        let unit = match self.state {
            DecodeState::Features => self.head.get_mut(..FEATURES_SIZE).unwrap_or_default(),
            DecodeState::Cdb => &mut self.head,
            DecodeState::Parameters(_) => &mut self.parameters,
        };
        unit.get_mut(self.filled..).unwrap_or_default()
    }

    /// Consumes `count` bytes that were read into [`RequestDecoder::buffer`], and the `fds` that
    /// arrived with them. A count of 0 means the end of the stream.
    ///
    /// # Errors
    ///
    /// Returns the client's violation of the protocol. The decoder must not be used afterwards;
    /// dropping it closes the descriptors received so far.
    pub fn advance(&mut self, count: usize, fds: ReceivedFds) -> Result<Progress, ProtocolError> {
        self.store_fds(fds)?;
        if count == 0 {
            return Err(ProtocolError::Truncated);
        }
        self.filled = self.filled.saturating_add(count);
        if !self.buffer().is_empty() {
            return Ok(Progress::Incomplete);
        }
        self.filled = 0;
        match self.state {
            DecodeState::Features => self.finish_features(),
            DecodeState::Cdb => self.finish_cdb(),
            DecodeState::Parameters(command) => self.finish_request(command),
        }
    }

    /// Returns `true` if no part of a feature word or a request has arrived, so that the stream can
    /// end here without truncating anything.
    #[must_use]
    pub const fn is_between_requests(&self) -> bool {
        !matches!(self.state, DecodeState::Parameters(_)) && self.filled == 0
    }

    /// Returns `true` after the client's feature word has arrived.
    #[must_use]
    pub const fn is_negotiated(&self) -> bool {
        !matches!(self.state, DecodeState::Features)
    }

    /// Returns the number of received descriptors that no request owns.
    #[must_use]
    pub fn fd_count(&self) -> usize {
        self.rejected_fds.len() + usize::from(self.fd.is_some())
    }

    fn store_fds(&mut self, fds: ReceivedFds) -> Result<(), ProtocolError> {
        let fd = match fds {
            ReceivedFds::None => return Ok(()),
            ReceivedFds::One(fd) => RequestFd::Open(fd),
            ReceivedFds::Truncated => RequestFd::Lost,
            ReceivedFds::Many(fds) => {
                self.rejected_fds
                    .extend(fds.into_iter().map(RequestFd::Open));
                return Err(ProtocolError::TooManyFds);
            }
        };
        let violation = match (self.state, &self.fd) {
            (DecodeState::Cdb, None) => {
                self.fd = Some(fd);
                return Ok(());
            }
            (DecodeState::Cdb, Some(_)) => ProtocolError::TooManyFds,
            (DecodeState::Features | DecodeState::Parameters(_), _) => ProtocolError::UnexpectedFd,
        };
        self.rejected_fds.push(fd);
        Err(violation)
    }

    fn finish_features(&mut self) -> Result<Progress, ProtocolError> {
        let [a, b, c, d, ..] = self.head;
        let requested = Features::decode([a, b, c, d]);
        if !requested.is_subset_of(Features::SUPPORTED) {
            return Err(ProtocolError::UnknownFeatures(requested.get()));
        }
        self.state = DecodeState::Cdb;
        Ok(Progress::Negotiated(requested))
    }

    fn finish_cdb(&mut self) -> Result<Progress, ProtocolError> {
        if self.fd.is_none() {
            return Err(ProtocolError::MissingFd);
        }
        let command = Command::new(self.head)?;
        if command.direction() == Direction::In || command.transfer_length() == 0 {
            return self.finish_request(command);
        }
        self.parameters = vec![0; command.transfer_length()];
        self.state = DecodeState::Parameters(command);
        Ok(Progress::Incomplete)
    }

    fn finish_request(&mut self, command: Command) -> Result<Progress, ProtocolError> {
        self.state = DecodeState::Cdb;
        Ok(Progress::Request(Request {
            command,
            fd: self.fd.take().ok_or(ProtocolError::MissingFd)?,
            parameters: std::mem::take(&mut self.parameters),
        }))
    }
}
