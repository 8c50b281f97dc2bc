//! What to do next after an error: one place for all that experience says.

mod conflict;
mod refused;

use std::fs;
use std::io::{Error as IoError, ErrorKind};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use pr_helper_protocol::Direction;
use pr_helper_protocol::client::ClientError;
use scsi_pr::Cdb;
use soft_lun::store::StoreError;

use crate::commands::demo::{HelperError, StageError};
use crate::error::Error;
use refused::refused;

/// Of a command that changes, and may have been done.
const UNKNOWN: &str = "Whether it was done is unknown: look with 'prhctl status'.";

/// The lines to show below an error: what is the case, then what to do. May be empty.
pub(crate) fn on(error: &Error) -> Vec<String> {
    match error {
        Error::Open {
            direction, source, ..
        } => opening(*direction, source),
        Error::Connect { socket, source } => connecting(socket, source),
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
        Error::Stage(error) => stage(error),
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
        // Of one that was to be made there is nothing to put right.
        StoreError::Config { path, .. } if !path.is_file() => return Vec::new(),
        StoreError::Malformed { .. } | StoreError::State { .. } | StoreError::Config { .. } => {
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

fn stage(error: &StageError) -> Vec<String> {
    let line = match error {
        StageError::Folder { .. } => "Another place for temporary files: TMPDIR=PATH prhctl demo.",
        StageError::Ended { said, .. } if said.contains("soft-luns") => {
            "It has to be this project's helper: others know no soft LUNs."
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

fn connecting(socket: &Path, error: &ClientError) -> Vec<String> {
    let line = match error {
        ClientError::Connect(error) => match error.kind() {
            ErrorKind::NotFound => {
                "There is no socket. Is the helper started (systemctl status \
                 qemu-pr-helper.socket), and is this its path? Another one: -k PATH."
            }
            ErrorKind::ConnectionRefused if is_no_socket(socket) => {
                "There is something at this path, but no socket: -k takes that of the helper."
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

/// Whether there is something else.
fn is_no_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| !metadata.file_type().is_socket())
}

fn exchange(command: Cdb, error: &ClientError) -> Vec<String> {
    let mut lines = Vec::new();
    let is_unknown = matches!(
        error,
        ClientError::Answer(_) | ClientError::TooMuchData { .. } | ClientError::BadStatus(_)
    );
    if is_unknown && matches!(command, Cdb::Out(_)) {
        lines.push(UNKNOWN.to_owned());
    }
    lines.push("The helper's log may say why.".to_owned());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let lines = connecting(Path::new("/no/socket"), &ClientError::Connect(kind.into()));
            assert!(lines.concat().contains(words), "{kind}: {lines:?}");
        }
    }
}
