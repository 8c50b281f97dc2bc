//! The commands that change: PERSISTENT RESERVE OUT.

use scsi_pr::{
    BasicParameterList, OutServiceAction, ReservationKey, ReservationType, ScopeType, Status,
};

use crate::cli;
use crate::commands::release::{Change, Release};
use crate::commands::status;
use crate::error::{Conflict, Error, Inquiry, Refusal};
use crate::helper::Helper;

/// Registers a key.
///
/// # Errors
///
/// Why it was not done.
pub(crate) fn register(helper: &mut Helper<'_>, given: &cli::Register) -> Result<Change, Error> {
    let action = match given.ignore_existing {
        true => OutServiceAction::RegisterAndIgnoreExistingKey,
        false => OutServiceAction::Register,
    };
    let list = BasicParameterList {
        reservation_key: given.old_key.unwrap_or_default(),
        service_action_reservation_key: given.key,
        spec_i_pt: (!given.initiator.is_empty()).then(|| given.initiator.clone()),
        all_tg_pt: given.all_target_ports,
        aptpl: given.aptpl,
    };
    let aptpl = Aptpl::of(helper)?;
    send(helper, action, None, list)?;
    aptpl.warn(helper, given.aptpl);
    Ok(Change::Registered {
        key: given.key,
        action,
    })
}

/// Removes the sender's registration. APTPL counts for all registrations, whoever sends it, and so it
/// stays as it is.
///
/// # Errors
///
/// Why it was not done.
pub(crate) fn unregister(helper: &mut Helper<'_>, key: ReservationKey) -> Result<Change, Error> {
    let aptpl = Aptpl::of(helper)?;
    let list = BasicParameterList {
        aptpl: aptpl == Aptpl::Active,
        ..signed(key)
    };
    send(helper, OutServiceAction::Register, None, list)?;
    if aptpl == Aptpl::Unknown {
        helper.note(
            "the device did not say whether registrations outlast a loss of power; now they do not",
        );
    }
    Ok(Change::Unregistered(key))
}

/// Reserves the device.
///
/// # Errors
///
/// Why it was not done.
pub(crate) fn reserve(
    helper: &mut Helper<'_>,
    key: ReservationKey,
    reservation_type: ReservationType,
) -> Result<Change, Error> {
    let action = OutServiceAction::Reserve;
    send(helper, action, Some(reservation_type.into()), signed(key))?;
    Ok(Change::Reserved(key, reservation_type))
}

/// Gives up the reservation.
///
/// # Errors
///
/// Why it was not done.
pub(crate) fn release(
    helper: &mut Helper<'_>,
    key: ReservationKey,
    reservation_type: Option<ReservationType>,
) -> Result<Change, Error> {
    let (before, scope_type) = match reservation_type {
        Some(given) => (None, given.into()),
        None => match status::reservation(helper)?.reservation {
            Some(reservation) => (Some(reservation), reservation.scope_type),
            None => return Ok(Change::Released(Release::Nothing)),
        },
    };
    send(
        helper,
        OutServiceAction::Release,
        Some(scope_type),
        signed(key),
    )?;
    // A registrant that is no holder gets GOOD as well. If this cannot be read, GOOD is all there is.
    let after = status::reservation(helper).ok();
    let after = after.map(|data| data.reservation);
    Ok(Change::Released(Release::of(key, before, after)))
}

/// Removes the reservation and all registrations.
///
/// # Errors
///
/// Why it was not done.
pub(crate) fn clear(helper: &mut Helper<'_>, key: ReservationKey) -> Result<Change, Error> {
    send(helper, OutServiceAction::Clear, None, signed(key))?;
    Ok(Change::Cleared)
}

/// Removes somebody's registrations.
///
/// # Errors
///
/// Why it was not done.
pub(crate) fn preempt(helper: &mut Helper<'_>, given: &cli::Preempt) -> Result<Change, Error> {
    let action = match given.abort {
        true => OutServiceAction::PreemptAndAbort,
        false => OutServiceAction::Preempt,
    };
    let list = BasicParameterList {
        service_action_reservation_key: given.victim,
        ..signed(given.sender.key)
    };
    send(helper, action, Some(given.reservation_type.into()), list)?;
    Ok(Change::Preempted {
        victim: given.victim,
        action,
    })
}

