//! The commands that change: PERSISTENT RESERVE OUT.

use scsi_pr::{
    BasicParameterList, OutServiceAction, ReservationKey, ReservationType, ScopeType, Status,
};

use crate::ask::Helper;
use crate::cli;
use crate::error::{Error, Refusal, Situation};
use crate::outcome::Change;
use crate::report;

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
    send(helper, action, None, list)?;
    Ok(Change::Registered {
        key: given.key,
        action,
    })
}

/// Removes the sender's registration.
///
/// # Errors
///
/// Why it was not done.
pub(crate) fn unregister(helper: &mut Helper<'_>, key: ReservationKey) -> Result<Change, Error> {
    send(helper, OutServiceAction::Register, None, signed(key))?;
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
    let scope_type = match reservation_type {
        Some(given) => given.into(),
        None => match report::reservation(helper)?.reservation {
            Some(reservation) => reservation.scope_type,
            None => return Ok(Change::NothingToRelease),
        },
    };
    send(
        helper,
        OutServiceAction::Release,
        Some(scope_type),
        signed(key),
    )?;
    // A registrant that is no holder gets GOOD as well. If this cannot be read, GOOD is all there is.
    let left = report::reservation(helper).ok();
    Ok(match left.and_then(|data| data.reservation) {
        Some(reservation) => Change::NotHolder(reservation.key),
        None => Change::Released(key, scope_type),
    })
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
    let held = report::reservation(helper)?.reservation;
    let scope_type = held.map(|reservation| reservation.scope_type);
    send(helper, OutServiceAction::RegisterAndMove, scope_type, list)?;
    Ok(Change::Moved {
        key: given.new_key,
        to: given.to.clone(),
    })
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
            Error::Refused(Box::new(Refusal {
                situation: situation(helper),
                ..*refusal
            }))
        }
        other => other,
    })
}

/// Who is registered, and who holds the reservation, if the device says so. What it does not say must
/// not hide the conflict.
fn situation(helper: &mut Helper<'_>) -> Option<Situation> {
    Some(Situation {
        keys: report::keys(helper).ok()?.value,
        reservation: report::reservation(helper).ok()?,
    })
}
