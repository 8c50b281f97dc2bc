// SPDX-License-Identifier: MIT OR Apache-2.0

//! Advice for RESERVATION CONFLICT: the registrations, the reservation, and the cause.
//!
//! No advice explains how to register: a port that is no longer registered may have been fenced,
//! and must then stay away.

use std::path::Path;

use scsi_pr::{
    Cdb, FullStatusDescriptor, Keys, OutServiceAction, ParameterList, ReservationDescriptor,
    ReservationKey, ReservationType, ScopeType,
};

use crate::error::{ConflictInfo, Rejection};
use crate::labels;
use crate::own_registration::OwnRegistration;

/// The only cause of a conflict with a query (SPC-2, 5.5.1).
const SPC2_RESERVATION: &str = "The device has an SPC-2 reservation (RESERVE, not PERSISTENT \
                                RESERVE OUT), which blocks even queries. Its holder ends it with \
                                RELEASE, or a reset of the device does.";

const MAY_BE_FENCED: &str = "A fenced node must stay away until the cluster permits it to return. \
                             To clean up after a cluster that is stopped on all nodes, see \
                             'prhctl clear --help'.";

const NOT_REGISTERED: &str = "This initiator port is not registered with the given key: it never \
                              was, it is registered with another key, or it was preempted. Use \
                              'prhctl status' to see the registrations.";

/// A conflict with PERSISTENT RESERVE OUT, and what the device returned after it.
struct Conflict<'a> {
    device: &'a Path,
    action: OutServiceAction,
    /// Scope and type in the command.
    scope_type: ScopeType,
    /// The sender's key, and the service action reservation key.
    given: (ReservationKey, ReservationKey),
    keys: &'a Keys,
    is_complete: bool,
    reservation: Option<ReservationDescriptor>,
    own: &'a OwnRegistration,
    registrations: &'a [FullStatusDescriptor],
}

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
            own,
            registrations,
        } => {
            // The queries have shown that the device can be reached.
            let unregistered = OwnRegistration::NotRegistered {
                earlier: vec![],
                other_paths: vec![],
            };
            let own = match **own {
                OwnRegistration::Unknown if rejection.is_unregistered_at_lio() => &unregistered,
                _ => own,
            };
            let conflict = Conflict {
                device: &rejection.device,
                action: command.service_action,
                scope_type: command.scope_type,
                given: given_keys(rejection.parameter_list.as_ref()),
                keys,
                is_complete: *missing_bytes == 0,
                reservation: reservation.reservation,
                own,
                registrations,
            };
            let mut lines = vec![conflict.registered_keys(), conflict.held()];
            lines.extend(conflict.causes());
            lines
        }
    }
}

