//! What is reserved, and against whom: scope and type of a persistent reservation.

use std::fmt;

/// SCOPE: how much of the logical unit a reservation covers (SPC-4, 6.15.3.3).
///
/// Reserved values (3 to 15) are not here: see [`ScopeType::scope`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scope {
    /// `LU_SCOPE`: all of it. The only scope since SPC-3.
    #[default]
    LogicalUnit,
    /// A range of blocks. Obsolete: before SPC-2.
    Extent,
    /// An element of a medium changer. Obsolete: SPC-2.
    Element,
}

impl Scope {
    /// The scope with this number, or `None` if it is reserved.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Scope::LogicalUnit),
            1 => Some(Scope::Extent),
            2 => Some(Scope::Element),
            _ => None,
        }
    }

    /// The number on the wire, 0 to 2.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Scope::LogicalUnit => 0,
            Scope::Extent => 1,
            Scope::Element => 2,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scope::LogicalUnit => "Logical Unit",
            Scope::Extent => "Extent (obsolete)",
            Scope::Element => "Element (obsolete)",
        })
    }
}

/// TYPE: what a reservation forbids, and who it does not bind (SPC-4, 6.15.3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReservationType {
    /// 1h: the holder alone may write.
    WriteExclusive,
    /// 3h: the holder alone may read and write.
    ExclusiveAccess,
    /// 5h: all registrants may write; one of them is the holder.
    WriteExclusiveRegistrantsOnly,
    /// 6h: all registrants may read and write; one of them is the holder.
    ExclusiveAccessRegistrantsOnly,
    /// 7h: all registrants may write; all of them are holders.
    WriteExclusiveAllRegistrants,
    /// 8h: all registrants may read and write; all of them are holders.
    ExclusiveAccessAllRegistrants,
}

impl ReservationType {
    /// The six types in the order of their numbers.
    pub const ALL: [ReservationType; 6] = [
        ReservationType::WriteExclusive,
        ReservationType::ExclusiveAccess,
        ReservationType::WriteExclusiveRegistrantsOnly,
        ReservationType::ExclusiveAccessRegistrantsOnly,
        ReservationType::WriteExclusiveAllRegistrants,
        ReservationType::ExclusiveAccessAllRegistrants,
    ];

    /// The type with this number, or `None` if it is reserved or obsolete.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(ReservationType::WriteExclusive),
            3 => Some(ReservationType::ExclusiveAccess),
            5 => Some(ReservationType::WriteExclusiveRegistrantsOnly),
            6 => Some(ReservationType::ExclusiveAccessRegistrantsOnly),
            7 => Some(ReservationType::WriteExclusiveAllRegistrants),
            8 => Some(ReservationType::ExclusiveAccessAllRegistrants),
            _ => None,
        }
    }

    /// The number on the wire, 1 to 8.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            ReservationType::WriteExclusive => 1,
            ReservationType::ExclusiveAccess => 3,
            ReservationType::WriteExclusiveRegistrantsOnly => 5,
            ReservationType::ExclusiveAccessRegistrantsOnly => 6,
            ReservationType::WriteExclusiveAllRegistrants => 7,
            ReservationType::ExclusiveAccessAllRegistrants => 8,
        }
    }

    /// Whether those whom it binds may not read either.
    #[must_use]
    pub const fn is_exclusive_access(self) -> bool {
        matches!(
            self,
            ReservationType::ExclusiveAccess
                | ReservationType::ExclusiveAccessRegistrantsOnly
                | ReservationType::ExclusiveAccessAllRegistrants
        )
    }

    /// Whether those whom it binds may read, but not write.
    #[must_use]
    pub const fn is_write_exclusive(self) -> bool {
        !self.is_exclusive_access()
    }

    /// Whether it has one holder and does not bind the other registrants.
    #[must_use]
    pub const fn is_registrants_only(self) -> bool {
        matches!(
            self,
            ReservationType::WriteExclusiveRegistrantsOnly
                | ReservationType::ExclusiveAccessRegistrantsOnly
        )
    }

    /// Whether every registrant is a holder.
    #[must_use]
    pub const fn is_all_registrants(self) -> bool {
        matches!(
            self,
            ReservationType::WriteExclusiveAllRegistrants
                | ReservationType::ExclusiveAccessAllRegistrants
        )
    }

    /// Whether a registration is enough not to be bound by it.
    #[must_use]
    pub const fn allows_registrants(self) -> bool {
        self.is_registrants_only() || self.is_all_registrants()
    }
}

impl fmt::Display for ReservationType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReservationType::WriteExclusive => "Write Exclusive",
            ReservationType::ExclusiveAccess => "Exclusive Access",
            ReservationType::WriteExclusiveRegistrantsOnly => "Write Exclusive - Registrants Only",
            ReservationType::ExclusiveAccessRegistrantsOnly => {
                "Exclusive Access - Registrants Only"
            }
            ReservationType::WriteExclusiveAllRegistrants => "Write Exclusive - All Registrants",
            ReservationType::ExclusiveAccessAllRegistrants => "Exclusive Access - All Registrants",
        })
    }
}

