//! Control messages between the helper and the broker, of a fixed form.
//!
//! | message of the helper | bytes |
//! |---|---|
//! | kind | 1 |
//! | two numbers, big-endian; zero if the kind has none | 4 each |
//!
//! The broker answers [`Control::Remove`] with two bytes: the [`FileKind`] of file, and the
//! [`Removal`].
//!
//! The helper reads what clients send, so the broker trusts it no further than this form: it takes
//! numbers and no text, paths or addresses.

use crate::process::created_file::{FileKind, Removal};

/// Length of a control message in bytes.
pub(super) const LEN: usize = 9;

/// Control message from the helper to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// Start a worker on the socket that comes with the message.
    StartWorker,
    /// Close the connections that arrive on the socket that comes with the message.
    CloseConnections,
    /// The helper's threads work.
    Alive {
        /// Connected clients.
        clients: u32,
        /// Commands in progress.
        commands: u32,
    },
    /// The helper has begun to end.
    Stopping,
    /// Remove a file that the helper has created.
    Remove(FileKind),
}

impl Control {
    /// Encodes the message.
    pub(super) fn encode(self) -> [u8; LEN] {
        let (kind, first, second) = match self {
            Self::StartWorker => (b'w', 0, 0),
            Self::CloseConnections => (b'c', 0, 0),
            Self::Alive { clients, commands } => (b'a', clients, commands),
            Self::Stopping => (b's', 0, 0),
            Self::Remove(FileKind::Socket) => (b'r', 0, 0),
            Self::Remove(FileKind::PidFile) => (b'r', 1, 0),
        };
        let mut bytes = [kind; LEN];
        let numbers = [first.to_be_bytes(), second.to_be_bytes()];
        for (to, from) in bytes.iter_mut().skip(1).zip(numbers.concat()) {
            *to = from;
        }
        bytes
    }

    /// Decodes a message; `None` if it is malformed.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (first, rest) = rest.split_first_chunk()?;
        let second: [u8; 4] = rest.try_into().ok()?;
        let numbers = (u32::from_be_bytes(*first), u32::from_be_bytes(second));
        match (kind, numbers) {
            (b'w', (0, 0)) => Some(Self::StartWorker),
            (b'c', (0, 0)) => Some(Self::CloseConnections),
            (b'a', (clients, commands)) => Some(Self::Alive { clients, commands }),
            (b's', (0, 0)) => Some(Self::Stopping),
            (b'r', (0, 0)) => Some(Self::Remove(FileKind::Socket)),
            (b'r', (1, 0)) => Some(Self::Remove(FileKind::PidFile)),
            _ => None,
        }
    }
}

/// Length of the broker's answer to [`Control::Remove`] in bytes.
pub(super) const REMOVAL_LEN: usize = 2;

/// Encodes the broker's answer to [`Control::Remove`]: which file, and what came of it.
pub(super) const fn encode_removal(kind: FileKind, removal: Removal) -> [u8; REMOVAL_LEN] {
    let kind = match kind {
        FileKind::Socket => 0,
        FileKind::PidFile => 1,
    };
    let removal = match removal {
        Removal::Removed => b'r',
        Removal::Replaced => b'o',
        Removal::Failed => b'f',
    };
    [kind, removal]
}

/// Decodes the broker's answer to [`Control::Remove`]; `None` if it is malformed.
pub(super) const fn decode_removal(bytes: &[u8]) -> Option<(FileKind, Removal)> {
    let [kind, removal] = bytes else {
        return None;
    };
    let kind = match kind {
        0 => FileKind::Socket,
        1 => FileKind::PidFile,
        _ => return None,
    };
    let removal = match removal {
        b'r' => Removal::Removed,
        b'o' => Removal::Replaced,
        b'f' => Removal::Failed,
        _ => return None,
    };
    Some((kind, removal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_encoding_and_decoding() {
        for message in [
            Control::StartWorker,
            Control::CloseConnections,
            Control::Alive {
                clients: 1,
                commands: 0x0102_0304,
            },
            Control::Stopping,
            Control::Remove(FileKind::Socket),
            Control::Remove(FileKind::PidFile),
        ] {
            assert_eq!(Control::decode(&message.encode()), Some(message));
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
        let stopping = Control::Stopping.encode();
        for bytes in [
            &[][..],
            b"s",
            &stopping[..LEN - 1],
            &[stopping.as_slice(), &[0]].concat(),
            &[b'x'; LEN],
            &[b's'; LEN],
            b"r\0\0\0\x02\0\0\0\0",
        ] {
            assert_eq!(Control::decode(bytes), None, "{bytes:?}");
        }
        for bytes in [&b""[..], b"\0", b"\x02r", b"\0x", b"\0rr"] {
            assert_eq!(decode_removal(bytes), None, "{bytes:?}");
        }
    }
}
