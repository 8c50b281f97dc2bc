//! What to do next after an error: one place for all that experience says.

use std::io::{Error as IoError, ErrorKind};
use std::path::Path;

use pr_socket::Direction;
use pr_socket::client::ClientError;
use scsi_pr::{AdditionalSense, Cdb, OutServiceAction, Reservation, Sense, SenseKey, Status};
use soft_lun::store::StoreError;

use crate::demo::HelperError;
use crate::device;
use crate::error::{Error, Refusal, Situation};

/// The lines to show below an error: what is the case, then what to do. May be empty.
pub(crate) fn on(error: &Error) -> Vec<String> {
    match error {
        Error::Open {
            direction, source, ..
        } => opening(*direction, source),
        Error::Connect { source, .. } => connecting(source),
        Error::Exchange {
            command, source, ..
        } => exchange(*command, source),
        Error::Refused(refusal) => refused(refusal),
        Error::Malformed { .. } => vec![
            "The device, or something on the way to it, answers what the standard does not know."
                .to_owned(),
        ],
        Error::TooManyInitiators => {
            vec!["Register the initiator ports from their own hosts.".to_owned()]
        }
        Error::Decode(error) => error.advice(),
        Error::Lun(error) => soft_lun(error),
        Error::Program(error) => program(error),
        Error::Stage(_) => Vec::new(),
    }
}

fn soft_lun(error: &StoreError) -> Vec<String> {
    let line = match error {
        StoreError::Exists(_) => {
            "Choose another name, or look at what is there: 'prhctl lun show'."
        }
        StoreError::NoLun(_) => {
            "'prhctl lun list' shows those in a folder, 'prhctl lun create' makes one."
        }
        StoreError::Malformed { .. }
        | StoreError::State { .. }
        | StoreError::Description { .. } => {
            "Put it right, or back from a copy. To begin anew, remove the soft LUN's folder and create \
             it again."
        }
        StoreError::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            "The folder belongs to somebody else: its owner, who runs the helper, can use it."
        }
        _ => return Vec::new(),
    };
    vec![line.to_owned()]
}

fn program(error: &HelperError) -> Vec<String> {
    let line = match error {
        HelperError::NotFound(_) => {
            "Name the helper's program with --helper, or build it beside this one: cargo build \
             --release --workspace."
        }
        _ => return Vec::new(),
    };
    vec![line.to_owned()]
}

fn opening(direction: Direction, error: &IoError) -> Vec<String> {
    let line = match (error.kind(), direction) {
        (ErrorKind::PermissionDenied, _) => {
            "Run it as root, or as a user who may open the device (see its owner and group)."
        }
        (ErrorKind::ReadOnlyFilesystem, Direction::Out) => {
            "The device is write-protected (blockdev --getro). To change reservations it has to be \
             opened for writing; to read them, for reading only."
        }
        (ErrorKind::NotFound, _) => "Which disks there are: lsblk -S.",
        _ => return Vec::new(),
    };
    vec![line.to_owned()]
}

fn connecting(error: &ClientError) -> Vec<String> {
    let line = match error {
        ClientError::Connect(error) => match error.kind() {
            ErrorKind::NotFound => {
                "There is no socket. Is the helper started (systemctl status \
                 qemu-pr-helper.socket), and is this its path? Another one: -k PATH."
            }
            ErrorKind::ConnectionRefused => {
                "The socket is there, but nobody serves it: the helper has died, or there is another \
                 one at another path (-k PATH). Start it again."
            }
            ErrorKind::PermissionDenied => {
                "Run it as root, or as a user whom the socket's owner and mode let in."
            }
            _ => return Vec::new(),
        },
        ClientError::Handshake(_) => {
            "Either that is no persistent reservation helper, or it turned this connection away: see \
             its log."
        }
        _ => return Vec::new(),
    };
    vec![line.to_owned()]
}

