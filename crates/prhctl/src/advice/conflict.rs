//! After RESERVATION CONFLICT: who is registered, who holds the reservation, and what the conflict
//! comes of.
//!
//! Nothing here says how to register: whoever is not registered any more may have been fenced, and then
//! has to stay away.

use scsi_pr::{Cdb, OutServiceAction, ParameterList, ReservationDescriptor, ReservationKey};

use crate::error::{Conflict, Inquiry, Refusal};

/// To ask is forbidden by one thing alone (SPC-2, 5.5.1).
const RESERVED_BY_SPC_2: &str = "A reservation of SPC-2 (RESERVE, not PERSISTENT RESERVE OUT) is in the \
     way, which forbids even to ask. Its holder ends it with RELEASE, and a reset of the device does.";

/// What may be so where no registration with the sender's key is.
const NOT_REGISTERED: &str = "This initiator port is not registered with the key given: it never was, it \
     is with another key, or it was preempted. A node that somebody has fenced has to stay away until \
     the cluster lets it back. 'prhctl status' shows who is registered.";

/// The lines about it.
pub(super) fn advice(refusal: &Refusal) -> Vec<String> {
    let Cdb::Out(command) = refusal.command else {
        return vec![RESERVED_BY_SPC_2.to_owned()];
    };
    match &refusal.inquiry {
        Inquiry::Silent => Vec::new(),
        Inquiry::Refused => vec![RESERVED_BY_SPC_2.to_owned()],
        Inquiry::Said(conflict) => {
            let mut lines = describe(conflict);
            let list = refusal.parameters.as_ref();
            lines.push(cause(command.service_action, list, conflict));
            lines
        }
    }
}

fn describe(conflict: &Conflict) -> Vec<String> {
    let keys: Vec<String> = conflict.keys.keys.iter().map(ToString::to_string).collect();
    let mut keys = match keys.is_empty() {
        true => "none".to_owned(),
        false => keys.join(" "),
    };
    if conflict.missing_bytes > 0 {
        keys += " and more";
    }
    let reservation = match &conflict.reservation.reservation {
        None => "none".to_owned(),
        Some(ReservationDescriptor { key, scope_type }) => match scope_type.reservation_type() {
            Some(kind) if kind.is_all_registrants() => scope_type.to_string(),
            _ => format!("{scope_type}, held with key {key}"),
        },
    };
    vec![
        format!("registered keys: {keys}"),
        format!("reservation: {reservation}"),
    ]
}

fn cause(action: OutServiceAction, list: Option<&ParameterList>, conflict: &Conflict) -> String {
    let text = match action {
        OutServiceAction::Register if is_unregistering(list) => NOT_REGISTERED,
        OutServiceAction::Register => {
            "Either this initiator port is registered already, and --old-key has to name its key, \
             or it is not registered with the key given: 'prhctl status' shows who is."
        }
        OutServiceAction::Reserve if conflict.reservation.reservation.is_some() => {
            "Either somebody else holds the reservation, or it has another type, or this initiator \
             port is not registered with the key given: it never was, or it was preempted."
        }
        OutServiceAction::Preempt | OutServiceAction::PreemptAndAbort => {
            return preempt(list, conflict);
        }
        OutServiceAction::RegisterAndMove => {
            "Either this initiator port is not registered with the key given, or it does not hold the \
             reservation."
        }
        _ => NOT_REGISTERED,
    };
    text.to_owned()
}

/// The list of keys tells which of the two keys it is, unless its end is missing.
fn preempt(list: Option<&ParameterList>, conflict: &Conflict) -> String {
    let is_there = |key| conflict.missing_bytes > 0 || conflict.keys.keys.contains(&key);
    match keys(list) {
        Some((sender, _)) if !is_there(sender) => NOT_REGISTERED.to_owned(),
        Some((_, victim)) if !is_there(victim) => {
            format!(
                "Nobody is registered with the victim's key {victim}: there is nobody to preempt."
            )
        }
        _ => NOT_REGISTERED.to_owned(),
    }
}

/// The sender's key, and that of the service action.
fn keys(list: Option<&ParameterList>) -> Option<(ReservationKey, ReservationKey)> {
    match list? {
        ParameterList::Basic(list) => {
            Some((list.reservation_key, list.service_action_reservation_key))
        }
        ParameterList::RegisterAndMove(_) => None,
    }
}

