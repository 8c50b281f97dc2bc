//! Bytes and descriptors, however they are cut, to requests. Knows no socket.

use std::os::fd::OwnedFd;

use crate::descriptors::Descriptors;
use crate::violation::Violation;
use crate::wire::{CDB_SIZE, Command, Direction, FEATURES_SIZE, Features};

/// The device that a request is for.
#[derive(Debug)]
pub enum Device {
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
    pub device: Device,
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
/// No descriptor is closed before the inbox itself, or the request that it belongs to, is dropped:
/// whoever owns them decides when and where to wait for a close that blocks.
#[derive(Debug)]
pub struct Inbox {
    stage: Stage,
    filled: usize,
    /// Holds feature words and CDBs, which every connection needs room for.
    head: [u8; CDB_SIZE],
    /// Holds a parameter list; empty except while one is arriving.
    parameters: Vec<u8>,
    device: Option<Device>,
    /// Descriptors that should not have come.
    refused: Vec<Device>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Features,
    Cdb,
    Parameters(Command),
}

impl Inbox {
    /// A connection of which nothing was received.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            stage: Stage::Features,
            filled: 0,
            head: [0; CDB_SIZE],
            parameters: Vec::new(),
            device: None,
            refused: Vec::new(),
        }
    }

    /// Where the next bytes belong; at least one byte long.
    pub fn space(&mut self) -> &mut [u8] {
        let unit = match self.stage {
            Stage::Features => self.head.get_mut(..FEATURES_SIZE).unwrap_or_default(),
            Stage::Cdb => &mut self.head,
            Stage::Parameters(_) => &mut self.parameters,
        };
        unit.get_mut(self.filled..).unwrap_or_default()
    }

    /// Takes in `count` bytes that were read into [`Inbox::space`], and the descriptors that came
    /// with them. A count of 0 is the end of the stream.
    ///
    /// # Errors
    ///
    /// What the client did wrong. The inbox is to be dropped; every descriptor received so far is
    /// closed with it.
    pub fn receive(
        &mut self,
        count: usize,
        descriptors: Descriptors,
    ) -> Result<Progress, Violation> {
        self.keep(descriptors)?;
        if count == 0 {
            return Err(Violation::Truncated);
        }
        self.filled = self.filled.saturating_add(count);
        if !self.space().is_empty() {
            return Ok(Progress::Incomplete);
        }
        self.filled = 0;
        match self.stage {
            Stage::Features => self.finish_features(),
            Stage::Cdb => self.finish_cdb(),
            Stage::Parameters(command) => self.finish_request(command),
        }
    }

    /// Whether nothing of a feature word or a request has arrived: a stream that ends here breaks
    /// nothing off.
    #[must_use]
    pub const fn is_between_requests(&self) -> bool {
        !matches!(self.stage, Stage::Parameters(_)) && self.filled == 0
    }

    /// Whether the features are agreed on.
    #[must_use]
    pub const fn is_negotiated(&self) -> bool {
        !matches!(self.stage, Stage::Features)
    }

    /// Returns the number of descriptors that were received and not handed on with a request.
    #[must_use]
    pub fn descriptor_count(&self) -> usize {
        self.refused
            .len()
            .saturating_add(usize::from(self.device.is_some()))
    }

    fn keep(&mut self, descriptors: Descriptors) -> Result<(), Violation> {
        let device = match descriptors {
            Descriptors::None => return Ok(()),
            Descriptors::One(descriptor) => Device::Open(descriptor),
            Descriptors::Lost => Device::Lost,
            Descriptors::Several(several) => {
                self.refused.extend(several.into_iter().map(Device::Open));
                return Err(Violation::ExtraDescriptor);
            }
        };
        let violation = match (self.stage, &self.device) {
            (Stage::Cdb, None) => {
                self.device = Some(device);
                return Ok(());
            }
            (Stage::Cdb, Some(_)) => Violation::ExtraDescriptor,
            (Stage::Features | Stage::Parameters(_), _) => Violation::StrayDescriptor,
        };
        self.refused.push(device);
        Err(violation)
    }

    fn finish_features(&mut self) -> Result<Progress, Violation> {
        let [a, b, c, d, ..] = self.head;
        let requested = Features::decode([a, b, c, d]);
        if !requested.is_subset_of(Features::NONE) {
            return Err(Violation::UnknownFeatures(requested.get()));
        }
        self.stage = Stage::Cdb;
        Ok(Progress::Negotiated(requested))
    }

    fn finish_cdb(&mut self) -> Result<Progress, Violation> {
        if self.device.is_none() {
            return Err(Violation::NoDescriptor);
        }
        let command = Command::new(self.head)?;
        if command.direction() == Direction::In || command.transfer_length() == 0 {
            return self.finish_request(command);
        }
        self.parameters = vec![0; command.transfer_length()];
        self.stage = Stage::Parameters(command);
        Ok(Progress::Incomplete)
    }

    fn finish_request(&mut self, command: Command) -> Result<Progress, Violation> {
        self.stage = Stage::Cdb;
        let device = self.device.take().ok_or(Violation::NoDescriptor)?;
        let parameters = std::mem::take(&mut self.parameters);
        Ok(Progress::Request(Request {
            command,
            device,
            parameters,
        }))
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new()
    }
}
