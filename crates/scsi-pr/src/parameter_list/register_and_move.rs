//! The parameter list of REGISTER AND MOVE.

use std::fmt;

use super::{HEADER_LENGTH, ParameterListError};
use crate::ids::{RelativeTargetPort, ReservationKey};
use crate::transport_id::TransportId;
use crate::wire::{self, Reader};

const UNREG: u8 = 0x02;
const APTPL: u8 = 0x01;

/// The parameter list of REGISTER AND MOVE (SPC-4, 6.16.4): who gets the reservation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RegisterAndMove {
    /// The key that the sender is registered with.
    pub reservation_key: ReservationKey,
    /// The key to register for the new holder.
    pub service_action_reservation_key: ReservationKey,
    /// Removes the sender's registration (`UNREG`).
    pub unregister: bool,
    /// Keeps reservation and registrations when power is lost (`APTPL`).
    pub aptpl: bool,
    /// The target port through which the new holder speaks.
    pub relative_target_port: RelativeTargetPort,
    /// The initiator port of the new holder.
    pub transport_id: TransportId,
}

/// The first 24 bytes.
struct Header {
    reservation_key: ReservationKey,
    service_action_reservation_key: ReservationKey,
    flags: u8,
    relative_target_port: RelativeTargetPort,
    transport_id_length: u32,
}

impl Header {
    fn decode(fields: &mut Reader<'_>) -> Option<Self> {
        let reservation_key = fields.u64()?.into();
        let service_action_reservation_key = fields.u64()?.into();
        let [_, flags] = fields.array()?;
        Some(Header {
            reservation_key,
            service_action_reservation_key,
            flags,
            relative_target_port: fields.u16()?.into(),
            transport_id_length: fields.u32()?,
        })
    }
}

impl RegisterAndMove {
    /// Reads the list.
    ///
    /// Bytes after the TransportID are ignored, reserved fields too.
    ///
    /// # Errors
    ///
    /// [`ParameterListError`], and what a device answers to it.
    pub fn decode(bytes: &[u8]) -> Result<Self, ParameterListError> {
        let mut fields = Reader::new(bytes);
        let header = Header::decode(&mut fields).ok_or(ParameterListError::Length {
            length: bytes.len(),
        })?;
        let declared = wire::length_from_field(header.transport_id_length);
        let given = fields.rest().len();
        let cut_off = ParameterListError::TransportIdLength { declared, given };
        let transport_id = fields.bytes(declared).ok_or(cut_off)?;
        Ok(RegisterAndMove {
            reservation_key: header.reservation_key,
            service_action_reservation_key: header.service_action_reservation_key,
            unregister: header.flags & UNREG != 0,
            aptpl: header.flags & APTPL != 0,
            relative_target_port: header.relative_target_port,
            transport_id: TransportId::decode(transport_id)?,
        })
    }

    /// The bytes on the wire: 24 and the TransportID.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let id = self.transport_id.encode();
        let flags = wire::flags([(self.unregister, UNREG), (self.aptpl, APTPL)]);
        let mut bytes = Vec::with_capacity(HEADER_LENGTH.saturating_add(id.len()));
        bytes.extend(self.reservation_key.get().to_be_bytes());
        bytes.extend(self.service_action_reservation_key.get().to_be_bytes());
        bytes.extend([0, flags]);
        bytes.extend(self.relative_target_port.get().to_be_bytes());
        bytes.extend(wire::length_to_field(id.len()).to_be_bytes());
        bytes.extend(id);
        bytes
    }
}

impl fmt::Display for RegisterAndMove {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "key {}, service action key {}",
            self.reservation_key, self.service_action_reservation_key
        )?;
        if self.unregister {
            f.write_str(", UNREG")?;
        }
        if self.aptpl {
            f.write_str(", APTPL")?;
        }
        write!(
            f,
            ", to {} at target port {}",
            self.transport_id, self.relative_target_port
        )
    }
}
