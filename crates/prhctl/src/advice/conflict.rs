// SPDX-License-Identifier: MIT OR Apache-2.0

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
                    OutServiceAction::Reserve if reservation.is_some() => {
                        reserve_cause(list, keys, is_complete).to_owned()
                    }
                    action => cause(action, list).to_owned(),
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

fn cause(action: OutServiceAction, list: Option<&ParameterList>) -> &'static str {
    match (action, basic_keys(list)) {
        (OutServiceAction::Register, Some((_, new))) if new.is_zero() => NOT_REGISTERED,
        (OutServiceAction::Register, Some((old, _))) if old.is_zero() => {
            "This initiator port is already registered, so --old-key must name its key. Use \
             'prhctl status' to see the registrations."
        }
        (OutServiceAction::Register, _) => {
            "This initiator port is not registered with the key of --old-key: it never was, it is \
             registered with another key, or it was preempted. A fenced node must stay away until \
             the cluster permits it to return. Use 'prhctl status' to see the registrations."
        }
        (OutServiceAction::RegisterAndMove, _) => {
            "Either this initiator port is not registered with the given key, or it does not hold \
             the reservation."
        }
        _ => NOT_REGISTERED,
    }
}

/// Returns the cause of a conflict with RESERVE on a reserved device.
fn reserve_cause(list: Option<&ParameterList>, keys: &Keys, is_complete: bool) -> &'static str {
    match basic_keys(list) {
        Some((sender, _)) if is_complete && !keys.keys.contains(&sender) => NOT_REGISTERED,
        _ => {
            "Either another port holds the reservation, or this port holds it with another type, \
             or only another port is registered with the given key: this one never was, or it was \
             preempted."
        }
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