/// Scope and type in one byte, as CDBs and parameter data have it: scope in the high four bits.
///
/// Any byte is a value, so that what a device or a client sent can be passed on and shown as it is. Text
/// is what follows the word "type"; the scope is named where it is not the logical unit.
///
/// ```
/// # use scsi_pr::{ReservationType, Scope, ScopeType};
/// let byte = ScopeType::new(Scope::LogicalUnit, ReservationType::WriteExclusiveRegistrantsOnly);
/// assert_eq!(byte, ScopeType(0x05));
/// assert_eq!(byte.to_string(), "Write Exclusive - Registrants Only");
/// assert_eq!(ScopeType(0x14).to_string(), "4h (obsolete), scope Extent (obsolete)");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ScopeType(pub u8);

impl ScopeType {
    /// The byte for `scope` and `reservation_type`.
    #[must_use]
    pub const fn new(scope: Scope, reservation_type: ReservationType) -> Self {
        ScopeType(scope.code() << 4 | reservation_type.code())
    }

    /// The four bits of the scope, 0 to 15.
    #[must_use]
    pub const fn scope_code(self) -> u8 {
        self.0 >> 4
    }

    /// The four bits of the type, 0 to 15.
    #[must_use]
    pub const fn type_code(self) -> u8 {
        self.0 & 0x0f
    }

    /// The scope, or `None` if its number is reserved.
    #[must_use]
    pub const fn scope(self) -> Option<Scope> {
        Scope::from_code(self.scope_code())
    }

    /// The type, or `None` if its number is reserved or obsolete.
    #[must_use]
    pub const fn reservation_type(self) -> Option<ReservationType> {
        ReservationType::from_code(self.type_code())
    }
}

impl From<ReservationType> for ScopeType {
    /// The whole logical unit, reserved with this type.
    fn from(reservation_type: ReservationType) -> Self {
        ScopeType::new(Scope::LogicalUnit, reservation_type)
    }
}

impl From<u8> for ScopeType {
    fn from(byte: u8) -> Self {
        ScopeType(byte)
    }
}

impl From<ScopeType> for u8 {
    fn from(scope_type: ScopeType) -> Self {
        scope_type.0
    }
}

impl fmt::Display for ScopeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.reservation_type(), self.type_code()) {
            (Some(reservation_type), _) => reservation_type.fmt(f)?,
            // Read Shared, Read Exclusive and Shared Access of SPC-2.
            (None, code @ (0 | 2 | 4)) => write!(f, "{code:x}h (obsolete)")?,
            (None, code) => write!(f, "{code:x}h (reserved)")?,
        }
        match self.scope() {
            Some(Scope::LogicalUnit) => Ok(()),
            Some(scope) => write!(f, ", scope {scope}"),
            None => write!(f, ", scope {:x}h (reserved)", self.scope_code()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_six_types_and_three_scopes() {
        let types: Vec<u8> = (0..=255)
            .filter(|code| ReservationType::from_code(*code).is_some())
            .collect();
        assert_eq!(types, [1, 3, 5, 6, 7, 8]);
        assert_eq!(ReservationType::ALL.map(ReservationType::code), *types);
        assert_eq!(
            (0..=255)
                .filter_map(Scope::from_code)
                .map(Scope::code)
                .collect::<Vec<_>>(),
            [0, 1, 2]
        );
    }

    #[test]
    fn predicates_follow_the_table_of_the_standard() {
        // Number, exclusive access, registrants only, all registrants (SPC-4, 6.15.3.4).
        for (code, exclusive, only, all) in [
            (1, false, false, false),
            (3, true, false, false),
            (5, false, true, false),
            (6, true, true, false),
            (7, false, false, true),
            (8, true, false, true),
        ] {
            let reservation_type = ReservationType::from_code(code).unwrap();
            assert_eq!(reservation_type.is_exclusive_access(), exclusive, "{code}");
            assert_eq!(reservation_type.is_write_exclusive(), !exclusive, "{code}");
            assert_eq!(reservation_type.is_registrants_only(), only, "{code}");
            assert_eq!(reservation_type.is_all_registrants(), all, "{code}");
            assert_eq!(reservation_type.allows_registrants(), only || all, "{code}");
        }
    }

    #[test]
    fn reserved_and_obsolete_numbers_are_shown_as_such() {
        for (byte, text) in [
            (0x01, "Write Exclusive"),
            (0x08, "Exclusive Access - All Registrants"),
            (0x02, "2h (obsolete)"),
            (0x0f, "fh (reserved)"),
            (0x23, "Exclusive Access, scope Element (obsolete)"),
            (0x31, "Write Exclusive, scope 3h (reserved)"),
        ] {
            assert_eq!(ScopeType(byte).to_string(), text);
        }
    }
}
