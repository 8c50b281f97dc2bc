// SPDX-License-Identifier: MIT OR Apache-2.0

//! The layouts of the protocol: feature word, command, response.

use scsi_pr::{PERSISTENT_RESERVE_IN, PERSISTENT_RESERVE_OUT, Status};
use thiserror::Error;

/// Length of a feature word in bytes.
pub const FEATURES_SIZE: usize = 4;
/// Length of a CDB on the socket in bytes. A PERSISTENT RESERVE CDB has 10; the rest is zero.
pub const CDB_SIZE: usize = 16;
/// Length of the sense data in a response in bytes.
pub const SENSE_SIZE: usize = 96;
/// Largest data or parameter list that the protocol carries, in bytes.
pub const MAX_TRANSFER: usize = 8192;
/// Length of a response without its data in bytes: result, size, sense.
pub const RESPONSE_SIZE: usize = 4 + 4 + SENSE_SIZE;

/// Operation code of CLEANUP, a command of the protocol itself: this host gives up the key of a
/// multipath map, because the guest has migrated to another host.
///
/// SCSI leaves the code to vendors. The rest of the CDB has no meaning, and no parameters follow.
pub const CLEANUP: u8 = 0xff;

/// Pads `cdb` with zeros to the length that a request carries. Excess bytes are dropped.
#[must_use]
pub fn pad_cdb(cdb: &[u8]) -> [u8; CDB_SIZE] {
    std::array::from_fn(|index| cdb.get(index).copied().unwrap_or(0))
}

/// A violation of the protocol by a client. The helper's only reaction is to close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// The client requested features that the helper did not offer.
    #[error("unsupported features {0:#010x} requested")]
    UnknownFeatures(u32),
    /// A CDB arrived without a file descriptor.
    #[error("no file descriptor in request")]
    MissingFd,
    /// More than one file descriptor arrived with a CDB.
    #[error("more than one file descriptor in request")]
    TooManyFds,
    /// A file descriptor arrived with a feature word or a parameter list.
    #[error("file descriptor outside of a CDB")]
    UnexpectedFd,
    /// The opcode of a CDB is not PERSISTENT RESERVE IN, PERSISTENT RESERVE OUT or [`CLEANUP`].
    #[error("opcode {0:#04x} is not PERSISTENT RESERVE")]
    UnsupportedOpcode(u8),
    /// The data length in a CDB exceeds [`MAX_TRANSFER`].
    #[error("length {0} exceeds 8192 bytes")]
    TooLong(u16),
    /// The stream ended within a request.
    #[error("stream ended in the middle of a request")]
    Truncated,
}

/// A feature word: the extensions that a helper offers or a client requests.
///
/// QEMU up to 11.1 and its helper know no feature and send zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(u32);

impl Features {
    /// The basic protocol.
    pub const NONE: Self = Self(0);

    /// The helper executes [`CLEANUP`]. [`RequestDecoder`](crate::RequestDecoder) accepts the
    /// command also from a client that has not requested the feature, because the client that was
    /// posted to QEMU sends it anyway.
    pub const CLEANUP: Self = Self(1);

    /// All features that this crate supports.
    pub const SUPPORTED: Self = Self::CLEANUP;

    /// Decodes a feature word.
    #[must_use]
    pub const fn decode(bytes: [u8; FEATURES_SIZE]) -> Self {
        Self(u32::from_be_bytes(bytes))
    }

    /// Encodes the feature word.
    #[must_use]
    pub const fn encode(self) -> [u8; FEATURES_SIZE] {
        self.0.to_be_bytes()
    }

    /// Returns whether `offered` contains all of these features.
    #[must_use]
    pub const fn is_subset_of(self, offered: Self) -> bool {
        self.0 & !offered.0 == 0
    }

    /// Returns the feature bits.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// The direction of a command's data transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// PERSISTENT RESERVE IN: the device returns data.
    In,
    /// PERSISTENT RESERVE OUT: the client sends a parameter list. [`CLEANUP`] also counts as OUT,
    /// with no parameters, because it requires write access.
    Out,
}

/// A command that the protocol can carry, PERSISTENT RESERVE or [`CLEANUP`]: the CDB exactly as the
/// client sent it.
///
/// Only the opcode and the length are validated. The device validates everything else, including
/// the service action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    cdb: [u8; CDB_SIZE],
    direction: Direction,
    transfer_length: u16,
}

