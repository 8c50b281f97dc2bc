// SPDX-License-Identifier: MIT OR Apache-2.0

//! Advice for a response with a status other than GOOD.

use std::path::Path;

use scsi_pr::{
    AdditionalSense, Cdb, InServiceAction, OutServiceAction, ParameterList, ReservationKey, Sense,
    SenseKey, Status,
};

use super::{MAY_HAVE_BEEN_EXECUTED, conflict, directory, is_multipath_map, is_special_file};
use crate::block_device::{BlockDevice, PartKind};
use crate::error::{ConflictInfo, Rejection};
use crate::labels;

const NOT_A_DEVICE: &str = "This is not a SCSI device but a file, or a port of a soft LUN in a \
                            directory that the helper was not started with (--soft-luns).";

/// Returns the advice for a rejected command.
pub(super) fn advice(rejection: &Rejection) -> Vec<String> {
    let command = rejection.command;
    if let Some(cause) = rejection
        .sense
        .and_then(|sense| decided_cause(rejection, sense))
    {
        return vec![cause];
    }
    let lines: Vec<&str> = match (rejection.status, &rejection.sense) {
        _ if rejection.is_conflict() && !matches!(rejection.conflict, ConflictInfo::Unknown) => {
            return conflict::advice(rejection);
        }
        (Status::RESERVATION_CONFLICT, _) => return conflict::advice(rejection),
        (Status::BUSY | Status::TASK_SET_FULL, _) => busy(command),
        (Status::TASK_ABORTED, _) if is_change(command) => vec![MAY_HAVE_BEEN_EXECUTED],
        (Status::CHECK_CONDITION, Some(sense))
            if sense.code == AdditionalSense::IO_PROCESS_TERMINATED
                && rejection.device.is_dir() =>
        {
            return vec![directory(&rejection.device)];
        }
        (Status::CHECK_CONDITION, Some(sense)) if sense.key == SenseKey::AbortedCommand => {
            return aborted(rejection, sense.code);
        }
        (Status::CHECK_CONDITION, Some(sense)) => {
            check_condition(rejection, sense).into_iter().collect()
        }
        (Status::CHECK_CONDITION, None) => {
            let device = rejection.device.display();
            return vec![format!(
                "Check the kernel's log for messages about {device}: dmesg."
            )];
        }
        _ => Vec::new(),
    };
    lines.into_iter().map(str::to_owned).collect()
}

/// Returns the cause if sysfs or the reservation decides between those that the sense data permit.
fn decided_cause(rejection: &Rejection, sense: Sense) -> Option<String> {
    if sense.key != SenseKey::IllegalRequest {
        return None;
    }
    if sense.code == AdditionalSense::INVALID_COMMAND_OPERATION_CODE {
        return unsupported(&rejection.device);
    }
    let ConflictInfo::Known { reservation, .. } = &rejection.conflict else {
        return None;
    };
    match (sense.code, reservation.reservation) {
        (AdditionalSense::INVALID_FIELD_IN_CDB, None) => {
            Some("There is no reservation to move.".to_owned())
        }
        (AdditionalSense::INVALID_FIELD_IN_CDB, Some(_)) => {
            Some("The device does not support REGISTER AND MOVE.".to_owned())
        }
        (AdditionalSense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION, Some(held)) => {
            let kind = held.scope_type.reservation_type().map(labels::short_type)?;
            Some(format!(
                "The reservation has another type: use --type {kind}."
            ))
        }
        _ => None,
    }
}

/// Returns why a helper or a device has no PERSISTENT RESERVE commands.
fn unsupported(device: &Path) -> Option<String> {
    let device = BlockDevice::from_path(device)?;
    let text = match device.part() {
        Some(part) if part.kind != PartKind::Path => format!(
            "The helper accepts no command to a partition or a volume. Use {}.",
            part.of.join(", ")
        ),
        _ if device.is_multipath_map() => {
            "The storage system does not support persistent reservations, or the helper does not \
             support multipath maps, as QEMU's helper without libmpathpersist."
                .to_owned()
        }
        _ if device.is_scsi_disk() => {
            "The storage system does not support persistent reservations, or has disabled them for \
             this disk."
                .to_owned()
        }
        _ => "This is not a SCSI disk. List them with lsblk -S.".to_owned(),
    };
    Some(text)
}

