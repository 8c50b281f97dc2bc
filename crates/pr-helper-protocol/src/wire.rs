//! The layouts of the protocol: feature word, command, response.

use scsi_pr::{PERSISTENT_RESERVE_IN, PERSISTENT_RESERVE_OUT, Status};

use crate::error::ProtocolError;

/// Bytes of a feature word.
pub const FEATURES_SIZE: usize = 4;
/// Bytes of a CDB on the socket. Those of PERSISTENT RESERVE are 10 long; the rest is zero.
pub const CDB_SIZE: usize = 16;

/// A CDB in a request: with zeros behind it. What there is no room for is left out.
#[must_use]
pub fn pad_cdb(cdb: &[u8]) -> [u8; CDB_SIZE] {
    let mut field = [0; CDB_SIZE];
    for (byte, value) in field.iter_mut().zip(cdb) {
        *byte = *value;
    }
    field
}
/// Bytes of sense data in a response.
pub const SENSE_SIZE: usize = 96;
/// The longest data or parameter list that the protocol carries, in bytes.
pub const MAX_TRANSFER: usize = 8192;
/// Bytes of a response before its data: result, size, sense.
pub const RESPONSE_SIZE: usize = 4 + 4 + SENSE_SIZE;

/// A feature word: what a helper can do beyond the basic protocol, or what a client asks for.
///
/// No feature is defined, so both are empty in every known implementation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(u32);

impl Features {
    /// The basic protocol.
    pub const NONE: Self = Self(0);

    /// Reads a feature word.
    #[must_use]
    pub const fn decode(bytes: [u8; FEATURES_SIZE]) -> Self {
        Self(u32::from_be_bytes(bytes))
    }

    /// The word as it is sent.
    #[must_use]
    pub const fn encode(self) -> [u8; FEATURES_SIZE] {
        self.0.to_be_bytes()
    }

    /// The bits.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Whether all of these features are among `offered`.
    #[must_use]
    pub const fn is_subset_of(self, offered: Self) -> bool {
        self.0 & !offered.0 == 0
    }
}

/// Which way a command's data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// PERSISTENT RESERVE IN: the device answers with data.
    In,
    /// PERSISTENT RESERVE OUT: the client sends a parameter list.
    Out,
}

/// A PERSISTENT RESERVE command that the protocol can carry: its CDB, exactly as the client sent it.
///
/// Only the opcode and the length are judged. Everything else, a reserved service action too, is for
/// the device to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    cdb: [u8; CDB_SIZE],
    direction: Direction,
    transfer_length: u16,
}

impl Command {
    /// Takes a CDB.
    ///
    /// # Errors
    ///
    /// [`Violation::ForeignOpcode`] for any other command than PERSISTENT RESERVE IN and OUT, and
    /// [`Violation::TooLong`] for more than [`MAX_TRANSFER`] bytes of data.
    pub fn new(cdb: [u8; CDB_SIZE]) -> Result<Self, ProtocolError> {
        let [opcode, _, _, _, _, _, _, length_high, length_low, ..] = cdb;
        let direction = match opcode {
            PERSISTENT_RESERVE_IN => Direction::In,
            PERSISTENT_RESERVE_OUT => Direction::Out,
            other => return Err(ProtocolError::UnsupportedOpcode(other)),
        };
        // PERSISTENT RESERVE OUT has a 32-bit length in bytes 5 to 8. Both QEMU and its helper take
        // the low half alone, and a client that follows them sends just so many bytes.
        let transfer_length = u16::from_be_bytes([length_high, length_low]);
        if usize::from(transfer_length) > MAX_TRANSFER {
            return Err(ProtocolError::TooLong(transfer_length));
        }
        Ok(Self {
            cdb,
            direction,
            transfer_length,
        })
    }

    /// The CDB as it was sent.
    #[must_use]
    pub const fn cdb(&self) -> &[u8; CDB_SIZE] {
        &self.cdb
    }

    /// Which way the data goes.
    #[must_use]
    pub const fn direction(&self) -> Direction {
        self.direction
    }

    /// Bytes of the parameter list that follows (OUT), or the allocation length of the answer (IN).
    #[must_use]
    pub fn transfer_length(&self) -> usize {
        usize::from(self.transfer_length)
    }
}

