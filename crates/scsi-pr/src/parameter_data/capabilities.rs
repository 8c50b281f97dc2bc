//! The answer to REPORT CAPABILITIES.

use std::fmt;

use super::{ParameterDataError, TypeMask};
use crate::wire;

/// LENGTH, and the bytes of the data.
const LENGTH: u16 = 8;
const DATA_LENGTH: usize = 8;

/// Bits of byte 2.
const RLR_C: u8 = 0x80;
const CRH: u8 = 0x10;
const SIP_C: u8 = 0x08;
const ATP_C: u8 = 0x04;
const PTPL_C: u8 = 0x01;
/// Bits of byte 3, with ALLOW COMMANDS between them.
const TMV: u8 = 0x80;
const PTPL_A: u8 = 0x01;

/// What a device can do with persistent reservations (SPC-4, 6.15.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capabilities {
    /// `RLR_C`: knows REPLACE LOST RESERVATION.
    pub replace_lost_reservation: bool,
    /// `CRH`: RESERVE and RELEASE of SPC-2 succeed for the holder of a persistent reservation.
    pub compatible_reservation_handling: bool,
    /// `SIP_C`: knows `SPEC_I_PT`.
    pub specify_initiator_ports: bool,
    /// `ATP_C`: knows `ALL_TG_PT`.
    pub all_target_ports: bool,
    /// `PTPL_C`: can keep reservation and registrations when power is lost.
    pub persist_through_power_loss: bool,
    /// `PTPL_A`: does so now.
    pub persist_through_power_loss_active: bool,
    /// Which commands pass through a reservation.
    pub allow_commands: AllowCommands,
    /// The types that it knows; `None` where it does not say (`TMV` is zero).
    pub type_mask: Option<TypeMask>,
}

impl Capabilities {
    /// Reads parameter data; bytes after the first 8 are ignored.
    ///
    /// # Errors
    ///
    /// [`ParameterDataError`]: there are less than 8 bytes, or LENGTH says so.
    pub fn decode(bytes: &[u8]) -> Result<Self, ParameterDataError> {
        let [l0, l1, first, second, m0, m1, _, _] =
            *bytes
                .first_chunk::<DATA_LENGTH>()
                .ok_or(ParameterDataError::TooShort {
                    needed: DATA_LENGTH,
                    given: bytes.len(),
                })?;
        let length = u16::from_be_bytes([l0, l1]);
        if length < LENGTH {
            return Err(ParameterDataError::Length(length.into()));
        }
        Ok(Capabilities {
            replace_lost_reservation: first & RLR_C != 0,
            compatible_reservation_handling: first & CRH != 0,
            specify_initiator_ports: first & SIP_C != 0,
            all_target_ports: first & ATP_C != 0,
            persist_through_power_loss: first & PTPL_C != 0,
            persist_through_power_loss_active: second & PTPL_A != 0,
            allow_commands: AllowCommands::from_byte(second),
            type_mask: (second & TMV != 0).then(|| TypeMask::new(u16::from_be_bytes([m0, m1]))),
        })
    }

    /// The whole of the parameter data.
    #[must_use]
    pub fn encode(&self) -> [u8; DATA_LENGTH] {
        let [l0, l1] = LENGTH.to_be_bytes();
        let first = wire::flags([
            (self.replace_lost_reservation, RLR_C),
            (self.compatible_reservation_handling, CRH),
            (self.specify_initiator_ports, SIP_C),
            (self.all_target_ports, ATP_C),
            (self.persist_through_power_loss, PTPL_C),
        ]);
        let second = wire::flags([
            (self.type_mask.is_some(), TMV),
            (self.persist_through_power_loss_active, PTPL_A),
        ]);
        let [m0, m1] = self.type_mask.unwrap_or_default().get().to_be_bytes();
        [
            l0,
            l1,
            first,
            second | self.allow_commands.in_place(),
            m0,
            m1,
            0,
            0,
        ]
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("capabilities")?;
        [
            (self.replace_lost_reservation, "RLR_C"),
            (self.compatible_reservation_handling, "CRH"),
            (self.specify_initiator_ports, "SIP_C"),
            (self.all_target_ports, "ATP_C"),
            (self.persist_through_power_loss, "PTPL_C"),
            (self.persist_through_power_loss_active, "PTPL_A"),
        ]
        .iter()
        .filter(|(set, _)| *set)
        .try_for_each(|(_, name)| write!(f, " {name}"))?;
        write!(f, ", allow commands {}", self.allow_commands)?;
        self.type_mask
            .map_or(Ok(()), |mask| write!(f, ", types {mask}"))
    }
}

/// ALLOW COMMANDS: which commands pass through a reservation, a number from 0 to 7 (SPC-4, 6.15.4).
///
/// 0 says nothing; the others are rows of a table of the standard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AllowCommands(u8);

impl AllowCommands {
    const SHIFT: u32 = 4;
    const MAX: u8 = 7;

    /// The row with this number, or `None` above 7.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number > Self::MAX {
            None
        } else {
            Some(AllowCommands(number))
        }
    }

    /// The number, 0 to 7.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    const fn from_byte(byte: u8) -> Self {
        AllowCommands(byte >> Self::SHIFT & Self::MAX)
    }

    const fn in_place(self) -> u8 {
        self.0 << Self::SHIFT
    }
}

impl fmt::Display for AllowCommands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
