//! The parameter list of all service actions but REGISTER AND MOVE.

use std::fmt;

use super::{HEADER_LENGTH, ParameterListError};
use crate::cdb::OutServiceAction;
use crate::ids::ReservationKey;
use crate::transport_id::{TransportId, TransportIds};
use crate::wire::{self, Reader};

const SPEC_I_PT: u8 = 0x08;
const ALL_TG_PT: u8 = 0x04;
const APTPL: u8 = 0x01;
/// Bytes of TRANSPORTID PARAMETER DATA LENGTH.
const LENGTH_FIELD: usize = 4;

/// The basic PERSISTENT RESERVE OUT parameter list (SPC-4, 6.16.3).
///
/// SPC-2 had a scope-specific address in bytes 16 to 19 and an extent length in bytes 22 and 23,
/// both obsolete: they are ignored when read and zero when written. Which of the fields count
/// depends on the service action; what does not is kept and shown nevertheless.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct BasicParameterList {
    /// The key that the sender is registered with.
    pub reservation_key: ReservationKey,
    /// The key that the command is about: to be registered, or to be preempted.
    pub service_action_reservation_key: ReservationKey,
    /// The initiator ports to register besides the sender's (`SPEC_I_PT`), if that bit is set.
    pub spec_i_pt: Option<Vec<TransportId>>,
    /// Registers on all target ports (`ALL_TG_PT`).
    pub all_tg_pt: bool,
    /// Keeps reservation and registrations when power is lost (`APTPL`).
    pub aptpl: bool,
}

/// The first 24 bytes.
struct Header {
    reservation_key: ReservationKey,
    service_action_reservation_key: ReservationKey,
    flags: u8,
}

impl Header {
    fn decode(fields: &mut Reader<'_>) -> Option<Self> {
        let reservation_key = fields.u64()?.into();
        let service_action_reservation_key = fields.u64()?.into();
        fields.skip(4)?;
        let [flags, _, _, _] = fields.array()?;
        Some(Header {
            reservation_key,
            service_action_reservation_key,
            flags,
        })
    }
}

impl BasicParameterList {
    /// Reads the list that came with `service_action`.
    ///
    /// Bytes after the TransportIDs are ignored, reserved fields too.
    ///
    /// # Errors
    ///
    /// [`ParameterListError`], and what a device answers to it.
    pub fn decode(
        service_action: OutServiceAction,
        bytes: &[u8],
    ) -> Result<Self, ParameterListError> {
        let wrong_length = ParameterListError::Length {
            length: bytes.len(),
        };
        let mut fields = Reader::new(bytes);
        let header = Header::decode(&mut fields).ok_or(wrong_length)?;
        let spec_i_pt = match (header.flags & SPEC_I_PT != 0, service_action) {
            (false, _) if fields.rest().is_empty() => None,
            (false, _) => return Err(wrong_length),
            (true, OutServiceAction::Register) => Some(decode_transport_ids(fields)?),
            (true, other) => return Err(ParameterListError::SpecIPt(other)),
        };
        Ok(BasicParameterList {
            reservation_key: header.reservation_key,
            service_action_reservation_key: header.service_action_reservation_key,
            spec_i_pt,
            all_tg_pt: header.flags & ALL_TG_PT != 0,
            aptpl: header.flags & APTPL != 0,
        })
    }

    /// Reads the first 24 bytes, which all lists have, and leaves out what comes after them. `None` if
    /// there are less.
    ///
    /// For whoever does not judge the list, as a device does, but has to know what it is about.
    #[must_use]
    pub fn without_ids(bytes: &[u8]) -> Option<Self> {
        let header = Header::decode(&mut Reader::new(bytes))?;
        Some(BasicParameterList {
            reservation_key: header.reservation_key,
            service_action_reservation_key: header.service_action_reservation_key,
            spec_i_pt: None,
            all_tg_pt: header.flags & ALL_TG_PT != 0,
            aptpl: header.flags & APTPL != 0,
        })
    }

    /// The bytes on the wire: 24 without `SPEC_I_PT`, otherwise 28 and the TransportIDs.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LENGTH);
        bytes.extend(self.reservation_key.get().to_be_bytes());
        bytes.extend(self.service_action_reservation_key.get().to_be_bytes());
        bytes.extend([0, 0, 0, 0, self.flags(), 0, 0, 0]);
        if let Some(ids) = &self.spec_i_pt {
            let ids: Vec<u8> = ids.iter().flat_map(TransportId::encode).collect();
            bytes.extend(wire::length_to_field(ids.len()).to_be_bytes());
            bytes.extend(ids);
        }
        bytes
    }

    fn flags(&self) -> u8 {
        wire::flags([
            (self.spec_i_pt.is_some(), SPEC_I_PT),
            (self.all_tg_pt, ALL_TG_PT),
            (self.aptpl, APTPL),
        ])
    }
}

/// Reads TRANSPORTID PARAMETER DATA LENGTH and that many bytes of TransportIDs.
///
/// # Errors
///
/// [`ParameterListError`]: they are cut off, or one is wrong.
fn decode_transport_ids(mut fields: Reader<'_>) -> Result<Vec<TransportId>, ParameterListError> {
    let cut_off = |declared, given| ParameterListError::TransportIdLength { declared, given };
    let given = fields.rest().len();
    let declared = fields.u32().ok_or_else(|| cut_off(LENGTH_FIELD, given))?;
    let declared = wire::length_from_field(declared);
    let given = fields.rest().len();
    let ids = fields
        .bytes(declared)
        .ok_or_else(|| cut_off(declared, given))?;
    Ok(TransportIds::new(ids).collect::<Result<_, _>>()?)
}

impl fmt::Display for BasicParameterList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "key {}, service action key {}",
            self.reservation_key, self.service_action_reservation_key
        )?;
        if self.all_tg_pt {
            f.write_str(", ALL_TG_PT")?;
        }
        if self.aptpl {
            f.write_str(", APTPL")?;
        }
        if self.spec_i_pt.is_some() {
            f.write_str(", SPEC_I_PT")?;
        }
        let ids = self.spec_i_pt.as_deref().unwrap_or_default();
        ids.iter().try_for_each(|id| write!(f, " {id}"))
    }
}
