// SPDX-License-Identifier: MIT OR Apache-2.0

//! The load of a host: many clients that are mostly idle, a few busy ones, some that connect and
//! disconnect, and hanging commands.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::hung::Devices;
use super::overhead::{processor, rate};
use crate::context::{BenchContext, connect_all};
use crate::metric::{Goal, Metric};
use crate::results::Measured;
use crate::role::{ConnectionCounts, IdleClients, Load, Served, Workload};
use crate::subject::Subject;

/// Clients that never send a request.
const IDLE: usize = 968;
/// Clients that send ten requests a second each.
const PACED: usize = 32;
const PACE: Duration = Duration::from_millis(100);

/// Clients that send requests without a pause.
const BUSY: usize = 8;

/// Delay between two clients that connect, do the handshake and disconnect.
const RECONNECT_DELAY: Duration = Duration::from_millis(20);

const HUNG: usize = 16;

/// Multiple of the usual measuring time. The paced clients send few requests, so their worst wait
/// needs a longer time.
const TIME_FACTOR: u32 = 3;

const FAILED: &[Goal] = &[Goal::AtMost(0.0)];

pub(super) fn measure(context: &BenchContext, subject: &Subject) -> Result<Measured> {
    // Variables are dropped in reverse order; see the scenario `hung`.
    let server = context.start(subject)?;
    let devices = Devices::start(context)?;
    let mut hung = devices.start_idle_clients(context, &server, HUNG)?;
    let mut idle = context.start_idle_clients(&context.idle_clients(&server, IDLE))?;
    for idle_clients in [&mut hung, &mut idle] {
        ensure!(
            connect_all(idle_clients)?.failed == 0,
            "a client could not connect"
        );
    }

    let duration = context.length * TIME_FACTOR;
    let load = |clients, pace: Duration| {
        Ok::<_, anyhow::Error>(Load {
            milliseconds: duration.as_millis().try_into()?,
            pace: pace.as_micros().try_into()?,
            workload: Workload::Both,
            ..context.load(&server, clients)
        })
    };
    let mut paced = context.start_load(&load(PACED, PACE)?)?;
    let mut busy = context.start_load(&load(BUSY, Duration::ZERO)?)?;
    let mut churn = context.start_idle_clients(&IdleClients {
        disconnect: true,
        pace: RECONNECT_DELAY.as_micros().try_into()?,
        ..context.idle_clients(
            &server,
            (duration.as_millis() / RECONNECT_DELAY.as_millis()).try_into()?,
        )
    })?;
    paced.send_start()?;
    busy.send_start()?;
    // Returns when the last client has disconnected, which takes as long as the other loads.
    let churn_counts = connect_all(&mut churn)?;
    let (busy, paced): (Served, Served) = (busy.result()?, paced.result()?);
    ensure!(
        busy.unanswered + paced.unanswered == 0,
        "a client's request timed out"
    );
    Ok(metrics(&busy, &paced, &churn_counts))
}

fn metrics(busy: &Served, paced: &Served, churn_counts: &ConnectionCounts) -> Measured {
    // The server's processor time while the busy clients run is that for all clients.
    let mut total = busy.clone();
    total.requests += paced.requests;
    let failed = u32::try_from(churn_counts.failed).unwrap_or(u32::MAX);
    let paced_wait = |what: &str| Metric::new(format!("wait {what}, 32 paced clients"), "ms", &[]);
    vec![
        (
            Metric::new("CPU per request, all", "µs", &[]),
            processor(&total),
        ),
        (
            Metric::new("requests, 8 busy clients", "1/s", &[]),
            rate(busy),
        ),
        (paced_wait("p50"), paced.p50 / 1e3),
        (paced_wait("p99"), paced.p99 / 1e3),
        (paced_wait("worst"), paced.worst / 1e3),
        (
            Metric::new("short connections without a handshake", "number", FAILED),
            f64::from(failed),
        ),
    ]
}
