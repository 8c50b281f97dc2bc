//! Ten thousand clients at once, each gone after its handshake.

use std::time::Instant;

use anyhow::Result;

use crate::bench::contestant::Contestant;
use crate::bench::figure::{Figure, Goal};
use crate::bench::lab::{Lab, gather};
use crate::bench::part::Crowd;
use crate::bench::results::Measured;

const CONNECTIONS: usize = 10_000;

const FAILED: &[Goal] = &[Goal::AtMost(0.0)];

pub(super) fn measure(lab: &Lab, contestant: &Contestant) -> Result<Measured> {
    let server = lab.start(contestant)?;
    let mut crowd = lab.start_crowd(&Crowd {
        leave: true,
        ..lab.crowd(&server, CONNECTIONS)
    })?;
    let start = Instant::now();
    let gathered = gather(&mut crowd)?;
    let time = start.elapsed().as_secs_f64() * 1e3;
    let failed = f64::from(u32::try_from(gathered.failed)?);
    Ok(vec![
        (Figure::new("10000 connections in a burst", "ms", &[]), time),
        (
            Figure::new("of these without a handshake", "number", FAILED),
            failed,
        ),
    ])
}