impl Conflict<'_> {
    fn registered_keys(&self) -> String {
        let list: Vec<String> = self.keys.keys.iter().map(ToString::to_string).collect();
        let list = match list.is_empty() {
            true => "none".to_owned(),
            false => list.join(" "),
        };
        let more = if self.is_complete { "" } else { " and more" };
        format!("registered keys: {list}{more}")
    }

    fn held(&self) -> String {
        let Some(ReservationDescriptor { key, scope_type }) = self.reservation else {
            return "reservation: none".to_owned();
        };
        if self.is_shared() {
            return format!("reservation: {scope_type}");
        }
        let port = self
            .holder()
            .map_or_else(String::new, |id| format!(" by {id}"));
        format!("reservation: {scope_type}, held with key {key}{port}")
    }

    /// Returns whether all registrants hold the reservation.
    fn is_shared(&self) -> bool {
        let kind = self
            .reservation
            .and_then(|held| held.scope_type.reservation_type());
        kind.is_some_and(ReservationType::is_all_registrants)
    }

    /// Returns the TransportID of the only holder.
    fn holder(&self) -> Option<String> {
        let holder = self.registrations.iter().find(|one| one.holder)?;
        Some(port(holder))
    }

    fn holder_or_key(&self, held: ReservationDescriptor) -> String {
        let holder = self.holder();
        holder.unwrap_or_else(|| format!("The port with key {}", held.key))
    }

    fn causes(&self) -> Vec<String> {
        let (sender, new) = self.given;
        let is_registration = self.action == OutServiceAction::Register && !new.is_zero();
        match self.own {
            OwnRegistration::Registered(own) if is_registration && own.key != sender => {
                let key = own.key;
                vec![format!(
                    "This initiator port is already registered, with key {key}: to replace it, \
                     use --old-key {key}."
                )]
            }
            OwnRegistration::Registered(own) if own.key != sender => vec![format!(
                "This initiator port is registered with key {}, and not with {sender}.",
                own.key
            )],
            OwnRegistration::Registered(own) => self.causes_if_registered(own, new),
            OwnRegistration::NotRegistered {
                earlier,
                other_paths,
            } => self.causes_if_not_registered(sender, earlier, other_paths),
            OwnRegistration::Unknown => self.possible_causes(sender, new, is_registration),
        }
    }

    /// Returns the causes if `own` is the registration of the sender, with the given key.
    fn causes_if_registered(&self, own: &FullStatusDescriptor, new: ReservationKey) -> Vec<String> {
        use OutServiceAction::{Preempt, PreemptAndAbort, RegisterAndMove, Release, Reserve};
        match (self.action, self.reservation) {
            (Preempt | PreemptAndAbort, _) if self.is_unknown(new) => vec![no_victim(new)],
            (Reserve, Some(held)) if own.holder && held.scope_type != self.scope_type => {
                let key = own.key;
                let kind = held.scope_type;
                vec![format!(
                    "This initiator port holds the reservation already, with another type \
                     ({kind}). To change the type, release the reservation, or preempt its own \
                     key (--key {key} --victim {key})."
                )]
            }
            (Reserve, Some(held)) if !own.holder => self.held_by_other(own, held),
            (RegisterAndMove, Some(held)) if !own.holder => {
                let holder = self.holder_or_key(held);
                vec![format!(
                    "{holder} holds the reservation, and only the holder can move it."
                )]
            }
            // LIO; other devices report INVALID RELEASE OF PERSISTENT RESERVATION.
            (Release, Some(held)) if own.holder && held.scope_type != self.scope_type => {
                let kind = held.scope_type;
                vec![format!(
                    "The type of the reservation is {kind}: use --type with it."
                )]
            }
            _ => vec![NOT_REGISTERED.to_owned(), MAY_BE_FENCED.to_owned()],
        }
    }

    /// Returns the causes if the sender is registered, and another port holds the reservation.
    fn held_by_other(
        &self,
        own: &FullStatusDescriptor,
        held: ReservationDescriptor,
    ) -> Vec<String> {
        let kind = held.scope_type.reservation_type();
        let holder = self.holder_or_key(held);
        let mut text = format!("{holder} holds the reservation.");
        if kind.is_some_and(ReservationType::allows_registrants) {
            text.push_str(
                " This initiator port is a registrant, so it has access under this type without a \
                 reservation of its own.",
            );
        }
        let mut lines = vec![text];
        if held.key == own.key {
            lines.push(format!(
                "Both ports are registered with key {}. If they are those of two nodes, give each \
                 node its own key, because a PREEMPT of the key removes both registrations.",
                own.key
            ));
        }
        lines
    }

    /// Returns the causes if the sender is not registered. `earlier` and `other_paths` are the
    /// registrations of earlier sessions and of other paths of this host.
    fn causes_if_not_registered(
        &self,
        sender: ReservationKey,
        earlier: &[FullStatusDescriptor],
        other_paths: &[FullStatusDescriptor],
    ) -> Vec<String> {
        if let Some(other) = other_paths.iter().find(|one| one.key == sender) {
            return vec![format!(
                "This path is not registered; the key {sender} is that of another path of this \
                 host, {}. Use the multipath map, or register each path.",
                port(other)
            )];
        }
        if let Some(earlier) = earlier.iter().find(|one| one.key == sender) {
            return self.earlier_session(earlier);
        }
        let mut others = self.registrations.iter().filter(|one| one.key == sender);
        let cause = match others.next() {
            _ if sender.is_zero() => "This initiator port is not registered.".to_owned(),
            Some(other) => format!(
                "This initiator port is not registered; the key {sender} is that of {}.",
                port(other)
            ),
            None => format!(
                "This initiator port is not registered, and no port has the key {sender}: it \
                 never was, or it was preempted."
            ),
        };
        vec![cause, MAY_BE_FENCED.to_owned()]
    }

    /// Fencing would have removed the registration, so this advice explains how to replace it.
    fn earlier_session(&self, earlier: &FullStatusDescriptor) -> Vec<String> {
        let (device, key) = (self.device.display(), earlier.key);
        let held = self
            .reservation
            .and_then(|held| held.scope_type.reservation_type());
        let kind = held.map_or("we-ro", labels::short_type);
        vec![
            format!(
                "The key {key} is registered by {}, an earlier iSCSI session of this host (or \
                 another host with the same initiator name). The current session is not \
                 registered.",
                port(earlier)
            ),
            format!(
                "To take over, with a key NEW that is not registered: 'prhctl register {device} \
                 --key NEW', then 'prhctl preempt {device} --key NEW --victim {key} --type \
                 {kind}'."
            ),
        ]
    }

    /// Returns the causes if the registration of the sender is not known.
    fn possible_causes(
        &self,
        sender: ReservationKey,
        new: ReservationKey,
        is_registration: bool,
    ) -> Vec<String> {
        use OutServiceAction::{Preempt, PreemptAndAbort, RegisterAndMove, Reserve};
        let is_preempt = matches!(self.action, Preempt | PreemptAndAbort);
        let cause = match self.action {
            _ if is_registration && sender.is_zero() => {
                let cause = "This initiator port is already registered, so --old-key must name its \
                             key. Use 'prhctl status' to see the registrations.";
                return vec![cause.to_owned()];
            }
            _ if is_preempt && !self.is_unknown(sender) && self.is_unknown(new) => {
                return vec![no_victim(new)];
            }
            Reserve if self.reservation.is_some() && !self.is_unknown(sender) => {
                "Either another port holds the reservation, or this port holds it with another \
                 type, or only another port is registered with the given key: this one never was, \
                 or it was preempted. Use 'prhctl status' to see the registrations."
            }
            RegisterAndMove if !self.is_unknown(sender) => {
                "Either this initiator port does not hold the reservation, or only another port is \
                 registered with the given key. Use 'prhctl status' to see the registrations."
            }
            _ => NOT_REGISTERED,
        };
        vec![cause.to_owned(), MAY_BE_FENCED.to_owned()]
    }

    /// Returns whether no port is registered with a key.
    fn is_unknown(&self, key: ReservationKey) -> bool {
        self.is_complete && !self.keys.keys.contains(&key)
    }
}