const fn is_change(command: Cdb) -> bool {
    matches!(command, Cdb::Out(_))
}

/// Helpers report BUSY also for a command that the host adapter or the driver gave up, which may
/// have reached the device.
fn busy(command: Cdb) -> Vec<&'static str> {
    const CAUSE: &str = "The device is overloaded, or the helper is overloaded or could not \
                         receive the device, which it logs.";
    match is_change(command) {
        false => vec!["prhctl retried for a second.", CAUSE],
        true => vec![
            "prhctl did not retry, because BUSY can also mean that the command was interrupted.",
            MAY_HAVE_BEEN_EXECUTED,
            CAUSE,
        ],
    }
}

fn check_condition(rejection: &Rejection, sense: &Sense) -> Option<&'static str> {
    match sense.key {
        SenseKey::IllegalRequest => illegal_request(rejection, sense.code),
        SenseKey::UnitAttention => Some(unit_attention(sense.code)),
        SenseKey::HardwareError
            if sense.code == AdditionalSense::INTERNAL_TARGET_FAILURE
                && !is_special_file(&rejection.device) =>
        {
            Some("The files of the soft LUN are unusable; check the helper's log.")
        }
        _ if sense.code == AdditionalSense::PERSISTENT_RESERVATION_INFORMATION_LOST => Some(
            "The device has lost its registrations. When no node of the cluster runs, begin again \
             with 'prhctl replace-lost'.",
        ),
        SenseKey::HardwareError => {
            Some("The device reports a fault. Check its own log, and the kernel's: dmesg.")
        }
        SenseKey::NotReady
            if sense.code == AdditionalSense::LOGICAL_UNIT_COMMUNICATION_FAILURE
                && is_change(rejection.command) =>
        {
            Some(
                "The storage system is not reachable. LIO, the target of Linux, responds in the \
                 same way if this initiator port is not registered: check 'prhctl status'. A \
                 fenced node must stay away until the cluster permits it to return.",
            )
        }
        SenseKey::NotReady
            if [
                AdditionalSense::TARGET_PORT_IN_STANDBY_STATE,
                AdditionalSense::TARGET_PORT_IN_UNAVAILABLE_STATE,
            ]
            .contains(&sense.code) =>
        {
            Some(
                "The storage system does not serve commands at this target port (asymmetric \
                 access, ALUA). Use another path, or the multipath map.",
            )
        }
        SenseKey::NotReady => Some("The device may become ready; try again later."),
        _ => None,
    }
}

