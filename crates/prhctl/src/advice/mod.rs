// SPDX-License-Identifier: MIT OR Apache-2.0

//! Advice for errors of commands to a device: what is the case, and what to do next.

mod conflict;
mod rejected;

use std::fs;
use std::io::{Error as IoError, ErrorKind};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use pr_helper_protocol::Direction;
use pr_helper_protocol::client::ClientError;
use rustix::io::Errno;
use scsi_pr::Cdb;

use crate::block_device::BlockDevice;
use crate::error::{AdvisedError, Error, ForeignListener, Rejection};
use crate::exit::Exit;
use crate::running_helpers::RunningHelper;

/// The advice after a change with an unknown outcome.
const MAY_HAVE_BEEN_EXECUTED: &str =
    "The command may have been executed; check with 'prhctl status'.";

/// The advice after a search without a result.
const NONE_FOUND: &str = "No other helper was found on this host; only root finds all of them.";

impl AdvisedError for Error {
    fn advice(&self) -> Vec<String> {
        let line = match self {
            Error::Open { path, source, .. } if source.kind() == ErrorKind::IsADirectory => {
                return vec![directory(path)];
            }
            Error::Open { access, source, .. } => open(*access, source),
            Error::Connect {
                socket,
                is_none_found,
                source,
            } => {
                let line = connect(socket, source).map(str::to_owned);
                let search = is_none_found.then(|| NONE_FOUND.to_owned());
                return line.into_iter().chain(search).collect();
            }
            Error::Listener(listener) => return vec![foreign_listener(listener)],
            Error::SeveralHelpers(helpers) => return several_helpers(helpers),
            Error::Exchange {
                command,
                device,
                source,
            } => return exchange(*command, device, source),
            Error::Rejected(rejection) => return rejected::advice(rejection),
            Error::Malformed { .. } => {
                Some("The device, or a driver in between, violates the standard.")
            }
            Error::Refused(error) => return error.advice(),
            Error::TooManyInitiators => Some("Register the initiator ports from their own hosts."),
        };
        line.map(str::to_owned).into_iter().collect()
    }

    fn exit(&self) -> Exit {
        match self {
            Error::Rejected(rejection) => {
                Exit::from_status(rejection.status, rejection.sense.as_ref())
            }
            Error::Malformed { .. } => Exit::MALFORMED,
            _ => Exit::FAILURE,
        }
    }

    fn rejection(&self) -> Option<&Rejection> {
        match self {
            Error::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }
}

fn open(access: Direction, error: &IoError) -> Option<&'static str> {
    match (error.kind(), access) {
        // The permissions of the file cause EACCES instead.
        _ if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => Some(
            "The device is blocked for this process, for example by a container's device rules.",
        ),
        (ErrorKind::PermissionDenied, _) => {
            Some("Run as root, or as a user with access to the device (see its owner and group).")
        }
        (ErrorKind::ReadOnlyFilesystem, Direction::Out) => Some(
            "The device is write-protected (blockdev --getro). prhctl must open it for writing to \
             change reservations, but only for reading to query them.",
        ),
        (ErrorKind::NotFound, _) => Some("List the disks with lsblk -S."),
        _ => None,
    }
}

/// Returns the advice for a directory in place of a device. It can be a soft LUN.
fn directory(path: &Path) -> String {
    let ports = path.join("ports");
    let names = fs::read_dir(&ports).into_iter().flatten().flatten();
    let ports: Vec<_> = names
        .map(|port| port.path().display().to_string())
        .collect();
    match ports.iter().min() {
        Some(port) => format!("This is a soft LUN. Use one of its ports, such as {port}."),
        None => "This is a directory. Use a disk, or a port of a soft LUN.".to_owned(),
    }
}

