// SPDX-License-Identifier: MIT OR Apache-2.0

//! The native protocol of the systemd journal: a datagram with one field in each line
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).

use std::io;
use std::os::fd::OwnedFd;

use helper_state::{Event, KnownReservations, Record};
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};

use crate::logging::PROGRAM;

/// Socket of journald.
const SOCKET: &str = "/run/systemd/journal/socket";

/// A connection to the system journal.
#[derive(Debug)]
pub(super) struct SystemJournal(OwnedFd);

impl SystemJournal {
    /// Connects to the journal, which fails if there is none.
    pub(super) fn connect() -> io::Result<Self> {
        let (family, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &SocketAddrUnix::new(SOCKET)?)?;
        Ok(Self(socket))
    }

    /// Sends a record. Waits until journald has room for it.
    pub(super) fn send(&self, record: &Record) -> io::Result<()> {
        send(&self.0, &datagram(record), SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

/// Returns the datagram with the fields of a record.
fn datagram(record: &Record) -> Vec<u8> {
    let priority = match record.event {
        Event::Change => 5,
        Event::Conflict | Event::Attention | Event::SameLun => 4,
    };
    let some = |value: &dyn ToString| Some(value.to_string());
    let fields = [
        ("MESSAGE", Some(message(record))),
        ("MESSAGE_ID", some(&record.event.message_id())),
        ("PRIORITY", some(&priority)),
        ("SYSLOG_IDENTIFIER", some(&PROGRAM)),
        ("PR_SEQUENCE", some(&record.sequence)),
        ("PR_TIME_US", some(&record.time_us)),
        ("PR_VM", some(&record.client)),
        ("PR_VM_UUID", record.uuid.clone()),
        ("PR_CLIENT", some(&record.client_id)),
        ("PR_CLIENT_PID", some(&record.pid)),
        ("PR_DEVICE", some(&record.device)),
        ("PR_WWN", record.wwn.clone()),
        ("PR_NODE", record.node.clone()),
        ("PR_ACTION", some(&record.action)),
        ("PR_KEY", record.key.clone()),
        ("PR_SERVICE_ACTION_KEY", record.service_action_key.clone()),
        ("PR_TYPE", record.r#type.clone()),
        ("PR_STATUS", some(&record.status)),
        ("PR_SENSE", record.sense.clone()),
        ("PR_DURATION_US", some(&record.duration_us)),
        ("PR_PREVIOUS_KEY", record.previous_key.clone()),
        ("PR_REGISTRANTS_BEFORE", keys(&record.before)),
        ("PR_HOLDER_BEFORE", record.before.holder.clone()),
        ("PR_TYPE_BEFORE", record.before.r#type.clone()),
        ("PR_REGISTRANTS_AFTER", keys(&record.after)),
        ("PR_HOLDER_AFTER", record.after.holder.clone()),
        ("PR_TYPE_AFTER", record.after.r#type.clone()),
        ("PR_OTHER", record.other.clone()),
    ];
    let mut datagram = Vec::new();
    for (name, value) in fields {
        let Some(value) = value else {
            continue;
        };
        datagram.extend(name.bytes());
        // A value with a line break has its length before it.
        if value.contains('\n') {
            datagram.push(b'\n');
            datagram.extend(u64::try_from(value.len()).unwrap_or(u64::MAX).to_le_bytes());
        } else {
            datagram.push(b'=');
        }
        datagram.extend(value.bytes());
        datagram.push(b'\n');
    }
    datagram
}

/// Returns the keys of registrations, with blanks between them; `None` if there are none.
fn keys(known: &KnownReservations) -> Option<String> {
    let keys = known.registrants.join(" ");
    (!keys.is_empty()).then_some(keys)
}

/// Returns the line that `journalctl` shows.
fn message(record: &Record) -> String {
    let disk = record
        .wwn
        .as_ref()
        .or(record.node.as_ref())
        .unwrap_or(&record.device);
    let keys = match (&record.key, &record.service_action_key) {
        (Some(key), Some(new)) => format!(" {key}, {new}"),
        (Some(key), None) => format!(" {key}"),
        (None, _) => String::new(),
    };
    let result = record.sense.as_ref().unwrap_or(&record.status);
    let what = format!(
        "{}: {}{keys} on {disk}: {result}",
        record.client, record.action
    );
    match (&record.other, record.event) {
        (Some(other), Event::SameLun) => {
            format!("{what}; {other} of this host is registered with the same disk")
        }
        (Some(other), _) => format!("{what}; the victim is {other}"),
        (None, _) => what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::entry::tests::entry;
    use pr_testkit::cdb::{self, PrCommand};
    use scsi_pr::ReservationType;

    fn record(command: &PrCommand) -> Record {
        Record {
            client: "guest".to_owned(),
            ..entry(command).to_record(1, None)
        }
    }

    #[test]
    fn fields_are_lines() {
        let mut record = record(&cdb::clear(1));
        record.wwn = Some("naa.6001".to_owned());
        let text = String::from_utf8(datagram(&record)).unwrap();
        let mut lines = text.lines();
        assert_eq!(
            lines.next(),
            Some("MESSAGE=guest: CLEAR 0x1 on naa.6001: GOOD")
        );
        assert!(text.contains("\nPR_WWN=naa.6001\n"), "{text}");
        assert!(!text.contains("PR_SENSE"), "{text}");
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn line_break_cannot_forge_a_field() {
        let mut forged = record(&cdb::clear(1));
        forged.client = "a\nPR_WWN=b".to_owned();
        let bytes = datagram(&forged);
        let field = [&b"\nPR_VM\n"[..], &10_u64.to_le_bytes(), b"a\nPR_WWN=b\n"].concat();
        assert!(bytes.windows(field.len()).any(|window| window == field));
    }

    #[test]
    fn other_virtual_machine_is_named() {
        let mut preempted = record(&cdb::preempt(2, 1, ReservationType::WriteExclusive));
        preempted.other = Some("victim".to_owned());
        assert!(message(&preempted).ends_with("GOOD; the victim is victim"));
        preempted.event = Event::SameLun;
        assert!(
            message(&preempted).ends_with("victim of this host is registered with the same disk")
        );
    }
}
