//! What a command has to say, as values: nothing here knows whether it becomes text or JSON.

use std::path::PathBuf;

use scsi_pr::{
    Capabilities, FullStatus, Keys, OutServiceAction, ReservationData, ReservationKey,
    ReservationType, ScopeType, Sense, TransportId, Truncatable,
};

use crate::decode::Explanation;
use crate::demo::Demonstration;
use crate::lun::{Listed, View};

/// What a command that succeeded has to say.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A device was asked, or changed.
    Device(OnDevice),
    /// Bytes were explained.
    Explained(Explanation),
    /// A soft LUN was made or looked at.
    Lun(View),
    /// Soft LUNs were listed.
    Luns(Vec<Listed>),
    /// A failover was played.
    Played(Demonstration),
}

/// What came of a command to a device.
#[derive(Debug)]
pub(crate) struct OnDevice {
    /// The device, as the command line names it.
    pub(crate) device: PathBuf,
    /// The unit attentions that were delivered on the way.
    pub(crate) attentions: Vec<Sense>,
    /// What came of it.
    pub(crate) result: Answer,
}

/// What a device answered.
#[derive(Debug)]
pub(crate) enum Answer {
    /// To READ KEYS.
    Keys(Truncatable<Keys>),
    /// To READ RESERVATION.
    Reservation(ReservationData),
    /// To REPORT CAPABILITIES.
    Capabilities(Capabilities),
    /// To READ FULL STATUS.
    FullStatus(Truncatable<FullStatus>),
    /// To a PERSISTENT RESERVE OUT.
    Changed(Change),
}

/// What has been changed, or found to need no change.
#[derive(Debug)]
pub(crate) enum Change {
    /// A key was registered.
    Registered {
        /// The key.
        key: ReservationKey,
        /// How: REGISTER, or REGISTER AND IGNORE EXISTING KEY.
        action: OutServiceAction,
    },
    /// A key was unregistered.
    Unregistered(ReservationKey),
    /// The device was reserved.
    Reserved(ReservationKey, ReservationType),
    /// The reservation was given up.
    Released(ReservationKey, ScopeType),
    /// GOOD, but this other key holds the reservation, and RELEASE by anybody else does nothing.
    NotHolder(ReservationKey),
    /// There was no reservation, so nothing was sent.
    NothingToRelease,
    /// Everything was removed.
    Cleared,
    /// Somebody was preempted.
    Preempted {
        /// Whose key.
        victim: ReservationKey,
        /// How: PREEMPT, or PREEMPT AND ABORT.
        action: OutServiceAction,
    },
    /// The reservation was given to another initiator port.
    Moved {
        /// The key that the port is registered with now.
        key: ReservationKey,
        /// The port.
        to: TransportId,
    },
}

impl Change {
    /// The service action that it came of.
    pub(crate) const fn service_action(&self) -> OutServiceAction {
        match self {
            Change::Registered { action, .. } | Change::Preempted { action, .. } => *action,
            Change::Unregistered(_) => OutServiceAction::Register,
            Change::Reserved(..) => OutServiceAction::Reserve,
            Change::Released(..) | Change::NotHolder(_) | Change::NothingToRelease => {
                OutServiceAction::Release
            }
            Change::Cleared => OutServiceAction::Clear,
            Change::Moved { .. } => OutServiceAction::RegisterAndMove,
        }
    }

    /// Whether the device is known to have changed anything.
    pub(crate) const fn is_done(&self) -> bool {
        !matches!(self, Change::NotHolder(_) | Change::NothingToRelease)
    }
}
