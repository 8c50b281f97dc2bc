//! Service actions: what the two commands ask for and change.

use std::fmt;

/// What a PERSISTENT RESERVE IN command asks for (SPC-4, 6.15.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InServiceAction {
    /// 00h: all registered keys, answered with [`Keys`](crate::Keys).
    ReadKeys,
    /// 01h: the reservation, answered with [`ReservationData`](crate::ReservationData).
    ReadReservation,
    /// 02h: what the device can do, answered with [`Capabilities`](crate::Capabilities).
    ReportCapabilities,
    /// 03h: all registrations, answered with [`FullStatus`](crate::FullStatus).
    ReadFullStatus,
}

impl InServiceAction {
    /// The service actions in the order of their numbers.
    pub const ALL: [InServiceAction; 4] = [
        InServiceAction::ReadKeys,
        InServiceAction::ReadReservation,
        InServiceAction::ReportCapabilities,
        InServiceAction::ReadFullStatus,
    ];

    /// The service action with this number, or `None` if it is reserved.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(InServiceAction::ReadKeys),
            1 => Some(InServiceAction::ReadReservation),
            2 => Some(InServiceAction::ReportCapabilities),
            3 => Some(InServiceAction::ReadFullStatus),
            _ => None,
        }
    }

    /// The number on the wire, 0 to 3.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            InServiceAction::ReadKeys => 0,
            InServiceAction::ReadReservation => 1,
            InServiceAction::ReportCapabilities => 2,
            InServiceAction::ReadFullStatus => 3,
        }
    }
}

impl InServiceAction {
    /// Its name in the standard.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            InServiceAction::ReadKeys => "READ KEYS",
            InServiceAction::ReadReservation => "READ RESERVATION",
            InServiceAction::ReportCapabilities => "REPORT CAPABILITIES",
            InServiceAction::ReadFullStatus => "READ FULL STATUS",
        }
    }
}

impl fmt::Display for InServiceAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a PERSISTENT RESERVE OUT command changes (SPC-4, 6.16.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutServiceAction {
    /// 00h: registers a key, replaces it, or with the key zero removes it.
    Register,
    /// 01h: makes a reservation.
    Reserve,
    /// 02h: gives up the reservation.
    Release,
    /// 03h: removes the reservation and all registrations.
    Clear,
    /// 04h: removes the registrations with a key, and takes over their reservation.
    Preempt,
    /// 05h: the same, and aborts the commands of those whose registrations go.
    PreemptAndAbort,
    /// 06h: registers a key whatever was registered before.
    RegisterAndIgnoreExistingKey,
    /// 07h: registers a key for another initiator port and gives the reservation to it.
    RegisterAndMove,
    /// 08h: starts anew after the device lost its reservation information (since SPC-4 r26).
    ReplaceLostReservation,
}

impl OutServiceAction {
    /// The service actions in the order of their numbers.
    pub const ALL: [OutServiceAction; 9] = [
        OutServiceAction::Register,
        OutServiceAction::Reserve,
        OutServiceAction::Release,
        OutServiceAction::Clear,
        OutServiceAction::Preempt,
        OutServiceAction::PreemptAndAbort,
        OutServiceAction::RegisterAndIgnoreExistingKey,
        OutServiceAction::RegisterAndMove,
        OutServiceAction::ReplaceLostReservation,
    ];

    /// The service action with this number, or `None` if it is reserved.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(OutServiceAction::Register),
            1 => Some(OutServiceAction::Reserve),
            2 => Some(OutServiceAction::Release),
            3 => Some(OutServiceAction::Clear),
            4 => Some(OutServiceAction::Preempt),
            5 => Some(OutServiceAction::PreemptAndAbort),
            6 => Some(OutServiceAction::RegisterAndIgnoreExistingKey),
            7 => Some(OutServiceAction::RegisterAndMove),
            8 => Some(OutServiceAction::ReplaceLostReservation),
            _ => None,
        }
    }

    /// The number on the wire, 0 to 8.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            OutServiceAction::Register => 0,
            OutServiceAction::Reserve => 1,
            OutServiceAction::Release => 2,
            OutServiceAction::Clear => 3,
            OutServiceAction::Preempt => 4,
            OutServiceAction::PreemptAndAbort => 5,
            OutServiceAction::RegisterAndIgnoreExistingKey => 6,
            OutServiceAction::RegisterAndMove => 7,
            OutServiceAction::ReplaceLostReservation => 8,
        }
    }

    /// Whether scope and type of the CDB are ignored.
    pub(super) const fn ignores_type(self) -> bool {
        matches!(
            self,
            OutServiceAction::Register
                | OutServiceAction::Clear
                | OutServiceAction::RegisterAndIgnoreExistingKey
        )
    }
}

impl OutServiceAction {
    /// Its name in the standard.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            OutServiceAction::Register => "REGISTER",
            OutServiceAction::Reserve => "RESERVE",
            OutServiceAction::Release => "RELEASE",
            OutServiceAction::Clear => "CLEAR",
            OutServiceAction::Preempt => "PREEMPT",
            OutServiceAction::PreemptAndAbort => "PREEMPT AND ABORT",
            OutServiceAction::RegisterAndIgnoreExistingKey => "REGISTER AND IGNORE EXISTING KEY",
            OutServiceAction::RegisterAndMove => "REGISTER AND MOVE",
            OutServiceAction::ReplaceLostReservation => "REPLACE LOST RESERVATION",
        }
    }
}

impl fmt::Display for OutServiceAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_of_service_actions_agree() {
        for (code, action) in (0..).zip(InServiceAction::ALL) {
            assert_eq!(action.code(), code);
            assert_eq!(InServiceAction::from_code(code), Some(action));
        }
        for (code, action) in (0..).zip(OutServiceAction::ALL) {
            assert_eq!(action.code(), code);
            assert_eq!(OutServiceAction::from_code(code), Some(action));
        }
    }
}
