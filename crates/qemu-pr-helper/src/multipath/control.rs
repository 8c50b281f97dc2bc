// SPDX-License-Identifier: MIT OR Apache-2.0

//! Control messages between the helper and the broker, of a fixed form.
//!
//! | message of the helper | bytes |
//! |---|---|
//! | kind | 1 |
//! | two numbers, big-endian; zero if the kind has none | 4 each |
//!
//! The broker replies to [`ControlMessage::Remove`] with two bytes: the [`FileKind`] of the file,
//! and the [`Removal`].
//!
//! The helper reads what clients send, so the broker does not trust it beyond this form: the broker
//! accepts numbers, but no text, paths or addresses.

use crate::process::created_file::{FileKind, Removal};

/// Length of a control message in bytes.
pub(super) const LEN: usize = 9;

/// Control message from the helper to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ControlMessage {
    /// Start a worker on the socket that is passed with the message.
    StartWorker,
    /// Start a resolver of names on the socket that is passed with the message.
    StartResolver,
    /// Close the connections that arrive on the socket that is passed with the message.
    CloseConnections,
    /// Send a watchdog message to the service manager, because the helper's threads work.
    Alive {
        /// Connected clients.
        clients: u32,
        /// Commands in progress.
        commands: u32,
    },
    /// Notify the service manager that the helper is stopping.
    Stopping,
    /// Remove a file that the helper has created.
    Remove(FileKind),
}

impl ControlMessage {
    pub(super) fn encode(self) -> [u8; LEN] {
        let (kind, first, second) = match self {
            Self::StartWorker => (b'w', 0, 0),
            Self::StartResolver => (b'n', 0, 0),
            Self::CloseConnections => (b'c', 0, 0),
            Self::Alive { clients, commands } => (b'a', clients, commands),
            Self::Stopping => (b's', 0, 0),
            Self::Remove(kind) => (b'r', encode_kind(kind).into(), 0),
        };
        let ([a, b, c, d], [e, f, g, h]) = (u32::to_be_bytes(first), u32::to_be_bytes(second));
        [kind, a, b, c, d, e, f, g, h]
    }

    /// Decodes a message; `None` if it is malformed.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (first, rest) = rest.split_first_chunk()?;
        let second: [u8; 4] = rest.try_into().ok()?;
        let numbers = (u32::from_be_bytes(*first), u32::from_be_bytes(second));
        match (kind, numbers) {
            (b'w', (0, 0)) => Some(Self::StartWorker),
            (b'n', (0, 0)) => Some(Self::StartResolver),
            (b'c', (0, 0)) => Some(Self::CloseConnections),
            (b'a', (clients, commands)) => Some(Self::Alive { clients, commands }),
            (b's', (0, 0)) => Some(Self::Stopping),
            (b'r', (0, 0)) => Some(Self::Remove(FileKind::Socket)),
            (b'r', (1, 0)) => Some(Self::Remove(FileKind::PidFile)),
            _ => None,
        }
    }
}

/// Length of the broker's reply to [`ControlMessage::Remove`] in bytes.
pub(super) const REMOVAL_LEN: usize = 2;

const fn encode_kind(kind: FileKind) -> u8 {
    match kind {
        FileKind::Socket => 0,
        FileKind::PidFile => 1,
    }
}

/// Encodes the broker's reply to [`ControlMessage::Remove`]: the kind of file, and the result.
pub(super) const fn encode_removal(kind: FileKind, removal: Removal) -> [u8; REMOVAL_LEN] {
    let removal = match removal {
        Removal::Removed => b'r',
        Removal::Replaced => b'o',
        Removal::Failed => b'f',
    };
    [encode_kind(kind), removal]
}

/// Decodes the broker's reply to [`ControlMessage::Remove`]; `None` if it is malformed.
pub(super) fn decode_removal(bytes: &[u8]) -> Option<(FileKind, Removal)> {
    let removals = [Removal::Removed, Removal::Replaced, Removal::Failed];
    [FileKind::Socket, FileKind::PidFile]
        .into_iter()
        .flat_map(|kind| removals.map(|removal| (kind, removal)))
        .find(|(kind, removal)| encode_removal(*kind, *removal) == bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_messages_round_trip() {
        for message in [
            ControlMessage::StartWorker,
            ControlMessage::StartResolver,
            ControlMessage::CloseConnections,
            ControlMessage::Alive {
                clients: 1,
                commands: 0x0102_0304,
            },
            ControlMessage::Stopping,
            ControlMessage::Remove(FileKind::Socket),
            ControlMessage::Remove(FileKind::PidFile),
        ] {
            assert_eq!(ControlMessage::decode(&message.encode()), Some(message));
        }
        for kind in [FileKind::Socket, FileKind::PidFile] {
            for removal in [Removal::Removed, Removal::Replaced, Removal::Failed] {
                let bytes = encode_removal(kind, removal);
                assert_eq!(decode_removal(&bytes), Some((kind, removal)));
            }
        }
    }

    #[test]
    fn malformed_messages_are_rejected() {
        let stopping = ControlMessage::Stopping.encode();
        for bytes in [
            &[][..],
            b"s",
            &stopping[..LEN - 1],
            &[stopping.as_slice(), &[0]].concat(),
            &[b'x'; LEN],
            &[b's'; LEN],
            b"r\0\0\0\x02\0\0\0\0",
        ] {
            assert_eq!(ControlMessage::decode(bytes), None, "{bytes:?}");
        }
        for bytes in [&b""[..], b"\0", b"\x02r", b"\0x", b"\0rr"] {
            assert_eq!(decode_removal(bytes), None, "{bytes:?}");
        }
    }
}
