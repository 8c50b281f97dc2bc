// SPDX-License-Identifier: MIT OR Apache-2.0

//! Scope and type of a persistent reservation.

use std::fmt;

wire_enum! {
    /// SCOPE: the part of the logical unit that a reservation covers (SPC-4, 6.15.3.3).
    ///
    /// The values 3 to 15 are reserved: see [`ScopeType::scope`].
    #[derive(Default)]
    pub enum Scope {
        /// 0h, `LU_SCOPE`: the whole logical unit. The only scope since SPC-3.
        #[default]
        LogicalUnit = 0x0, "Logical Unit";
        /// 1h: a range of blocks. Obsolete: before SPC-2.
        Extent = 0x1, "Extent (obsolete)";
        /// 2h: an element of a medium changer. Obsolete: SPC-2.
        Element = 0x2, "Element (obsolete)";
    }
}

wire_enum! {
    /// TYPE: the access that a reservation restricts, and its exceptions (SPC-4, 6.15.3.4).
    pub enum ReservationType {
        /// 1h: only the holder can write.
        WriteExclusive = 0x1, "Write Exclusive";
        /// 3h: only the holder can read and write.
        ExclusiveAccess = 0x3, "Exclusive Access";
        /// 5h: all registrants can write. One of them is the holder.
        WriteExclusiveRegistrantsOnly = 0x5, "Write Exclusive - Registrants Only";
        /// 6h: all registrants can read and write. One of them is the holder.
        ExclusiveAccessRegistrantsOnly = 0x6, "Exclusive Access - Registrants Only";
        /// 7h: all registrants can write. All of them are holders.
        WriteExclusiveAllRegistrants = 0x7, "Write Exclusive - All Registrants";
        /// 8h: all registrants can read and write. All of them are holders.
        ExclusiveAccessAllRegistrants = 0x8, "Exclusive Access - All Registrants";
    }
}

impl ReservationType {
    /// Returns `true` if initiator ports without access can neither read nor write.
    #[must_use]
    pub const fn is_exclusive_access(self) -> bool {
        matches!(
            self,
            ReservationType::ExclusiveAccess
                | ReservationType::ExclusiveAccessRegistrantsOnly
                | ReservationType::ExclusiveAccessAllRegistrants
        )
    }

    /// Returns `true` if initiator ports without access can read, but not write.
    #[must_use]
    pub const fn is_write_exclusive(self) -> bool {
        !self.is_exclusive_access()
    }

    /// Returns `true` if the reservation has one holder and does not restrict other registrants.
    #[must_use]
    pub const fn is_registrants_only(self) -> bool {
        matches!(
            self,
            ReservationType::WriteExclusiveRegistrantsOnly
                | ReservationType::ExclusiveAccessRegistrantsOnly
        )
    }

    /// Returns `true` if every registrant is a holder.
    #[must_use]
    pub const fn is_all_registrants(self) -> bool {
        matches!(
            self,
            ReservationType::WriteExclusiveAllRegistrants
                | ReservationType::ExclusiveAccessAllRegistrants
        )
    }

    /// Returns `true` if the reservation restricts no registrant.
    #[must_use]
    pub const fn allows_registrants(self) -> bool {
        self.is_registrants_only() || self.is_all_registrants()
    }
}

/// Scope and type in one byte, as in CDBs and parameter data: the scope is the high four bits.
///
/// Any byte is a value, so that a value from a device or a client can be forwarded and displayed
/// unchanged. The text form names the type, and the scope unless it is the logical unit.
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
    /// Creates the byte for `scope` and `reservation_type`.
    #[must_use]
    pub const fn new(scope: Scope, reservation_type: ReservationType) -> Self {
        ScopeType(scope.code() << 4 | reservation_type.code())
    }

    /// Returns the four bits of the scope, 0 to 15.
    #[must_use]
    pub const fn scope_code(self) -> u8 {
        self.0 >> 4
    }

    /// Returns the four bits of the type, 0 to 15.
    #[must_use]
    pub const fn type_code(self) -> u8 {
        self.0 & 0x0f
    }

    /// Returns the scope, or `None` if its number is reserved.
    #[must_use]
    pub const fn scope(self) -> Option<Scope> {
        Scope::from_code(self.scope_code())
    }

    /// Returns the type, or `None` if its number is reserved or obsolete.
    #[must_use]
    pub const fn reservation_type(self) -> Option<ReservationType> {
        ReservationType::from_code(self.type_code())
    }
}

impl From<ReservationType> for ScopeType {
    /// Returns the byte for a reservation of the whole logical unit.
    fn from(reservation_type: ReservationType) -> Self {
        ScopeType::new(Scope::LogicalUnit, reservation_type)
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
    fn type_and_scope_codes_match_the_standard() {
        let types: Vec<u8> = (0..=255)
            .filter(|code| ReservationType::from_code(*code).is_some())
            .collect();
        assert_eq!(types, [1, 3, 5, 6, 7, 8]);
        assert_eq!(ReservationType::ALL.map(ReservationType::code), *types);
        let scopes = (0..=255).filter_map(Scope::from_code).map(Scope::code);
        assert_eq!(scopes.collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn type_predicates_match_the_standard() {
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
    fn reserved_and_obsolete_codes_display_as_numbers() {
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