fn no_victim(victim: ReservationKey) -> String {
    format!("No port is registered with the victim's key {victim}, so nothing to preempt.")
}

/// Returns the TransportID of a registration.
fn port(registration: &FullStatusDescriptor) -> String {
    match &registration.transport_id {
        Ok(id) => id.to_string(),
        Err(malformed) => malformed.to_string(),
    }
}

/// Returns RESERVATION KEY and SERVICE ACTION RESERVATION KEY.
fn given_keys(list: Option<&ParameterList>) -> (ReservationKey, ReservationKey) {
    match list {
        Some(ParameterList::Basic(list)) => {
            (list.reservation_key, list.service_action_reservation_key)
        }
        Some(ParameterList::RegisterAndMove(list)) => {
            (list.reservation_key, list.service_action_reservation_key)
        }
        None => Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The holder would get GOOD for its own type.
    #[test]
    fn owner_of_the_key_is_named() {
        let kind = ScopeType::from(ReservationType::WriteExclusiveRegistrantsOnly);
        let key = ReservationKey::new(0xa);
        let earlier = FullStatusDescriptor {
            key,
            all_tg_pt: false,
            holder: true,
            scope_type: kind,
            relative_target_port: 1.into(),
            transport_id: Ok("iqn.2024-01.example:a,i,0x00023d000001".parse().unwrap()),
        };
        let keys = Keys::default();
        let causes = |own: &OwnRegistration| {
            let conflict = Conflict {
                device: Path::new("/dev/sdc"),
                action: OutServiceAction::Reserve,
                scope_type: kind,
                given: (key, ReservationKey::ZERO),
                keys: &keys,
                is_complete: true,
                reservation: Some(ReservationDescriptor {
                    key,
                    scope_type: kind,
                }),
                own,
                registrations: std::slice::from_ref(&earlier),
            };
            conflict.causes().join(" ")
        };
        let unregistered = |earlier, other_paths| {
            causes(&OwnRegistration::NotRegistered {
                earlier,
                other_paths,
            })
        };
        let session = unregistered(vec![earlier.clone()], vec![]);
        assert!(session.contains("an earlier iSCSI session of this host"));
        assert!(session.contains("preempt /dev/sdc --key NEW --victim 0xa --type we-ro"));
        let other_path = unregistered(vec![], vec![earlier.clone()]);
        assert!(
            other_path.contains("another path of this host"),
            "{other_path}"
        );
        let foreign = unregistered(vec![], vec![]);
        assert!(foreign.contains("the key 0xa is that of iqn."), "{foreign}");
    }
}
