// SPDX-License-Identifier: MIT OR Apache-2.0

//! Commands that are recorded in the event journal: without a system journal, with one that reads
//! all records, and with one that reads none. Another thread writes the records, so that no command
//! waits for the journal.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use helper_state::{Journal, StateDocument};
use pr_testkit::eventually;
use pr_testkit::namespace::mount_namespace;

use crate::context::BenchContext;
use crate::metric::{Goal, Metric};
use crate::results::Measured;
use crate::role::{Load, Served, Workload};
use crate::server::Server;
use crate::subject::Subject;

const PACE_US: u64 = 1000;
/// Time in milliseconds after which more records have been made than may wait to be written.
const DURATION_MS: u64 = 3000;

/// Maximum size of a record in the protocol of the journal.
const MAX_RECORD: usize = 1 << 16;

const WORST: &[Goal] = &[Goal::Below(2.0)];

/// A system journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    None,
    Running,
    Stopped,
}

pub(super) fn measure(context: &BenchContext, subject: &Subject) -> Result<Measured> {
    let mut measured = Vec::new();
    for (reader, name) in [
        (Reader::None, "no journal"),
        (Reader::Running, "journal"),
        (Reader::Stopped, "stopped journal"),
    ] {
        let (served, lost) = measure_with(context, subject, reader).context(name)?;
        let metric = |what: &str, unit, goals| Metric::new(format!("{name}: {what}"), unit, goals);
        measured.extend([
            (metric("wait p99", "ms", &[]), served.p99 / 1e3),
            (metric("wait worst", "ms", WORST), served.worst / 1e3),
        ]);
        if reader != Reader::None {
            measured.push((metric("records lost", "", &[]), lost));
        }
    }
    Ok(measured)
}

/// Measures a client, and returns the number of lost records as well. Fails unless each record was
/// received or counted as lost.
fn measure_with(
    context: &BenchContext,
    subject: &Subject,
    reader: Reader,
) -> Result<(Served, f64)> {
    let path = context.dir().join("journal");
    // The socket of the last round may exist.
    let _not_left = fs::remove_file(&path);
    let socket = UnixDatagram::bind(&path).context("cannot create the journal's socket")?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mount = match reader {
        Reader::None => String::new(),
        _ => format!(
            "mkdir -p /run/systemd/journal\n: > /run/systemd/journal/socket\n\
             mount --bind {} /run/systemd/journal/socket",
            path.display()
        ),
    };
    let script = format!("mount -t tmpfs none /run\n{mount}");
    let wrapper = mount_namespace(&script).context("cannot create a mount namespace")?;
    let wrapper: Vec<_> = wrapper.iter().map(OsStr::new).collect();
    let server = context.start_wrapped(&wrapper, subject)?;
    let load = Load {
        pace: PACE_US,
        milliseconds: DURATION_MS,
        workload: Workload::Both,
        ..context.load(&server, 1)
    };
    if reader == Reader::None {
        return Ok((context.run_answered(&load)?, 0.0));
    }
    let mut received = 0;
    let served = thread::scope(|scope| {
        let load = scope.spawn(|| context.run_answered(&load));
        while reader == Reader::Running && !load.is_finished() {
            received += receive(&socket)?;
        }
        load.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    // The records that wait are written as soon as the journal reads.
    let journal = eventually("all records are received or lost", || {
        received += receive(&socket).ok()?;
        let journal = journal(&server).ok()?;
        let made = journal.records.last()?.sequence;
        (received + journal.lost == made).then_some(journal)
    });
    ensure!(
        (journal.lost > 0) == (reader == Reader::Stopped),
        "{} records were lost, and {received} received",
        journal.lost
    );
    Ok((served, u32::try_from(journal.lost)?.into()))
}

/// Receives records until none arrives for a moment, and returns their number.
fn receive(socket: &UnixDatagram) -> io::Result<u64> {
    let (mut count, mut record) = (0, vec![0; MAX_RECORD]);
    loop {
        match socket.recv(&mut record) {
            Ok(_) => count += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(count),
            Err(error) => return Err(error),
        }
    }
}

/// Reads the journal in the state of the helper.
fn journal(server: &Server) -> Result<Journal> {
    let pid = u32::try_from(server.pid().as_raw_pid())?;
    let name = SocketAddr::from_abstract_name(helper_state::socket_name(pid))?;
    let mut document = Vec::new();
    UnixStream::connect_addr(&name)?.read_to_end(&mut document)?;
    let state: StateDocument = serde_json::from_slice(&document)?;
    Ok(state.journal)
}
