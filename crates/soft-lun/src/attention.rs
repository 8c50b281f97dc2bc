//! Unit attentions: what a nexus has to be told before its next command is done.
//!
//! Source: SAM-5, unit attention conditions; the codes are those of SPC-4, 5.12.

use scsi_pr::AdditionalSense;

/// A unit attention condition that this crate establishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnitAttention {
    /// 29h/00h: power was lost since the last command.
    PowerOn,
    /// 2Ah/03h: another nexus cleared the unit.
    ReservationsPreempted,
    /// 2Ah/04h: a reservation of registrants is gone, or has changed its type.
    ReservationsReleased,
    /// 2Ah/05h: another nexus removed the registration of this one.
    RegistrationsPreempted,
}

impl UnitAttention {
    /// All of them.
    pub const ALL: [UnitAttention; 4] = [
        UnitAttention::PowerOn,
        UnitAttention::ReservationsPreempted,
        UnitAttention::ReservationsReleased,
        UnitAttention::RegistrationsPreempted,
    ];

    /// The code that goes with UNIT ATTENTION.
    #[must_use]
    pub const fn additional_sense(self) -> AdditionalSense {
        match self {
            UnitAttention::PowerOn => AdditionalSense::POWER_ON_RESET_OR_BUS_DEVICE_RESET,
            UnitAttention::ReservationsPreempted => AdditionalSense::RESERVATIONS_PREEMPTED,
            UnitAttention::ReservationsReleased => AdditionalSense::RESERVATIONS_RELEASED,
            UnitAttention::RegistrationsPreempted => AdditionalSense::REGISTRATIONS_PREEMPTED,
        }
    }
}

/// What waits for one nexus, first come first. Each condition is there once at most, which bounds
/// the queue of one that never asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct UnitAttentionQueue(Vec<UnitAttention>);

impl UnitAttentionQueue {
    pub(crate) fn establish(&mut self, attention: UnitAttention) {
        if !self.0.contains(&attention) {
            self.0.push(attention);
        }
    }

    /// The oldest, which is then no longer there.
    pub(crate) fn take(&mut self) -> Option<UnitAttention> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn as_slice(&self) -> &[UnitAttention] {
        &self.0
    }
}
