// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl release`: RELEASE.

use clap::Args;
use scsi_pr::{OutServiceAction, ReservationDescriptor, ReservationKey, ReservationType};

use super::change::{self, Change, ReleaseResult};
use super::{KeyArgs, Subcommand, reservation};
use crate::context::Context;
use crate::error::Error;
use crate::exit::Exit;
use crate::helper::HelperConnection;
use crate::labels;

pub(crate) const HELP: &str = "\
Release the reservation (PERSISTENT RESERVE OUT, RELEASE).

Only the holder can release a reservation; from other registrants, the device
accepts the command with GOOD and ignores it. prhctl reads the reservation
before and after and reports what happened. The type must be that of the
reservation. With --type, prhctl skips the first read and cannot tell which
port held the reservation.

Registrations remain. With the \"registrants only\" and \"all registrants\" types,
the other registrants receive a unit attention.

If there is no reservation, prhctl sends nothing and does not check the key.";
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl release /dev/sdb --key 0x123abc

Exit status 0; 36 if nothing was released, because there is no reservation or
another port holds it; 24 if the sender is not registered with this key; 5 if
--type is not the type of the reservation; otherwise one that 'prhctl --help'
lists. Some devices answer differently (docs/lio-differences.md).";

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(
    about = "Release the reservation",
    long_about = HELP, after_long_help = EXAMPLES
)]
pub(crate) struct ReleaseArgs {
    #[command(flatten)]
    pub(crate) sender: KeyArgs,
    #[arg(
        long = "type", value_name = "TYPE", value_parser = labels::RESERVATION_TYPE,
        allow_negative_numbers = true,
        hide_possible_values = true,
        help = concat!("Type [default: read from the device]:\n", type_names!())
    )]
    pub(crate) reservation_type: Option<ReservationType>,
}

/// Compares the reservation `before`, if it was read, with the reservation `after`, if the device
/// returned it. `key` is the sender's.
fn compare(
    key: ReservationKey,
    before: Option<ReservationDescriptor>,
    after: Option<Option<ReservationDescriptor>>,
) -> ReleaseResult {
    if let (Some(before), Some(Some(after))) = (before, after)
        && before == after
    {
        return ReleaseResult::Unchanged(after);
    }
    // A reservation held with another key was not released by this sender: someone else acted.
    match (before.filter(|held| can_hold(key, held)), after) {
        (_, None) => ReleaseResult::Unverified,
        (Some(before), Some(None)) => ReleaseResult::Released(key, before.scope_type),
        (Some(_), Some(Some(after))) => ReleaseResult::ReleasedThenReserved(key, after),
        (None, Some(None)) => ReleaseResult::NoReservationNow,
        (None, Some(Some(after))) => ReleaseResult::ReservedNow(after),
    }
}

/// Returns whether a registrant with `key` can be a holder of this reservation.
fn can_hold(key: ReservationKey, held: &ReservationDescriptor) -> bool {
    let reservation_type = held.scope_type.reservation_type();
    held.key == key || reservation_type.is_some_and(ReservationType::is_all_registrants)
}

impl Subcommand for ReleaseArgs {
    fn run(&self, context: &Context) -> Exit {
        let release = |helper: &mut HelperConnection<'_>| {
            let result = release(helper, self.sender.key, self.reservation_type);
            result.map(Change::Released)
        };
        let exit = |change: &Change| match change.is_changed() {
            Some(false) => Exit::UNCHANGED,
            Some(true) | None => Exit::SUCCESS,
        };
        context.change_with_exit(&self.sender.device, release, exit)
    }
}

fn release(
    helper: &mut HelperConnection<'_>,
    key: ReservationKey,
    reservation_type: Option<ReservationType>,
) -> Result<ReleaseResult, Error> {
    let (before, scope_type) = match reservation_type {
        Some(given) => (None, given.into()),
        None => match reservation::query(helper)?.reservation {
            Some(reservation) => (Some(reservation), reservation.scope_type),
            None => return Ok(ReleaseResult::NotReserved),
        },
    };
    let action = OutServiceAction::Release;
    change::send(helper, action, Some(scope_type), change::with_key(key))?;
    // RELEASE has ended with GOOD: a failure of this query must not hide that.
    let after = reservation::query(helper).ok();
    let after = after.map(|data| data.reservation);
    Ok(compare(key, before, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ReleaseResult::{NoReservationNow, ReservedNow, Unchanged, Unverified};

    #[test]
    fn release_result_compares_before_and_after() {
        let key = ReservationKey::new(1);
        let held = |key: u64, reservation_type: ReservationType| ReservationDescriptor {
            key: key.into(),
            scope_type: reservation_type.into(),
        };
        let we = ReservationType::WriteExclusive;
        let (own, other) = (held(1, we), held(2, we));
        let retyped = held(1, ReservationType::ExclusiveAccess);
        let released = ReleaseResult::Released(key, we.into());
        let replaced = |by| ReleaseResult::ReleasedThenReserved(key, by);
        for (before, after, expected, changed) in [
            (Some(own), Some(None), released, Some(true)),
            (
                Some(other),
                Some(Some(other)),
                Unchanged(other),
                Some(false),
            ),
            (Some(own), Some(Some(other)), replaced(other), Some(true)),
            (
                Some(own),
                Some(Some(retyped)),
                replaced(retyped),
                Some(true),
            ),
            (Some(other), Some(None), NoReservationNow, None),
            (Some(other), Some(Some(own)), ReservedNow(own), None),
            (None, Some(None), NoReservationNow, None),
            (None, Some(Some(other)), ReservedNow(other), None),
            (Some(own), None, Unverified, None),
        ] {
            let found = compare(key, before, after);
            assert_eq!(found, expected);
            assert_eq!(found.is_changed(), changed, "{found:?}");
        }
    }
}