/// Whether a registration is to be removed: REGISTER of the key zero.
fn is_unregistering(list: Option<&ParameterList>) -> bool {
    keys(list).is_some_and(|(_, key)| key.is_zero())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use pr_helper_protocol::Response;
    use scsi_pr::{
        BasicParameterList, InServiceAction, Keys, PersistentReserveIn, PersistentReserveOut,
        ReservationData, ReservationType, ScopeType, Status,
    };

    const SENDER: ReservationKey = ReservationKey::new(0x22);
    const HOLDER: ReservationKey = ReservationKey::new(0x11);

    fn refused(command: Cdb) -> Refusal {
        let response = Response {
            status: Status::RESERVATION_CONFLICT,
            sense: [0; 96],
            data: Vec::new(),
        };
        Refusal::new(command, Path::new("/dev/sdb"), &response)
    }

    fn out(service_action: OutServiceAction) -> Refusal {
        let command = PersistentReserveOut {
            service_action,
            scope_type: ScopeType(1),
            parameter_list_length: 24,
            control: 0,
        };
        refused(command.into())
    }

    /// What is said where `keys` are registered, and one of them reserves.
    fn said(action: OutServiceAction, key: u64, action_key: u64, keys: &[u64]) -> Vec<String> {
        let list = BasicParameterList {
            reservation_key: key.into(),
            service_action_reservation_key: action_key.into(),
            ..BasicParameterList::default()
        };
        let mut refusal = out(action);
        refusal.parameters = Some(list.into());
        refusal.inquiry = Inquiry::Said(Conflict {
            keys: Keys {
                keys: keys.iter().copied().map(ReservationKey::new).collect(),
                ..Keys::default()
            },
            missing_bytes: 0,
            reservation: ReservationData {
                reservation: Some(ReservationDescriptor {
                    key: HOLDER,
                    scope_type: ReservationType::ExclusiveAccess.into(),
                }),
                ..ReservationData::default()
            },
        });
        advice(&refusal)
    }

    #[test]
    fn it_says_who_holds_the_reservation() {
        assert_eq!(advice(&out(OutServiceAction::Reserve)), [""; 0]);
        let lines = said(OutServiceAction::Reserve, 0x22, 0, &[0x22, 0x11]);
        assert_eq!(lines[0], "registered keys: 0x22 0x11");
        assert_eq!(
            lines[1],
            "reservation: Exclusive Access, held with key 0x11"
        );
        assert!(
            lines[2].starts_with("Either somebody else holds"),
            "{lines:?}"
        );
    }

    #[test]
    fn nobody_is_led_to_register_who_may_have_been_fenced() {
        for action in [
            OutServiceAction::Clear,
            OutServiceAction::Release,
            OutServiceAction::Reserve,
            OutServiceAction::Preempt,
        ] {
            let lines = said(action, SENDER.get(), 0x11, &[0x11]);
            let last = lines.last().unwrap();
            assert!(last.contains("preempted"), "{action}: {last}");
            assert!(!last.contains("prhctl register"), "{action}: {last}");
        }
    }

    #[test]
    fn an_unregistration_is_not_told_of_an_option_that_it_has_not() {
        let lines = said(OutServiceAction::Register, 0x22, 0, &[0x11]);
        assert!(!lines.concat().contains("--old-key"), "{lines:?}");
        let lines = said(OutServiceAction::Register, 0, 0x22, &[0x11]);
        assert!(lines.concat().contains("--old-key"), "{lines:?}");
    }

    #[test]
    fn the_keys_tell_whose_key_a_preemption_has_wrong() {
        let last = |keys: &[u64]| {
            said(OutServiceAction::Preempt, 0x22, 0x33, keys)
                .pop()
                .unwrap()
        };
        assert!(last(&[0x22]).contains("victim's key 0x33"));
        assert!(last(&[0x33]).contains("not registered with the key given"));
        // Another port has the sender's key.
        assert!(last(&[0x22, 0x33]).contains("not registered with the key given"));
    }

    #[test]
    fn a_reservation_of_spc_2_forbids_even_to_ask() {
        let command = PersistentReserveIn {
            service_action: InServiceAction::ReadKeys,
            allocation_length: 8,
            control: 0,
        };
        assert_eq!(advice(&refused(command.into())), [RESERVED_BY_SPC_2]);
        let mut refusal = out(OutServiceAction::Clear);
        refusal.inquiry = Inquiry::Refused;
        assert_eq!(advice(&refusal), [RESERVED_BY_SPC_2]);
    }
}