fn exchange(command: Cdb, error: &ClientError) -> Vec<String> {
    let mut lines = Vec::new();
    let is_unknown = matches!(
        error,
        ClientError::Answer(_) | ClientError::TooMuchData { .. } | ClientError::BadStatus(_)
    );
    if is_unknown && matches!(command, Cdb::Out(_)) {
        lines.push(
            "Whether the command was done is unknown: look with 'prhctl status' before repeating it."
                .to_owned(),
        );
    }
    lines.push("The helper's log may say why.".to_owned());
    lines
}

fn refused(refusal: &Refusal) -> Vec<String> {
    let device = refusal.device.display();
    match (refusal.status, &refusal.sense) {
        (Status::RESERVATION_CONFLICT, _) => conflict(refusal),
        (Status::BUSY | Status::TASK_SET_FULL, _) => vec![
            "It was tried for a second. The device or the helper has too much to do, or the kernel did \
             not hand the device over to the helper: see the helper's log."
                .to_owned(),
        ],
        (Status::CHECK_CONDITION, Some(sense)) => {
            let lines = sensed(refusal, sense);
            lines.into_iter().map(str::to_owned).collect()
        }
        (Status::CHECK_CONDITION, None) => {
            vec![format!("The kernel's log may say more of {device}: dmesg.")]
        }
        _ => Vec::new(),
    }
}

/// What sense means, coming from a helper.
fn sensed(refusal: &Refusal, sense: &Sense) -> Option<&'static str> {
    match (sense.key, sense.code) {
        (SenseKey::AbortedCommand, AdditionalSense::IO_PROCESS_TERMINATED) => {
            Some(terminated(&refusal.device))
        }
        (SenseKey::IllegalRequest, AdditionalSense::INVALID_COMMAND_OPERATION_CODE) => Some(
            "The device does not know persistent reservations, or it is a multipath map or lies on \
             one, which the helper refuses: give one of its paths (lsblk -s, multipath -ll).",
        ),
        (SenseKey::IllegalRequest, AdditionalSense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION) => {
            Some("The type is not that of the reservation: 'prhctl reservation' shows it.")
        }
        (SenseKey::IllegalRequest, AdditionalSense::INVALID_FIELD_IN_CDB) => Some(
            "The device does not know this service action or type: 'prhctl capabilities' shows what \
             it knows.",
        ),
        (SenseKey::IllegalRequest, AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST) => Some(
            "The device does not take one of the options, a key or a TransportID: 'prhctl \
             capabilities' shows what it knows.",
        ),
        (SenseKey::UnitAttention, _) => Some(
            "The command was not done. Look at 'prhctl status' first: reservations may have been \
             changed from elsewhere. If it is still wanted, give it again.",
        ),
        (SenseKey::HardwareError, AdditionalSense::INTERNAL_TARGET_FAILURE)
            if !device::is_special_file(&refusal.device) =>
        {
            Some("The files of the soft LUN cannot be used: the helper's log says why.")
        }
        (SenseKey::NotReady, _) => Some("The device may become ready: try again later."),
        _ => None,
    }
}

/// The helper could not send the command at all.
fn terminated(device: &Path) -> &'static str {
    match device::is_special_file(device) {
        true => {
            "The helper could not send the command: the device takes no SCSI commands (lsblk -S \
             lists those that do), or the helper has lost the right to send them: see its log."
        }
        false => {
            "It is a file and no SCSI device, or a port of a soft LUN whose folder the helper was not \
             started with (--soft-luns)."
        }
    }
}

/// Who is registered and who holds the reservation, and what the conflict comes of.
fn conflict(refusal: &Refusal) -> Vec<String> {
    let Some(situation) = &refusal.situation else {
        return Vec::new();
    };
    let mut lines = describe(situation);
    lines.push(cause(refusal, situation).to_owned());
    lines
}

