// SPDX-License-Identifier: MIT OR Apache-2.0

//! More clients than the limit of open files allows: connected clients are served, and waiting ones
//! cost no processor time and are accepted as soon as another client disconnects.

use std::io;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::context::{BenchContext, connect_all};
use crate::metric::{Goal, Metric};
use crate::results::Measured;
use crate::role::{IdleClients, Load, Served, connect};
use crate::server::Server;
use crate::subject::Subject;
use crate::worker::Worker;

const DESCRIPTORS: u32 = 256;

/// Connections of a process. Our helper gives a process a quarter of its connections, and has a
/// quarter as many connections as descriptors.
const PER_PROCESS: usize = 10;
/// Handshake timeout in milliseconds, after which the helper counts as full.
const HANDSHAKE_TIMEOUT_MS: u64 = 300;

/// Pace of the connected client in microseconds; it is slow, so that the helper's processor time is
/// not spent on its requests.
const PACE_US: u64 = 50_000;
const DURATION_MS: u64 = 2000;

/// Number of waiting clients; it is lower than the number of clients that disconnect.
const WAITING: usize = 4;
/// Maximum wait of these clients.
const MAX_WAIT: Duration = Duration::from_secs(8);

const PROCESSOR: &[Goal] = &[Goal::Below(1.0)];
const SERVED: &[Goal] = &[Goal::AtMost(0.0)];
const ACCEPT_TIME: &[Goal] = &[Goal::Below(10.0)];

pub(super) fn measure(context: &BenchContext, subject: &Subject) -> Result<Measured> {
    let server = context.start_limited(subject, DESCRIPTORS)?;
    let mut connected = context.start_load(&Load {
        pace: PACE_US,
        milliseconds: DURATION_MS,
        ..context.load(&server, 1)
    })?;
    let mut idle_clients = fill(context, &server)?;
    let waiting: Vec<_> = (0..WAITING).map(|_| wait_for_accept(&server)).collect();
    connected.send_start()?;
    let served: Served = connected.result()?;
    let start = Instant::now();
    drop(idle_clients.pop().context("no client could connect")?);
    let mut max_wait = Duration::ZERO;
    let mut clients = Vec::new();
    for client in waiting {
        let (client, accepted_at) = client
            .join()
            .map_err(|_| anyhow!("a client thread panicked"))?;
        max_wait = max_wait.max(accepted_at.saturating_duration_since(start));
        clients.push(client);
    }

    let is_disconnected = served.unanswered > 0;
    let mut measured = vec![
        (
            Metric::new("CPU while full", "%", PROCESSOR),
            served.processor_seconds / served.seconds * 1e2,
        ),
        (
            Metric::new("connected client loses its connection", "of 1", SERVED),
            f64::from(u8::from(is_disconnected)),
        ),
        (
            Metric::new("accepted after others disconnect", "ms", ACCEPT_TIME),
            max_wait.as_secs_f64() * 1e3,
        ),
    ];
    if !is_disconnected {
        let worst = Metric::new("wait worst of the connected client", "ms", &[]);
        measured.push((worst, served.worst / 1e3));
    }
    Ok(measured)
}

/// Starts a client that waits to be accepted; returns its connection and the time at which it was
/// accepted or timed out.
fn wait_for_accept(server: &Server) -> JoinHandle<(io::Result<UnixStream>, Instant)> {
    let socket = server.socket.clone();
    thread::spawn(move || (connect(&socket, MAX_WAIT), Instant::now()))
}

/// Connects clients, process after process, until the helper accepts no more.
fn fill(context: &BenchContext, server: &Server) -> Result<Vec<Worker>> {
    let idle_clients = IdleClients {
        timeout: HANDSHAKE_TIMEOUT_MS,
        ..context.idle_clients(server, PER_PROCESS)
    };
    let mut connected = Vec::new();
    for _ in 0..DESCRIPTORS {
        let mut share = context.start_idle_clients(&idle_clients)?;
        let counts = connect_all(&mut share)?;
        if counts.made > 0 {
            connected.append(&mut share);
        }
        if counts.failed > 0 {
            return Ok(connected);
        }
    }
    bail!("the helper is not full after {DESCRIPTORS} processes of clients")
}