fn connect(socket: &Path, error: &ClientError) -> Option<&'static str> {
    match error {
        ClientError::Connect(error) => match error.kind() {
            ErrorKind::NotFound => Some(
                "There is no socket. Check that the helper is running (systemctl status \
                 qemu-pr-helper.socket) and that this is its socket; use -k PATH for another one.",
            ),
            ErrorKind::ConnectionRefused if is_not_socket(socket) => {
                Some("This path is not a socket. Use -k with the helper's socket.")
            }
            ErrorKind::ConnectionRefused => Some(
                "No process listens on the socket: the helper has exited, or listens on another \
                 one (-k PATH). Restart the helper.",
            ),
            // The permissions of the socket cause EACCES instead.
            _ if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {
                Some("A security policy (SELinux, AppArmor) may forbid the connection.")
            }
            ErrorKind::PermissionDenied => {
                Some("Run as root, or as a user with write permission on the socket.")
            }
            ErrorKind::InvalidInput => {
                Some("Use a helper whose socket has a shorter path (-k PATH).")
            }
            _ => None,
        },
        ClientError::Handshake(_) => Some(
            "The listener is not a persistent reservation helper, or it rejected the connection; \
             check its log.",
        ),
        _ => None,
    }
}

fn foreign_listener(listener: &ForeignListener) -> String {
    format!(
        "The process may have replaced the helper's socket, so it does not receive the device. Use \
         -k {} if you trust it.",
        listener.socket.display()
    )
}

fn several_helpers(helpers: &[RunningHelper]) -> Vec<String> {
    let mut lines: Vec<_> = helpers.iter().map(RunningHelper::to_string).collect();
    lines.push(
        "Choose one with -k SOCKET. The sockets of libvirt name the machine: domain-ID-NAME."
            .to_owned(),
    );
    lines
}

fn is_not_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| !metadata.file_type().is_socket())
}

fn exchange(command: Cdb, device: &Path, error: &ClientError) -> Vec<String> {
    let device = BlockDevice::from_path(device);
    // A path that is blocked is the usual cause of a timeout.
    let mut lines = device.map_or_else(Vec::new, |device| device.unusable_paths());
    let is_sent = matches!(
        error,
        ClientError::Receive(_) | ClientError::TooMuchData { .. } | ClientError::BadStatus(_)
    );
    if is_sent && matches!(command, Cdb::Out(_)) {
        lines.push(MAY_HAVE_BEEN_EXECUTED.to_owned());
    }
    // The helper logs why it closes a connection, but no invalid responses.
    if matches!(error, ClientError::Send(_) | ClientError::Receive(_)) {
        lines.push("Check the helper's log.".to_owned());
    }
    lines
}

/// Returns whether a path is a device, as opposed to a file or a directory.
fn is_special_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| {
        let file_type = metadata.file_type();
        file_type.is_block_device() || file_type.is_char_device()
    })
}

/// Returns whether a path is a device-mapper multipath map.
fn is_multipath_map(path: &Path) -> bool {
    BlockDevice::from_path(path).is_some_and(|device| device.is_multipath_map())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ErrorKind::{ConnectionRefused, NotFound, PermissionDenied, ReadOnlyFilesystem};

    #[test]
    fn system_errors_have_advice() {
        for (kind, access, fragment) in [
            (PermissionDenied, Direction::In, "as root"),
            (ReadOnlyFilesystem, Direction::Out, "blockdev --getro"),
            (NotFound, Direction::In, "lsblk -S"),
        ] {
            let line = open(access, &kind.into()).unwrap();
            assert!(line.contains(fragment), "{kind}: {line}");
        }
        let line = open(Direction::In, &Errno::PERM.into()).unwrap();
        assert!(line.contains("device rules"), "{line}");
        let line = open(Direction::In, &Errno::ACCESS.into()).unwrap();
        assert!(line.contains("as root"), "{line}");
        for (kind, fragment) in [
            (NotFound, "systemctl status"),
            (ConnectionRefused, "No process listens"),
            (PermissionDenied, "write permission on the socket"),
        ] {
            let error = ClientError::Connect(kind.into());
            let line = connect(Path::new("/no/socket"), &error).unwrap();
            assert!(line.contains(fragment), "{kind}: {line}");
        }
    }
}