impl Command {
    /// Validates the opcode and the length of a CDB.
    ///
    /// # Errors
    ///
    /// * [`ProtocolError::UnsupportedOpcode`] if the command is not PERSISTENT RESERVE IN,
    ///   PERSISTENT RESERVE OUT or [`CLEANUP`].
    /// * [`ProtocolError::TooLong`] if the length exceeds [`MAX_TRANSFER`].
    pub fn new(cdb: [u8; CDB_SIZE]) -> Result<Self, ProtocolError> {
        let [opcode, _, _, _, _, _, _, length_high, length_low, ..] = cdb;
        let direction = match opcode {
            PERSISTENT_RESERVE_IN => Direction::In,
            PERSISTENT_RESERVE_OUT | CLEANUP => Direction::Out,
            other => return Err(ProtocolError::UnsupportedOpcode(other)),
        };
        // PERSISTENT RESERVE OUT has a 32-bit length in bytes 5 to 8. QEMU and its helper both use
        // the low 16 bits only, and a client that follows them sends that many bytes.
        let transfer_length = match opcode {
            CLEANUP => 0,
            _ => u16::from_be_bytes([length_high, length_low]),
        };
        if usize::from(transfer_length) > MAX_TRANSFER {
            return Err(ProtocolError::TooLong(transfer_length));
        }
        Ok(Self {
            cdb,
            direction,
            transfer_length,
        })
    }

    /// Returns the CDB as the client sent it.
    #[must_use]
    pub const fn cdb(&self) -> &[u8; CDB_SIZE] {
        &self.cdb
    }

    /// Returns whether the command is [`CLEANUP`].
    #[must_use]
    pub const fn is_cleanup(&self) -> bool {
        let [opcode, ..] = self.cdb;
        opcode == CLEANUP
    }

    /// Returns the direction of the data transfer.
    #[must_use]
    pub const fn direction(&self) -> Direction {
        self.direction
    }

    /// Returns the length in bytes of the parameter list that follows (OUT), or the allocation
    /// length of the reply's data (IN).
    #[must_use]
    pub fn transfer_length(&self) -> usize {
        usize::from(self.transfer_length)
    }
}

/// A buffer in which a helper builds responses: a header, then the device's data.
///
/// The data area is exactly as long as the command allows, so a response cannot carry more. One
/// buffer serves any number of commands in turn.
pub struct ReplyBuffer {
    bytes: Box<[u8; BUFFER_SIZE]>,
}

/// Offset of a response in its buffer. It places the data at an odd address, because the kernel
/// does not let a device write to such memory directly, and `linux_util::sg_io` then needs no
/// bounce buffer. Every known allocator places a box of this size at an even address; with another
/// allocator the transfer would only be slower.
const START: usize = 1;
const BUFFER_SIZE: usize = START + RESPONSE_SIZE + MAX_TRANSFER;

impl ReplyBuffer {
    /// Creates a buffer of zeros.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bytes: Box::new([0; BUFFER_SIZE]),
        }
    }

    /// Returns the area for the data of `command`: as long as its allocation length for PERSISTENT
    /// RESERVE IN, empty for OUT.
    ///
    /// The area is zeroed, so that a device that fills only a part of it does not expose the data
    /// of an earlier command to another client.
    pub fn data_area(&mut self, command: &Command) -> &mut [u8] {
        let area = data_range(&mut self.bytes, command);
        area.fill(0);
        area
    }

    /// Encodes the response to `command` with the first `length` bytes of the data area, at most as
    /// many as the command allows.
    pub fn encode(
        &mut self,
        command: &Command,
        status: Status,
        sense: &[u8; SENSE_SIZE],
        length: usize,
    ) -> &[u8] {
        // `data_range` limits the length to MAX_TRANSFER, so it fits 32 bits.
        let length = data_range(&mut self.bytes, command).len().min(length);
        let size = u32::try_from(length).unwrap_or(0);
        let space = self.bytes.get_mut(START..).unwrap_or_default();
        let space = put(space, u32::from(status.0).to_be_bytes());
        let space = put(space, size.to_be_bytes());
        put(space, *sense);
        self.bytes
            .get(START..START + RESPONSE_SIZE + length)
            .unwrap_or_default()
    }
}