fn describe(situation: &Situation) -> Vec<String> {
    let keys: Vec<String> = situation
        .keys
        .keys
        .iter()
        .map(ToString::to_string)
        .collect();
    let keys = match keys.is_empty() {
        true => "none".to_owned(),
        false => keys.join(" "),
    };
    let reservation = match &situation.reservation.reservation {
        None => "none".to_owned(),
        Some(Reservation { key, scope_type }) => match scope_type.reservation_type() {
            Some(kind) if kind.is_all_registrants() => scope_type.to_string(),
            _ => format!("{scope_type}, held with key {key}"),
        },
    };
    vec![
        format!("registered keys: {keys}"),
        format!("reservation: {reservation}"),
    ]
}

fn cause(refusal: &Refusal, situation: &Situation) -> &'static str {
    let Cdb::Out(command) = refusal.command else {
        return "A reservation from before SPC-3 (RESERVE) forbids even to ask.";
    };
    match command.service_action {
        OutServiceAction::Register => {
            "Either this initiator port is registered already, and --old-key has to name its key, \
             or it is not registered with the key given: 'prhctl status' shows who is."
        }
        OutServiceAction::Reserve if situation.reservation.reservation.is_some() => {
            "Either somebody else holds the reservation, or it has another type, or this initiator \
             port is not registered with the key given."
        }
        OutServiceAction::Preempt | OutServiceAction::PreemptAndAbort => {
            "Either this initiator port is not registered with the key given, or nobody is with the \
             victim's."
        }
        OutServiceAction::RegisterAndMove => {
            "Either this initiator port is not registered with the key given, or it does not hold the \
             reservation."
        }
        _ => {
            "This initiator port is not registered with the key given: 'prhctl status' shows who is, \
             'prhctl register' registers it."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pr_socket::Response;
    use scsi_pr::{
        Keys, PersistentReserveOut, ReservationData, ReservationKey, ReservationType, ScopeType,
    };

    #[test]
    fn what_the_system_refuses_has_a_remedy() {
        for (kind, direction, words) in [
            (ErrorKind::PermissionDenied, Direction::In, "as root"),
            (
                ErrorKind::ReadOnlyFilesystem,
                Direction::Out,
                "blockdev --getro",
            ),
            (ErrorKind::NotFound, Direction::In, "lsblk -S"),
        ] {
            let lines = opening(direction, &kind.into());
            assert!(lines.concat().contains(words), "{kind}: {lines:?}");
        }
        for (kind, words) in [
            (ErrorKind::NotFound, "systemctl status"),
            (ErrorKind::ConnectionRefused, "nobody serves it"),
            (ErrorKind::PermissionDenied, "socket's owner and mode"),
        ] {
            let lines = connecting(&ClientError::Connect(kind.into()));
            assert!(lines.concat().contains(words), "{kind}: {lines:?}");
        }
    }

    #[test]
    fn a_conflict_says_who_holds_the_reservation() {
        let command = PersistentReserveOut {
            service_action: OutServiceAction::Reserve,
            scope_type: ScopeType(1),
            parameter_list_length: 24,
            control: 0,
        };
        let response = Response {
            status: Status::RESERVATION_CONFLICT,
            sense: [0; 96],
            data: Vec::new(),
        };
        let mut refusal = Refusal::new(command.into(), Path::new("/dev/sdb"), &response);
        assert_eq!(refused(&refusal), [""; 0]);
        let key = ReservationKey::new(0x22);
        refusal.situation = Some(Situation {
            keys: Keys {
                keys: vec![key, ReservationKey::new(0x11)],
                ..Keys::default()
            },
            reservation: ReservationData {
                reservation: Some(Reservation {
                    key,
                    scope_type: ReservationType::ExclusiveAccess.into(),
                }),
                ..ReservationData::default()
            },
        });
        let lines = refused(&refusal);
        assert_eq!(lines[0], "registered keys: 0x22 0x11");
        assert_eq!(
            lines[1],
            "reservation: Exclusive Access, held with key 0x22"
        );
        assert!(
            lines[2].starts_with("Either somebody else holds"),
            "{lines:?}"
        );
    }
}
