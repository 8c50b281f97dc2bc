//! What a command has to say, as values: nothing here knows whether it becomes text or JSON.

use std::path::PathBuf;

use scsi_pr::{
    Capabilities, FullStatus, Keys, OutServiceAction, ReservationData, ReservationDescriptor,
    ReservationKey, ReservationType, ScopeType, Sense, TransportId, Truncatable,
};

use crate::commands::decode::Explanation;
use crate::commands::demo::Demonstration;
use crate::commands::lun::{Listed, View};

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
    /// Somebody wanted to give up a reservation.
    Released(Release),
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
            Change::Released(_) => OutServiceAction::Release,
            Change::Cleared => OutServiceAction::Clear,
            Change::Moved { .. } => OutServiceAction::RegisterAndMove,
        }
    }

    /// Whether the device has changed anything; `None` if that is not known.
    pub(crate) const fn is_done(&self) -> Option<bool> {
        match self {
            Change::Released(release) => release.is_done(),
            _ => Some(true),
        }
    }
}

/// What came of RELEASE. A device takes it with GOOD also from a registrant that is not the holder, and
/// does nothing then: only what is reserved before and after tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// There was no reservation, so nothing was sent.
    Nothing,
    /// It was given up.
    Done(ReservationKey, ScopeType),
    /// It was given up, and there is another one now.
    Replaced(ReservationKey, ReservationDescriptor),
    /// It is as it was.
    Still(ReservationDescriptor),
    /// Nothing is reserved; before, nobody looked, or it was held with another key.
    Gone,
    /// This is reserved; before, nobody looked, or it was held with another key.
    Held(ReservationDescriptor),
    /// GOOD, and what is reserved then the device did not say.
    Unknown,
}

impl Release {
    /// What it was, by what the sender's `key` found `before`, if it looked, and what there is `after`, if
    /// the device says.
    pub(crate) fn of(
        key: ReservationKey,
        before: Option<ReservationDescriptor>,
        after: Option<Option<ReservationDescriptor>>,
    ) -> Self {
        if let (Some(before), Some(Some(after))) = (before, after)
            && before == after
        {
            return Release::Still(after);
        }
        // What was held with another key, the sender has not given up: somebody else has been there.
        match (before.filter(|held| may_be_of(key, held)), after) {
            (_, None) => Release::Unknown,
            (Some(before), Some(None)) => Release::Done(key, before.scope_type),
            (Some(_), Some(Some(after))) => Release::Replaced(key, after),
            (None, Some(None)) => Release::Gone,
            (None, Some(Some(after))) => Release::Held(after),
        }
    }

    const fn is_done(self) -> Option<bool> {
        match self {
            Release::Nothing | Release::Still(_) => Some(false),
            Release::Done(..) | Release::Replaced(..) => Some(true),
            Release::Gone | Release::Held(_) | Release::Unknown => None,
        }
    }
}

/// Whether a registrant with `key` can be a holder.
fn may_be_of(key: ReservationKey, held: &ReservationDescriptor) -> bool {
    let kind = held.scope_type.reservation_type();
    held.key == key || kind.is_some_and(|kind| kind.is_all_registrants())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_judged_by_what_is_reserved_before_and_after() {
        let key = ReservationKey::new(1);
        let held = |key: u64, kind: ReservationType| ReservationDescriptor {
            key: key.into(),
            scope_type: kind.into(),
        };
        let kind = ReservationType::WriteExclusive;
        let (own, other) = (held(1, kind), held(2, kind));
        let of_other_type = held(1, ReservationType::ExclusiveAccess);
        for (before, after, expected, done) in [
            (
                Some(own),
                Some(None),
                Release::Done(key, kind.into()),
                Some(true),
            ),
            (
                Some(other),
                Some(Some(other)),
                Release::Still(other),
                Some(false),
            ),
            (
                Some(own),
                Some(Some(other)),
                Release::Replaced(key, other),
                Some(true),
            ),
            (
                Some(own),
                Some(Some(of_other_type)),
                Release::Replaced(key, of_other_type),
                Some(true),
            ),
            (Some(other), Some(None), Release::Gone, None),
            (Some(other), Some(Some(own)), Release::Held(own), None),
            (None, Some(None), Release::Gone, None),
            (None, Some(Some(other)), Release::Held(other), None),
            (Some(own), None, Release::Unknown, None),
        ] {
            let found = Release::of(key, before, after);
            assert_eq!(found, expected);
            assert_eq!(found.is_done(), done, "{found:?}");
        }
    }
}
