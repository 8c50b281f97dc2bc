// SPDX-License-Identifier: MIT OR Apache-2.0

//! Ten thousand clients that connect in a burst and disconnect after the handshake.

use std::time::Instant;

use anyhow::Result;

use crate::context::{BenchContext, connect_all};
use crate::metric::{Goal, Metric};
use crate::results::Measured;
use crate::role::IdleClients;
use crate::subject::Subject;

const CONNECTIONS: usize = 10_000;

const FAILED: &[Goal] = &[Goal::AtMost(0.0)];

pub(super) fn measure(context: &BenchContext, subject: &Subject) -> Result<Measured> {
    let server = context.start(subject)?;
    let mut idle_clients = context.start_idle_clients(&IdleClients {
        disconnect: true,
        ..context.idle_clients(&server, CONNECTIONS)
    })?;
    let start = Instant::now();
    let counts = connect_all(&mut idle_clients)?;
    let time = start.elapsed().as_secs_f64() * 1e3;
    let failed = f64::from(u32::try_from(counts.failed)?);
    Ok(vec![
        (Metric::new("10000 connections in a burst", "ms", &[]), time),
        (
            Metric::new("of these without a handshake", "number", FAILED),
            failed,
        ),
    ])
}