/// One response of a helper, being made: room for the device's data and, in front of it, the header.
///
/// The data area of a command is as long as the command allows and no longer, so that a response
/// cannot carry more. Make one and use it for command after command.
pub struct ReplyBuffer {
    bytes: Box<[u8; BUFFER_SIZE]>,
}

/// Where a response begins in its buffer, so that its data lie at an odd address: a device is not let write to
/// such memory itself, and a caller who knows that need not take a detour (`linux_util::sg_io`). A box of many
/// bytes begins at an even one with every allocator there is; with another one it would only be slower.
const START: usize = 1;
const BUFFER_SIZE: usize = START + RESPONSE_SIZE + MAX_TRANSFER;

impl ReplyBuffer {
    /// A new buffer.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bytes: Box::new([0; BUFFER_SIZE]),
        }
    }

    /// Where the data that `command` asks for belongs: its allocation length for PERSISTENT RESERVE
    /// IN, nothing for OUT.
    ///
    /// It is all zeros, whatever was answered before: what a device does not fill must not show one
    /// client another one's data.
    pub fn data_area(&mut self, command: &Command) -> &mut [u8] {
        let area = data_range(&mut self.bytes, command);
        area.fill(0);
        area
    }

    /// The response to `command`, complete: the first `length` bytes of the data area go with it,
    /// as far as the command allows any.
    pub fn encode(
        &mut self,
        command: &Command,
        status: Status,
        sense: &[u8; SENSE_SIZE],
        length: usize,
    ) -> &[u8] {
        let length = data_range(&mut self.bytes, command).len().min(length);
        // At most MAX_TRANSFER, by `room_for`.
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

/// Puts `part` at the beginning of `space`; gives the rest, which is nothing where there is no room.
fn put<const N: usize>(space: &mut [u8], part: [u8; N]) -> &mut [u8] {
    match space.split_first_chunk_mut() {
        Some((place, rest)) => {
            *place = part;
            rest
        }
        None => &mut [],
    }
}

/// The part of `bytes` behind the header that the data of `command` may fill.
fn data_range<'a>(bytes: &'a mut [u8; BUFFER_SIZE], command: &Command) -> &'a mut [u8] {
    let room = match command.direction() {
        Direction::In => command.transfer_length(),
        Direction::Out => 0,
    };
    bytes
        .get_mut(START + RESPONSE_SIZE..START + RESPONSE_SIZE + room)
        .unwrap_or_default()
}

impl Default for ReplyBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for ReplyBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // 8 KiB of somebody's data are no help in a log.
        f.debug_struct("ReplyBuffer").finish_non_exhaustive()
    }
}

/// What a helper answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The command's status.
    pub status: Status,
    /// Sense data, zeros behind its end. Meaningful with CHECK CONDITION.
    pub sense: [u8; SENSE_SIZE],
    /// The device's data. Empty for PERSISTENT RESERVE OUT and for any status but GOOD.
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
    fn only_persistent_reserve_is_a_command() {
        for opcode in 0..=255 {
            assert_eq!(command(opcode, 8).is_ok(), opcode == 0x5e || opcode == 0x5f);
        }
    }

    #[test]
    fn more_than_8192_bytes_are_too_long() {
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
    fn reply_never_carries_more_than_the_allocation_length() {
        let command = command(0x5e, 8).unwrap();
        let mut reply = ReplyBuffer::new();
        let bytes = reply.encode(&command, Status::GOOD, &[0; 96], 8192);
        assert_eq!((bytes.len(), &bytes[4..8]), (104 + 8, &[0, 0, 0, 8][..]));
    }

    #[test]
    fn reply_to_persistent_reserve_out_never_carries_data() {
        let command = command(0x5f, 24).unwrap();
        let mut reply = ReplyBuffer::new();
        assert!(reply.data_area(&command).is_empty());
        let bytes = reply.encode(&command, Status::GOOD, &[0; 96], 24);
        assert_eq!((bytes.len(), &bytes[4..8]), (104, &[0, 0, 0, 0][..]));
    }

    #[test]
    fn data_area_shows_nothing_of_the_answer_before() {
        let mut reply = ReplyBuffer::new();
        reply.data_area(&command(0x5e, 64).unwrap()).fill(0xff);
        assert_eq!(reply.data_area(&command(0x5e, 32).unwrap()), [0; 32]);
    }
}
