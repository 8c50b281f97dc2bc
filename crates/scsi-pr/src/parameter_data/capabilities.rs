// SPDX-License-Identifier: MIT OR Apache-2.0

//! The data of REPORT CAPABILITIES.

use std::fmt;

use super::ParameterDataError;
use crate::reservation::ReservationType;
use crate::wire;

/// Value of LENGTH, which includes itself.
const LENGTH: u16 = 8;
/// Length of the data in bytes.
const DATA_LENGTH: usize = 8;

/// Bits of byte 2.
const RLR_C: u8 = 0x80;
const CRH: u8 = 0x10;
const SIP_C: u8 = 0x08;
const ATP_C: u8 = 0x04;
const PTPL_C: u8 = 0x01;
/// Bits of byte 3. ALLOW COMMANDS is between them.
const TMV: u8 = 0x80;
const PTPL_A: u8 = 0x01;

/// The persistent reservation features of a device (SPC-4, 6.15.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capabilities {
    /// `RLR_C`: the device supports REPLACE LOST RESERVATION.
    pub replace_lost_reservation: bool,
    /// `CRH`: RESERVE and RELEASE of SPC-2 succeed for the holder of a persistent reservation.
    pub compatible_reservation_handling: bool,
    /// `SIP_C`: the device supports `SPEC_I_PT`.
    pub specify_initiator_ports: bool,
    /// `ATP_C`: the device supports `ALL_TG_PT`.
    pub all_target_ports: bool,
    /// `PTPL_C`: the device can keep reservation and registrations through a power loss.
    pub persist_through_power_loss: bool,
    /// `PTPL_A`: the device currently does so.
    pub persist_through_power_loss_active: bool,
    /// Commands that a reservation does not restrict.
    pub allow_commands: AllowCommands,
    /// Supported types, or `None` if the device does not report them (`TMV` is zero).
    pub type_mask: Option<TypeMask>,
}

impl Capabilities {
    /// Decodes parameter data. Bytes after the first 8 are ignored.
    ///
    /// # Errors
    ///
    /// * [`ParameterDataError::TooShort`] if there are fewer than 8 bytes.
    /// * [`ParameterDataError::Length`] if LENGTH is less than 8.
    pub fn decode(bytes: &[u8]) -> Result<Self, ParameterDataError> {
        let Some([l0, l1, first, second, m0, m1, _, _]) = bytes.first_chunk::<DATA_LENGTH>() else {
            return Err(ParameterDataError::TooShort {
                needed: DATA_LENGTH,
                given: bytes.len(),
            });
        };
        let length = u16::from_be_bytes([*l0, *l1]);
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
            allow_commands: AllowCommands::from_byte(*second),
            type_mask: (second & TMV != 0).then(|| TypeMask::new(u16::from_be_bytes([*m0, *m1]))),
        })
    }

    /// Encodes the parameter data.
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
        let second = self.allow_commands.to_byte()
            | wire::flags([
                (self.type_mask.is_some(), TMV),
                (self.persist_through_power_loss_active, PTPL_A),
            ]);
        let [m0, m1] = self.type_mask.unwrap_or_default().get().to_be_bytes();
        [l0, l1, first, second, m0, m1, 0, 0]
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

/// ALLOW COMMANDS: the commands that a reservation does not restrict (SPC-4, 6.15.4).
///
/// A number from 0 to 7: 0 makes no statement, and the others are rows of a table in the standard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AllowCommands(u8);

impl AllowCommands {
    const SHIFT: u32 = 4;
    const MAX: u8 = 7;

    /// Creates the value with this number. Returns `None` if it exceeds 7.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number > Self::MAX {
            None
        } else {
            Some(AllowCommands(number))
        }
    }

    /// Returns the number, 0 to 7.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    const fn from_byte(byte: u8) -> Self {
        AllowCommands(byte >> Self::SHIFT & Self::MAX)
    }

    const fn to_byte(self) -> u8 {
        self.0 << Self::SHIFT
    }
}

impl fmt::Display for AllowCommands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// PERSISTENT RESERVATION TYPE MASK: a set of types (SPC-4, 6.15.4).
///
/// ```
/// # use scsi_pr::{ReservationType, TypeMask};
/// let mask = TypeMask::default().with(ReservationType::WriteExclusive);
/// assert!(mask.contains(ReservationType::WriteExclusive));
/// assert_eq!(mask.get(), 0x0200);
/// assert_eq!(TypeMask::ALL.get(), 0xea01);
/// assert_eq!(TypeMask::ALL.to_string(), "WR_EX EX_AC WR_EX_RO EX_AC_RO WR_EX_AR EX_AC_AR");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TypeMask(u16);

impl TypeMask {
    /// All six types.
    pub const ALL: TypeMask = TypeMask(0xea01);

    /// Creates the mask with this value. Byte 4 of the parameter data is the high byte.
    #[must_use]
    pub const fn new(value: u16) -> Self {
        TypeMask(value)
    }

    /// Returns the value, including reserved bits.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Returns the mask with a type added.
    #[must_use]
    pub const fn with(self, reservation_type: ReservationType) -> Self {
        TypeMask(self.0 | Self::bit(reservation_type))
    }

    /// Returns `true` if the mask contains the type.
    #[must_use]
    pub const fn contains(self, reservation_type: ReservationType) -> bool {
        self.0 & Self::bit(reservation_type) != 0
    }

    /// Returns the types in the mask, in the order of their numbers.
    pub fn types(self) -> impl Iterator<Item = ReservationType> {
        ReservationType::ALL
            .into_iter()
            .filter(move |reservation_type| self.contains(*reservation_type))
    }

    const fn bit(reservation_type: ReservationType) -> u16 {
        match reservation_type {
            ReservationType::WriteExclusive => 0x0200,
            ReservationType::ExclusiveAccess => 0x0800,
            ReservationType::WriteExclusiveRegistrantsOnly => 0x2000,
            ReservationType::ExclusiveAccessRegistrantsOnly => 0x4000,
            ReservationType::WriteExclusiveAllRegistrants => 0x8000,
            ReservationType::ExclusiveAccessAllRegistrants => 0x0001,
        }
    }
}

/// Returns the name of the type's field in the mask.
const fn field_name(reservation_type: ReservationType) -> &'static str {
    match reservation_type {
        ReservationType::WriteExclusive => "WR_EX",
        ReservationType::ExclusiveAccess => "EX_AC",
        ReservationType::WriteExclusiveRegistrantsOnly => "WR_EX_RO",
        ReservationType::ExclusiveAccessRegistrantsOnly => "EX_AC_RO",
        ReservationType::WriteExclusiveAllRegistrants => "WR_EX_AR",
        ReservationType::ExclusiveAccessAllRegistrants => "EX_AC_AR",
    }
}

impl FromIterator<ReservationType> for TypeMask {
    fn from_iter<T: IntoIterator<Item = ReservationType>>(types: T) -> Self {
        types.into_iter().fold(TypeMask::default(), TypeMask::with)
    }
}

impl fmt::Display for TypeMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.types().map(field_name).collect();
        match names.is_empty() {
            true => f.write_str("none"),
            false => f.write_str(&names.join(" ")),
        }
    }
}
