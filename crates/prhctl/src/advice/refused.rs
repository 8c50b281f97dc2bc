//! What to do after an answer of a device that is not GOOD.

use scsi_pr::{
    AdditionalSense, Cdb, InServiceAction, OutServiceAction, ParameterList, Sense, SenseKey, Status,
};

use super::{UNKNOWN, conflict};
use crate::device;
use crate::error::Refusal;

/// The lines about it.
pub(super) fn refused(refusal: &Refusal) -> Vec<String> {
    let lines: Vec<&str> = match (refusal.status, &refusal.sense) {
        (Status::RESERVATION_CONFLICT, _) => return conflict::advice(refusal),
        (Status::BUSY | Status::TASK_SET_FULL, _) => busy(refusal.command),
        (Status::TASK_ABORTED, _) if is_change(refusal.command) => vec![UNKNOWN],
        (Status::CHECK_CONDITION, Some(sense)) => sensed(refusal, sense),
        (Status::CHECK_CONDITION, None) => {
            let device = refusal.device.display();
            return vec![format!("The kernel's log may say more of {device}: dmesg.")];
        }
        _ => Vec::new(),
    };
    lines.into_iter().map(str::to_owned).collect()
}

const fn is_change(command: Cdb) -> bool {
    matches!(command, Cdb::Out(_))
}

/// A helper says BUSY also of what the host adapter or the driver has given up, and that may have
/// reached the device.
fn busy(command: Cdb) -> Vec<&'static str> {
    let cause = "The device or the helper has too much to do, or the kernel did not hand the device over \
                 to the helper: see the helper's log.";
    match is_change(command) {
        false => vec!["It was tried for a second.", cause],
        true => vec![
            "It was not sent again: a helper says BUSY also of a command that broke off on its way.",
            UNKNOWN,
            cause,
        ],
    }
}

/// What sense means, coming from a helper.
fn sensed(refusal: &Refusal, sense: &Sense) -> Vec<&'static str> {
    let line = match sense.key {
        SenseKey::AbortedCommand => return aborted(refusal, sense.code),
        SenseKey::IllegalRequest => illegal(refusal, sense.code),
        SenseKey::UnitAttention => Some(attention(sense.code)),
        SenseKey::HardwareError
            if sense.code == AdditionalSense::INTERNAL_TARGET_FAILURE
                && !device::is_special_file(&refusal.device) =>
        {
            Some("The files of the soft LUN cannot be used: the helper's log says why.")
        }
        SenseKey::NotReady => Some("The device may become ready: try again later."),
        _ => None,
    };
    line.into_iter().collect()
}

/// Somewhere on its way the command was given up.
fn aborted(refusal: &Refusal, code: AdditionalSense) -> Vec<&'static str> {
    let is_terminated = code == AdditionalSense::IO_PROCESS_TERMINATED;
    if is_terminated && !device::is_special_file(&refusal.device) {
        return vec![
            "It is a file and no SCSI device, or a port of a soft LUN whose folder the helper was not \
             started with (--soft-luns).",
        ];
    }
    let mut lines = Vec::new();
    if is_terminated {
        lines.push(
            "The device takes no SCSI commands (lsblk -S lists those that do), the helper has lost the \
             right to send them, or the command broke off on its way: see the helper's log.",
        );
    }
    if is_change(refusal.command) {
        lines.push(UNKNOWN);
    }
    lines
}

/// What a device means that knows the command not at all, or not so.
fn illegal(refusal: &Refusal, code: AdditionalSense) -> Option<&'static str> {
    match code {
        AdditionalSense::INVALID_COMMAND_OPERATION_CODE => Some(match is_change(refusal.command) {
            false => {
                "The device does not know persistent reservations, or it is a multipath map or lies on \
                 one, which this project's helper refuses: ask one of its paths (lsblk -s, \
                 multipath -ll)."
            }
            true => {
                "The device does not know persistent reservations, or it is a multipath map or lies on \
                 one, which this project's helper refuses. A change through one of its paths does not \
                 cover the others: use mpathpersist on the map."
            }
        }),
        AdditionalSense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION => {
            Some("The type is not that of the reservation: 'prhctl reservation' shows it.")
        }
        AdditionalSense::INVALID_FIELD_IN_CDB => Some(field_in_cdb(refusal.command)),
        AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST if has_no_victim(refusal) => Some(
            "The victim's key 0 is only for reservations of all registrants: otherwise name the \
             victim's key ('prhctl keys').",
        ),
        AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST => Some(
            "The device does not take one of the options, a key or a TransportID: 'prhctl \
             capabilities' shows what it knows.",
        ),
        _ => None,
    }
}

fn field_in_cdb(command: Cdb) -> &'static str {
    let Cdb::Out(command) = command else {
        return unknown_question(command);
    };
    match command.service_action {
        OutServiceAction::RegisterAndMove => {
            "There is no reservation to move ('prhctl reservation' shows it), or the device does not \
             know REGISTER AND MOVE."
        }
        _ => {
            "The device does not know this service action or type: 'prhctl capabilities' shows what \
             it knows."
        }
    }
}

