//! Advice for RESERVATION CONFLICT: the registrations, the reservation, and the likely cause.
//!
//! No advice explains how to register: a port that is no longer registered may have been fenced,
//! and must then stay away.

use scsi_pr::{
    Cdb, Keys, OutServiceAction, ParameterList, ReservationDescriptor, ReservationKey,
    ReservationType,
};

use crate::error::{ConflictInfo, Rejection};

/// The only cause of a conflict with a query (SPC-2, 5.5.1).
const SPC2_RESERVATION: &str = "The device has an SPC-2 reservation (RESERVE, not PERSISTENT \
                                RESERVE OUT), which blocks even queries. Its holder ends it with \
                                RELEASE, or a reset of the device does.";

const NOT_REGISTERED: &str = "This initiator port is not registered with the given key: it never \
                              was, it is registered with another key, or it was preempted. A \
                              fenced node must stay away until the cluster permits it to return. \
                              Use 'prhctl status' to see the registrations.";

/// Returns the advice for a conflict.
pub(super) fn advice(rejection: &Rejection) -> Vec<String> {
    let Cdb::Out(command) = rejection.command else {
        return vec![SPC2_RESERVATION.to_owned()];
    };
    match &rejection.conflict {
        ConflictInfo::Unknown => Vec::new(),
        ConflictInfo::Denied => vec![SPC2_RESERVATION.to_owned()],
        ConflictInfo::Known {
            keys,
            missing_bytes,
            reservation,
        } => {
            let reservation = reservation.reservation;
            let is_complete = *missing_bytes == 0;
            let list = rejection.parameter_list.as_ref();
            vec![
                registered_keys(keys, is_complete),
                held(reservation),
                match command.service_action {
                    OutServiceAction::Preempt | OutServiceAction::PreemptAndAbort => {
                        preempt_cause(list, keys, is_complete)
                    }
                    action => {
                        let is_unregistered = is_complete
                            && basic_keys(list).is_some_and(|(own, _)| !keys.keys.contains(&own));
                        let is_reserved = reservation.is_some() && !is_unregistered;
                        cause(action, list, is_reserved).to_owned()
                    }
                },
            ]
        }
    }
}

fn registered_keys(keys: &Keys, is_complete: bool) -> String {
    let list: Vec<String> = keys.keys.iter().map(ToString::to_string).collect();
    let list = match list.is_empty() {
        true => "none".to_owned(),
        false => list.join(" "),
    };
    let more = if is_complete { "" } else { " and more" };
    format!("registered keys: {list}{more}")
}

fn held(reservation: Option<ReservationDescriptor>) -> String {
    let Some(ReservationDescriptor { key, scope_type }) = reservation else {
        return "reservation: none".to_owned();
    };
    let reservation_type = scope_type.reservation_type();
    match reservation_type.is_some_and(ReservationType::is_all_registrants) {
        true => format!("reservation: {scope_type}"),
        false => format!("reservation: {scope_type}, held with key {key}"),
    }
}

/// Returns the cause of a conflict. `is_reserved` if there is a reservation, and a port is, or may
/// be, registered with the sender's key.
fn cause(
    action: OutServiceAction,
    list: Option<&ParameterList>,
    is_reserved: bool,
) -> &'static str {
    match action {
        OutServiceAction::Register if is_unregister(list) => NOT_REGISTERED,
        OutServiceAction::Register if basic_keys(list).is_some_and(|(old, _)| old.is_zero()) => {
            "This initiator port is already registered, so --old-key must name its key. Use \
             'prhctl status' to see the registrations."
        }
        OutServiceAction::Register => {
            "This initiator port is not registered with the key of --old-key: it never was, it is \
             registered with another key, or it was preempted. A fenced node must stay away until \
             the cluster permits it to return. Use 'prhctl status' to see the registrations."
        }
        OutServiceAction::Reserve if is_reserved => {
            "Either another port holds the reservation, or this port holds it with another type, \
             or only another port is registered with the given key: this one never was, or it was \
             preempted."
        }
        OutServiceAction::RegisterAndMove => {
            "Either this initiator port is not registered with the given key, or it does not hold \
             the reservation."
        }
        _ => NOT_REGISTERED,
    }
}

/// Returns the cause of a conflict with PREEMPT. The registered keys show which of the two keys is
/// wrong, unless the list is incomplete.
fn preempt_cause(list: Option<&ParameterList>, keys: &Keys, is_complete: bool) -> String {
    let may_exist = |key| !is_complete || keys.keys.contains(&key);
    match basic_keys(list) {
        Some((sender, victim)) if may_exist(sender) && !may_exist(victim) => {
            format!("No port is registered with the victim's key {victim}, so nothing to preempt.")
        }
        _ => NOT_REGISTERED.to_owned(),
    }
}

/// Returns RESERVATION KEY and SERVICE ACTION RESERVATION KEY.
fn basic_keys(list: Option<&ParameterList>) -> Option<(ReservationKey, ReservationKey)> {
    match list? {
        ParameterList::Basic(list) => {
            Some((list.reservation_key, list.service_action_reservation_key))
        }
        ParameterList::RegisterAndMove(_) => None,
    }
}

/// Returns whether a REGISTER removes a registration, because its new key is zero.
fn is_unregister(list: Option<&ParameterList>) -> bool {
    basic_keys(list).is_some_and(|(_, key)| key.is_zero())
}
