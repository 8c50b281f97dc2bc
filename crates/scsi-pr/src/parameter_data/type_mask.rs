//! Which types of reservation a device knows.

use std::fmt;

use crate::reservation::ReservationType;

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
    /// The six types.
    pub const ALL: TypeMask = TypeMask(0xea01);

    /// The mask with this value; byte 4 of the parameter data is its high half.
    #[must_use]
    pub const fn new(value: u16) -> Self {
        TypeMask(value)
    }

    /// The value, reserved bits included.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The mask with a type added.
    #[must_use]
    pub const fn with(self, reservation_type: ReservationType) -> Self {
        TypeMask(self.0 | Self::bit(reservation_type))
    }

    /// Whether a type is in it.
    #[must_use]
    pub const fn contains(self, reservation_type: ReservationType) -> bool {
        self.0 & Self::bit(reservation_type) != 0
    }

    /// The types in it, in the order of their numbers.
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

/// The field of the mask that stands for a type.
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