fn unknown_question(command: Cdb) -> &'static str {
    match command {
        Cdb::In(command) if command.service_action == InServiceAction::ReadFullStatus => {
            "The device does not know READ FULL STATUS: 'prhctl keys' and 'prhctl reservation' tell \
             what it does know."
        }
        Cdb::In(command) if command.service_action == InServiceAction::ReportCapabilities => {
            "The device does not know REPORT CAPABILITIES, and does not say what it knows."
        }
        _ => "The device does not know this service action.",
    }
}

/// Whether it is a PREEMPT of the key zero.
fn has_no_victim(refusal: &Refusal) -> bool {
    use OutServiceAction::{Preempt, PreemptAndAbort};
    let is_preempt = matches!(
        refusal.command,
        Cdb::Out(command) if matches!(command.service_action, Preempt | PreemptAndAbort)
    );
    let list = refusal.parameters.as_ref();
    is_preempt
        && matches!(
            list,
            Some(ParameterList::Basic(list)) if list.service_action_reservation_key.is_zero()
        )
}

/// What has happened meanwhile.
const fn attention(code: AdditionalSense) -> &'static str {
    match code {
        AdditionalSense::RESERVATIONS_PREEMPTED | AdditionalSense::REGISTRATIONS_PREEMPTED => {
            "The command was not done. Somebody has removed this port's registration: it was fenced, or \
             everything was cleared. Do not register again until the cluster that did it says so. \
             'prhctl status' shows who is registered."
        }
        AdditionalSense::RESERVATIONS_RELEASED => {
            "The command was not done. The reservation was given up by whoever held it; registrations \
             are as they were. Look at 'prhctl status'. If it is still wanted, give it again."
        }
        _ => {
            "The command was not done. Look at 'prhctl status' first: reservations may have been \
             changed from elsewhere. If it is still wanted, give it again."
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use scsi_pr::{BasicParameterList, PersistentReserveIn, PersistentReserveOut, ScopeType};

    fn refusal(command: Cdb, status: u8, sense: Option<(u8, u8, u8)>) -> Refusal {
        Refusal::for_test(command, Path::new("/dev/null"), status, sense)
    }

    fn ask(service_action: InServiceAction) -> Cdb {
        PersistentReserveIn {
            service_action,
            allocation_length: 8,
            control: 0,
        }
        .into()
    }

    fn change(service_action: OutServiceAction) -> Cdb {
        PersistentReserveOut {
            service_action,
            scope_type: ScopeType::default(),
            parameter_list_length: 24,
            control: 0,
        }
        .into()
    }

    #[test]
    fn a_change_that_was_aborted_may_have_been_done() {
        let asked = ask(InServiceAction::ReadKeys);
        let changed = change(OutServiceAction::Clear);
        for (status, sense) in [
            (0x40, None),
            (0x02, Some((0xb, 0x00, 0x06))),
            (0x02, Some((0xb, 0x47, 0x00))),
            (0x02, Some((0xb, 0x2e, 0x02))),
            (0x08, None),
            (0x28, None),
        ] {
            let has = |command| refused(&refusal(command, status, sense)).contains(&UNKNOWN.into());
            assert!(has(changed), "{status:#x} {sense:?}");
            assert!(!has(asked), "{status:#x} {sense:?}");
        }
    }

    #[test]
    fn a_fenced_port_is_told_to_stay_away() {
        let lines = |ascq| {
            let sense = Some((6, 0x2a, ascq));
            refused(&refusal(change(OutServiceAction::Clear), 2, sense)).concat()
        };
        for ascq in [0x03, 0x05] {
            assert!(lines(ascq).contains("Do not register again"), "{ascq}");
            assert!(!lines(ascq).contains("give it again"), "{ascq}");
        }
        assert!(lines(0x04).contains("given up by whoever held it"));
        assert!(lines(0x00).contains("may have been changed"));
    }

    #[test]
    fn a_change_through_one_path_is_not_recommended() {
        let lines = |command| refused(&refusal(command, 2, Some((5, 0x20, 0)))).concat();
        assert!(lines(ask(InServiceAction::ReadKeys)).contains("ask one of its paths"));
        let change = lines(change(OutServiceAction::Register));
        assert!(change.contains("does not cover the others"), "{change}");
        assert!(change.contains("mpathpersist"), "{change}");
    }

    #[test]
    fn each_command_is_told_what_helps_it() {
        let field = |command| refused(&refusal(command, 2, Some((5, 0x24, 0)))).concat();
        for action in [
            InServiceAction::ReportCapabilities,
            InServiceAction::ReadFullStatus,
        ] {
            assert!(!field(ask(action)).contains("'prhctl capabilities'"));
        }
        assert!(
            field(change(OutServiceAction::RegisterAndMove)).contains("no reservation to move")
        );
        assert!(field(change(OutServiceAction::Reserve)).contains("'prhctl capabilities'"));

        let preempt = change(OutServiceAction::Preempt);
        let mut refusal = refusal(preempt, 2, Some((5, 0x26, 0)));
        refusal.parameters = Some(BasicParameterList::default().into());
        assert!(refused(&refusal).concat().contains("of all registrants"));
    }
}
