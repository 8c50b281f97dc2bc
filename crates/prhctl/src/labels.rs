//! Words for the standard's numbers, as command lines take them and JSON has them.

use scsi_pr::{OutServiceAction, ReservationType, Scope};

/// The short and the long word for a type.
pub(crate) const fn of_type(reservation_type: ReservationType) -> (&'static str, &'static str) {
    match reservation_type {
        ReservationType::WriteExclusive => ("we", "write-exclusive"),
        ReservationType::ExclusiveAccess => ("ea", "exclusive-access"),
        ReservationType::WriteExclusiveRegistrantsOnly => {
            ("we-ro", "write-exclusive-registrants-only")
        }
        ReservationType::ExclusiveAccessRegistrantsOnly => {
            ("ea-ro", "exclusive-access-registrants-only")
        }
        ReservationType::WriteExclusiveAllRegistrants => {
            ("we-ar", "write-exclusive-all-registrants")
        }
        ReservationType::ExclusiveAccessAllRegistrants => {
            ("ea-ar", "exclusive-access-all-registrants")
        }
    }
}

/// The word for a scope.
pub(crate) const fn of_scope(scope: Scope) -> &'static str {
    match scope {
        Scope::LogicalUnit => "logical-unit",
        Scope::Extent => "extent",
        Scope::Element => "element",
    }
}

/// The word for what is changed.
pub(crate) const fn of_out(action: OutServiceAction) -> &'static str {
    match action {
        OutServiceAction::Register => "register",
        OutServiceAction::Reserve => "reserve",
        OutServiceAction::Release => "release",
        OutServiceAction::Clear => "clear",
        OutServiceAction::Preempt => "preempt",
        OutServiceAction::PreemptAndAbort => "preempt-and-abort",
        OutServiceAction::RegisterAndIgnoreExistingKey => "register-and-ignore-existing-key",
        OutServiceAction::RegisterAndMove => "register-and-move",
        OutServiceAction::ReplaceLostReservation => "replace-lost-reservation",
    }
}