/// The helper, the kernel or the device aborted the command.
fn aborted(rejection: &Rejection, code: AdditionalSense) -> Vec<String> {
    let is_terminated = code == AdditionalSense::IO_PROCESS_TERMINATED;
    if is_terminated && !is_special_file(&rejection.device) {
        return vec![NOT_A_DEVICE.to_owned()];
    }
    if rejection.is_refused_registration()
        && is_multipath_map(&rejection.device)
        && let Some(key) = new_key(rejection.parameter_list.as_ref())
    {
        return refused_registration(rejection, key);
    }
    let device = BlockDevice::from_path(&rejection.device);
    let is_map = device.as_ref().is_some_and(BlockDevice::is_multipath_map);
    let is_scsi = device.as_ref().is_some_and(BlockDevice::is_scsi_disk);
    let paths = device
        .as_ref()
        .map_or(0, |device| device.lower_devices().len());
    let mut lines = device.map_or_else(Vec::new, |device| device.unusable_paths());
    let cause = match code {
        AdditionalSense::IO_PROCESS_TERMINATED if is_map && lines.len() == paths => {
            "No path of the multipath map can be reached:"
        }
        AdditionalSense::IO_PROCESS_TERMINATED if is_map => {
            "No path of the multipath map can be reached ('multipathd show paths'), or a worker of \
             the helper crashed; the helper's log names the reason."
        }
        // The states above are the cause.
        _ if !is_map && !lines.is_empty() => "",
        AdditionalSense::IO_PROCESS_TERMINATED if is_scsi => {
            "The helper has lost the privilege to send commands, which it logs, or the command was \
             interrupted: check dmesg."
        }
        AdditionalSense::IO_PROCESS_TERMINATED => {
            "The device does not accept SCSI commands (lsblk -S lists those that do), the helper \
             has lost the privilege to send them, or the command was interrupted."
        }
        AdditionalSense::LOGICAL_UNIT_DOES_NOT_RESPOND_TO_SELECTION => {
            "The host adapter has no connection to the target. Check the cables, the network or \
             the session (iscsiadm -m session -P 1), and dmesg."
        }
        AdditionalSense::COMMAND_TIMEOUT_DURING_PROCESSING => {
            "The device has not answered within the helper's --io-timeout. Check dmesg."
        }
        _ => "",
    };
    if !cause.is_empty() {
        lines.insert(0, cause.to_owned());
    }
    // Without a connection, the adapter has not sent the command.
    let is_unsent = code == AdditionalSense::LOGICAL_UNIT_DOES_NOT_RESPOND_TO_SELECTION;
    if is_change(rejection.command) && !is_unsent {
        lines.push(MAY_HAVE_BEEN_EXECUTED.to_owned());
    }
    lines
}

/// Returns the key that a REGISTER sets; `None` if it unregisters.
fn new_key(list: Option<&ParameterList>) -> Option<ReservationKey> {
    let Some(ParameterList::Basic(list)) = list else {
        return None;
    };
    let key = list.service_action_reservation_key;
    (!key.is_zero()).then_some(key)
}

/// The helper registered no path of a map, or removed the registrations again.
fn refused_registration(rejection: &Rejection, new_key: ReservationKey) -> Vec<String> {
    let outcome = match &rejection.conflict {
        ConflictInfo::Known {
            keys,
            missing_bytes: 0,
            ..
        } if !keys.keys.contains(&new_key) => {
            format!("Nothing was done on any path: no registration has the key {new_key}.")
        }
        _ => MAY_HAVE_BEEN_EXECUTED.to_owned(),
    };
    let paths = BlockDevice::from_path(&rejection.device).map(|device| device.unusable_paths());
    let mut lines = vec![
        outcome,
        "A map is registered only if multipathd can store the key, so that paths that return are \
         registered: check that multipathd is running ('multipathd show daemon'), and that \
         multipath.conf has 'reservation_key file' in its defaults section and no other \
         reservation_key. The helper's log names the reason ('registration rejected: …')."
            .to_owned(),
    ];
    lines.extend(paths.unwrap_or_default());
    lines
}

/// The device does not support the command, or not with these fields.
fn illegal_request(rejection: &Rejection, code: AdditionalSense) -> Option<&'static str> {
    match code {
        AdditionalSense::INVALID_COMMAND_OPERATION_CODE => Some(
            "The device does not support persistent reservations, or it is a partition or a \
             volume: use the whole disk or the multipath map. QEMU's own helper may lack multipath \
             support.",
        ),
        AdditionalSense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION => {
            Some("The type is not that of the reservation; use 'prhctl reservation' to see it.")
        }
        AdditionalSense::INVALID_FIELD_IN_CDB
            if has_exclusive_type(rejection.command) && is_multipath_map(&rejection.device) =>
        {
            Some(
                "The helper rejects this type on multipath maps (--reject-exclusive-types), or the \
                 device does not support it: use a type for registrants (we-ro, ea-ro, we-ar, \
                 ea-ar).",
            )
        }
        AdditionalSense::INSUFFICIENT_RESERVATION_RESOURCES
        | AdditionalSense::INSUFFICIENT_REGISTRATION_RESOURCES => Some(
            "The device has no room for another registration. 'prhctl status' shows those of \
             nodes that no longer exist; 'prhctl preempt' removes them.",
        ),
        AdditionalSense::INVALID_FIELD_IN_CDB => Some(invalid_field(rejection.command)),
        AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST if preempts_zero(rejection) => Some(
            "Victim key 0 is valid only if the reservation's type is an \"all registrants\" type; \
             otherwise name the victim's key ('prhctl keys').",
        ),
        AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST => Some(
            "The device does not accept one of the options, a key or a TransportID; use 'prhctl \
             capabilities' to see what it supports.",
        ),
        _ => None,
    }
}