/// Gives the reservation to another initiator port.
///
/// # Errors
///
/// Why it was not done.
pub(crate) fn register_and_move(
    helper: &mut Helper<'_>,
    given: &cli::Move,
) -> Result<Change, Error> {
    let list = scsi_pr::RegisterAndMove {
        reservation_key: given.sender.key,
        service_action_reservation_key: given.new_key,
        unregister: given.unregister,
        aptpl: given.aptpl,
        relative_target_port: given.target_port,
        transport_id: given.to.clone(),
    };
    // Devices compare scope and type with the reservation's.
    let held = status::reservation(helper)?.reservation;
    let scope_type = held.map(|reservation| reservation.scope_type);
    let aptpl = Aptpl::of(helper)?;
    send(helper, OutServiceAction::RegisterAndMove, scope_type, list)?;
    aptpl.warn(helper, given.aptpl);
    Ok(Change::Moved {
        key: given.new_key,
        to: given.to.clone(),
    })
}

/// Whether registrations and reservation outlast a loss of power (`PTPL_A`), before a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aptpl {
    Active,
    Inactive,
    /// The device does not say.
    Unknown,
}

impl Aptpl {
    /// Asks the device.
    ///
    /// # Errors
    ///
    /// That the helper cannot be asked any more, or that a unit attention speaks against the change.
    fn of(helper: &mut Helper<'_>) -> Result<Self, Error> {
        match status::capabilities(helper) {
            Ok(found) if found.persist_through_power_loss_active => Ok(Aptpl::Active),
            Ok(_) => Ok(Aptpl::Inactive),
            Err(error @ Error::Exchange { .. }) => Err(error),
            Err(Error::Refused(refusal)) if refusal.attention().is_some() => {
                Err(Error::Refused(refusal))
            }
            Err(_) => Ok(Aptpl::Unknown),
        }
    }

    /// Says it if a registration without APTPL has just ended that for everybody.
    fn warn(self, helper: &Helper<'_>, is_kept: bool) {
        if self == Aptpl::Active && !is_kept {
            helper.note(
                "registrations and reservation no longer outlast a loss of power, anybody's, as they \
                 did before; --aptpl keeps it",
            );
        }
    }
}

/// A parameter list with the sender's key and nothing else.
fn signed(key: ReservationKey) -> BasicParameterList {
    BasicParameterList {
        reservation_key: key,
        ..BasicParameterList::default()
    }
}

/// Sends it; with a conflict, also finds out who is registered and who holds the reservation.
///
/// # Errors
///
/// Why it was not done.
fn send(
    helper: &mut Helper<'_>,
    action: OutServiceAction,
    scope_type: Option<ScopeType>,
    list: impl Into<scsi_pr::ParameterList>,
) -> Result<(), Error> {
    let done = helper.change(action, scope_type.unwrap_or_default(), &list.into());
    done.map_err(|error| match error {
        Error::Refused(refusal) if refusal.status == Status::RESERVATION_CONFLICT => {
            let inquiry = inquire(helper).unwrap_or_else(|error| not_said(&error));
            Error::Refused(Box::new(Refusal {
                inquiry,
                ..*refusal
            }))
        }
        other => other,
    })
}

/// Who is registered, and who holds the reservation.
///
/// # Errors
///
/// Why the device does not say. That must not hide the conflict.
fn inquire(helper: &mut Helper<'_>) -> Result<Inquiry, Error> {
    let keys = status::keys(helper)?;
    Ok(Inquiry::Said(Conflict {
        keys: keys.value,
        missing_bytes: keys.missing,
        reservation: status::reservation(helper)?,
    }))
}

fn not_said(error: &Error) -> Inquiry {
    match error.refusal() {
        Some(refusal) if refusal.status == Status::RESERVATION_CONFLICT => Inquiry::Refused,
        _ => Inquiry::Silent,
    }
}
