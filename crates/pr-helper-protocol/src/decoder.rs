//! Bytes and descriptors, however they are cut, to requests. Knows no socket.

use std::os::fd::OwnedFd;

use crate::error::ProtocolError;
use crate::fd_passing::ReceivedFds;
use crate::wire::{CDB_SIZE, Command, Direction, FEATURES_SIZE, Features};

/// The device that a request is for.
#[derive(Debug)]
pub enum RequestFd {
    /// The descriptor that came with the CDB.
    Open(OwnedFd),
    /// One came, and the kernel did not give it to this process: it has as many descriptors as it may
    /// have, or a security policy forbids this one. The request cannot be executed, but it can be
    /// answered.
    Lost,
}

/// A complete request.
#[derive(Debug)]
pub struct Request {
    /// What to do.
    pub command: Command,
    /// To which device.
    pub fd: RequestFd,
    /// The parameter list of PERSISTENT RESERVE OUT, as long as the CDB says; empty for IN.
    pub parameters: Vec<u8>,
}

/// What the bytes that were taken in have led to.
#[derive(Debug)]
pub enum Progress {
    /// More bytes are needed.
    Incomplete,
    /// The features are agreed on, requests can follow.
    Negotiated(Features),
    /// A request is complete.
    Request(Request),
}

/// What one connection has received of the thing that it waits for.
///
/// Read into [`Inbox::space`], then say how much it was with [`Inbox::receive`]. The space ends where
/// the feature word, CDB or parameter list ends that is being read: a descriptor that comes with bytes
/// read in one go so belongs to just one of them.
///
/// No descriptor is closed before the decoder itself, or the request that it belongs to, is dropped:
/// whoever owns them decides when and where to wait for a close that blocks.
#[derive(Debug)]
pub struct RequestDecoder {
    state: DecodeState,
    filled: usize,
    /// Holds feature words and CDBs, which every connection needs room for.
    head: [u8; CDB_SIZE],
    /// Holds a parameter list; empty except while one is arriving.
    parameters: Vec<u8>,
    fd: Option<RequestFd>,
    /// Descriptors that should not have come.
    rejected_fds: Vec<RequestFd>,
}

#[derive(Clone, Copy, Debug)]
enum DecodeState {
    Features,
    Cdb,
    Parameters(Command),
}

impl RequestDecoder {
    /// A connection of which nothing was received.
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

    /// Where the next bytes belong; at least one byte long.
    pub fn buffer(&mut self) -> &mut [u8] {
        let unit = match self.state {
            DecodeState::Features => self.head.get_mut(..FEATURES_SIZE).unwrap_or_default(),
            DecodeState::Cdb => &mut self.head,
            DecodeState::Parameters(_) => &mut self.parameters,
        };
        unit.get_mut(self.filled..).unwrap_or_default()
    }

    /// Takes in `count` bytes that were read into [`Inbox::space`], and the descriptors that came
    /// with them. A count of 0 is the end of the stream.
    ///
    /// # Errors
    ///
    /// What the client did wrong. The decoder is to be dropped; every descriptor received so far is
    /// closed with it.
    pub fn advance(
        &mut self,
        count: usize,
        descriptors: ReceivedFds,
    ) -> Result<Progress, ProtocolError> {
        self.store_fds(descriptors)?;
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

    /// Whether nothing of a feature word or a request has arrived: a stream that ends here breaks
    /// nothing off.
    #[must_use]
    pub const fn is_between_requests(&self) -> bool {
        !matches!(self.state, DecodeState::Parameters(_)) && self.filled == 0
    }

    /// Whether the features are agreed on.
    #[must_use]
    pub const fn is_negotiated(&self) -> bool {
        !matches!(self.state, DecodeState::Features)
    }

    /// Returns the number of descriptors that were received and not handed on with a request.
    #[must_use]
    pub fn fd_count(&self) -> usize {
        self.rejected_fds
            .len()
            .saturating_add(usize::from(self.fd.is_some()))
    }

    fn store_fds(&mut self, descriptors: ReceivedFds) -> Result<(), ProtocolError> {
        let device = match descriptors {
            ReceivedFds::None => return Ok(()),
            ReceivedFds::One(descriptor) => RequestFd::Open(descriptor),
            ReceivedFds::Truncated => RequestFd::Lost,
            ReceivedFds::Many(several) => {
                self.rejected_fds
                    .extend(several.into_iter().map(RequestFd::Open));
                return Err(ProtocolError::TooManyFds);
            }
        };
        let violation = match (self.state, &self.fd) {
            (DecodeState::Cdb, None) => {
                self.fd = Some(device);
                return Ok(());
            }
            (DecodeState::Cdb, Some(_)) => ProtocolError::TooManyFds,
            (DecodeState::Features | DecodeState::Parameters(_), _) => ProtocolError::UnexpectedFd,
        };
        self.rejected_fds.push(device);
        Err(violation)
    }

    fn finish_features(&mut self) -> Result<Progress, ProtocolError> {
        let [a, b, c, d, ..] = self.head;
        let requested = Features::decode([a, b, c, d]);
        if !requested.is_subset_of(Features::NONE) {
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
        let device = self.fd.take().ok_or(ProtocolError::MissingFd)?;
        let parameters = std::mem::take(&mut self.parameters);
        Ok(Progress::Request(Request {
            command,
            fd: device,
            parameters,
        }))
    }
}

impl Default for RequestDecoder {
    fn default() -> Self {
        Self::new()
    }
}