/// Copies `part` to the front of `space` and returns the rest: empty if `part` does not fit.
fn put<const N: usize>(space: &mut [u8], part: [u8; N]) -> &mut [u8] {
    let Some((front, rest)) = space.split_first_chunk_mut() else {
        return &mut [];
    };
    *front = part;
    rest
}

/// Returns the part of `bytes` after the header that the data of `command` can fill.
fn data_range<'a>(bytes: &'a mut [u8; BUFFER_SIZE], command: &Command) -> &'a mut [u8] {
    let length = match command.direction() {
        Direction::In => command.transfer_length(),
        Direction::Out => 0,
    };
    bytes
        .get_mut(START + RESPONSE_SIZE..START + RESPONSE_SIZE + length)
        .unwrap_or_default()
}

impl Default for ReplyBuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// A helper's response to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status of the command.
    pub status: Status,
    /// Sense data, padded with zeros. Meaningful with CHECK CONDITION.
    pub sense: [u8; SENSE_SIZE],
    /// Data from the device. Empty for PERSISTENT RESERVE OUT and for any status but GOOD.
    pub data: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(opcode: u8, length: u16) -> Result<Command, ProtocolError> {
        let [high, low] = length.to_be_bytes();
        Command::new([opcode, 0, 0, 0, 0, 0, 0, high, low, 0, 0, 0, 0, 0, 0, 0])
    }

    #[test]
    fn command_with_another_opcode_rejected() {
        for opcode in 0..=255 {
            let is_known = matches!(opcode, 0x5e | 0x5f | 0xff);
            assert_eq!(command(opcode, 8).is_ok(), is_known, "{opcode:#04x}");
        }
    }

    #[test]
    fn cleanup_has_no_parameters() {
        for length in [0, 24, u16::MAX] {
            let command = command(CLEANUP, length).unwrap();
            assert!(command.is_cleanup());
            assert_eq!(command.direction(), Direction::Out);
            assert_eq!(command.transfer_length(), 0);
        }
        assert!(!command(0x5f, 24).unwrap().is_cleanup());
    }

    #[test]
    fn features_within_the_offer_are_a_subset() {
        for (bits, expected) in [
            (0, true),
            (1, true),
            (2, false),
            (3, false),
            (1 << 24, false),
        ] {
            let requested = Features::decode(u32::to_be_bytes(bits));
            assert_eq!(
                requested.is_subset_of(Features::SUPPORTED),
                expected,
                "{bits:#x}"
            );
        }
        assert!(!Features::CLEANUP.is_subset_of(Features::NONE));
    }

    #[test]
    fn command_over_8192_bytes_rejected() {
        assert_eq!(command(0x5e, 8192).unwrap().transfer_length(), 8192);
        assert_eq!(command(0x5f, 8193), Err(ProtocolError::TooLong(8193)));
    }

    #[test]
    fn reply_has_header_sense_and_data() {
        let command = command(0x5e, 8).unwrap();
        let mut reply = ReplyBuffer::new();
        assert_eq!(reply.data_area(&command).as_ptr().addr() % 2, 1);
        reply
            .data_area(&command)
            .copy_from_slice(&[9, 8, 7, 6, 5, 4, 3, 2]);
        let bytes = reply.encode(&command, Status::GOOD, &[0xaa; 96], 3);
        assert_eq!(bytes.len(), 104 + 3);
        assert_eq!(bytes[..8], [0, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!(bytes[8..104], [0xaa; 96]);
        assert_eq!(bytes[104..], [9, 8, 7]);
    }

    #[test]
    fn reply_data_limited_to_what_the_command_allows() {
        for (opcode, length, allowed) in [(0x5e, 8, 8), (0x5f, 24, 0)] {
            let command = command(opcode, length).unwrap();
            let mut reply = ReplyBuffer::new();
            assert_eq!(reply.data_area(&command).len(), usize::from(allowed));
            let bytes = reply.encode(&command, Status::GOOD, &[0; 96], 8192);
            assert_eq!(bytes.len(), 104 + usize::from(allowed));
            assert_eq!(bytes[4..8], [0, 0, 0, allowed]);
        }
    }

    #[test]
    fn data_area_is_cleared_for_each_command() {
        let mut reply = ReplyBuffer::new();
        reply.data_area(&command(0x5e, 64).unwrap()).fill(0xff);
        assert_eq!(reply.data_area(&command(0x5e, 32).unwrap()), [0; 32]);
    }
}