/// Returns whether the command reserves with a type that gives access to the holder only.
fn has_exclusive_type(command: Cdb) -> bool {
    use OutServiceAction::{Preempt, PreemptAndAbort, Reserve};
    let Cdb::Out(command) = command else {
        return false;
    };
    let is_reserving = matches!(command.service_action, Reserve | Preempt | PreemptAndAbort);
    let reservation_type = command.scope_type.reservation_type();
    is_reserving && reservation_type.is_some_and(|kind| !kind.allows_registrants())
}

/// The CDB contains a field that the device does not support.
fn invalid_field(command: Cdb) -> &'static str {
    match command {
        Cdb::In(command) => match command.service_action {
            InServiceAction::ReadFullStatus => {
                "The device does not support READ FULL STATUS; use 'prhctl keys' and 'prhctl \
                 reservation'."
            }
            InServiceAction::ReportCapabilities => {
                "The device does not support REPORT CAPABILITIES, so its features are unknown."
            }
            InServiceAction::ReadKeys | InServiceAction::ReadReservation => {
                "Every device with persistent reservations supports this service action, so this \
                 is probably not a SCSI disk (lsblk -S lists them)."
            }
        },
        Cdb::Out(command) => match command.service_action {
            OutServiceAction::RegisterAndMove => {
                "There is no reservation to move (see 'prhctl reservation'), or the device does \
                 not support REGISTER AND MOVE."
            }
            _ => {
                "The device does not support this service action or type; use 'prhctl \
                 capabilities' to see what it supports."
            }
        },
    }
}

/// Returns whether the command is a PREEMPT of key 0.
fn preempts_zero(rejection: &Rejection) -> bool {
    use OutServiceAction::{Preempt, PreemptAndAbort};
    let is_preempt = matches!(
        rejection.command,
        Cdb::Out(command) if matches!(command.service_action, Preempt | PreemptAndAbort)
    );
    is_preempt
        && matches!(
            &rejection.parameter_list,
            Some(ParameterList::Basic(list)) if list.service_action_reservation_key.is_zero()
        )
}

const fn unit_attention(code: AdditionalSense) -> &'static str {
    match code {
        AdditionalSense::RESERVATIONS_PREEMPTED | AdditionalSense::REGISTRATIONS_PREEMPTED => {
            "The command was not executed. This port's registration was removed: the node was \
             fenced, or all registrations were cleared. Do not register again until the cluster \
             permits it. Use 'prhctl status' to see the registrations."
        }
        AdditionalSense::RESERVATIONS_RELEASED => {
            "The command was not executed. The holder has released the reservation; registrations \
             are unchanged. Check 'prhctl status', and run the command again if it is still needed."
        }
        _ => {
            "The command was not executed. Reservations may have been changed by another host. \
             Check 'prhctl status', and run the command again if it is still needed."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scsi_pr::BasicParameterList;

    /// The advice that nothing was done depends on the keys that are registered.
    #[test]
    fn only_a_registration_has_a_new_key() {
        let key = |key: u64| {
            let list = BasicParameterList {
                service_action_reservation_key: key.into(),
                ..BasicParameterList::default()
            };
            new_key(Some(&ParameterList::Basic(list)))
        };
        assert_eq!(key(0xa), Some(0xa.into()));
        assert_eq!(key(0), None);
    }
}
