//! What a host looks like: many clients that are mostly idle, a few that are busy, some that come and go, and
//! commands that hang.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::hung::Devices;
use super::overhead::{processor, rate};
use crate::bench::contestant::Contestant;
use crate::bench::figure::{Figure, Goal};
use crate::bench::lab::{Lab, gather};
use crate::bench::part::{Crowd, Gathered, Load, Order, Served};
use crate::bench::results::Measured;

/// Of a thousand clients that are mostly idle, those that never ask.
const IDLE: usize = 968;
/// And those that do, each ten times a second.
const PACED: usize = 32;
const PACE: Duration = Duration::from_millis(100);

/// Those that never pause.
const BUSY: usize = 8;

/// From one client that comes, is greeted and leaves to the next one.
const CHURN: Duration = Duration::from_millis(20);

const HUNG: usize = 16;

/// How many times as long as a point is measured elsewhere: the paced clients ask seldom, and their worst wait is
/// one of few.
const TIMES: u32 = 3;

const FAILED: &[Goal] = &[Goal::AtMost(0.0)];

pub(super) fn measure(lab: &Lab, contestant: &Contestant) -> Result<Measured> {
    // What is declared first goes last; see the scenario `hung`.
    let server = lab.start(contestant)?;
    let devices = Devices::start(lab)?;
    let mut hung = devices.start_crowd(lab, &server, HUNG)?;
    let mut idle = lab.start_crowd(&lab.crowd(&server, IDLE))?;
    for crowd in [&mut hung, &mut idle] {
        ensure!(gather(crowd)?.failed == 0, "not everybody was let in");
    }

    let length = lab.length * TIMES;
    let load = |clients, pace: Duration| {
        Ok::<_, anyhow::Error>(Load {
            milliseconds: length.as_millis().try_into()?,
            pace: pace.as_micros().try_into()?,
            order: Order::Both,
            ..lab.load(&server, clients)
        })
    };
    let mut paced = lab.start_load(&load(PACED, PACE)?)?;
    let mut busy = lab.start_load(&load(BUSY, Duration::ZERO)?)?;
    let mut churn = lab.start_crowd(&Crowd {
        leave: true,
        pace: CHURN.as_micros().try_into()?,
        ..lab.crowd(
            &server,
            (length.as_millis() / CHURN.as_millis()).try_into()?,
        )
    })?;
    paced.begin()?;
    busy.begin()?;
    // Returns when the last one has left, which is as long as the others take.
    let churned = gather(&mut churn)?;
    let (busy, paced): (Served, Served) = (busy.found()?, paced.found()?);
    ensure!(
        busy.unanswered + paced.unanswered == 0,
        "a client had no answer"
    );
    Ok(figures(&busy, &paced, &churned))
}

fn figures(busy: &Served, paced: &Served, churned: &Gathered) -> Measured {
    // The server's time while the busy ones ask is that for all, comers and goers too.
    let mut all = busy.clone();
    all.requests += paced.requests;
    let failed = u32::try_from(churned.failed).unwrap_or(u32::MAX);
    let paced_wait = |what: &str| Figure::new(format!("wait {what}, 32 paced clients"), "ms", &[]);
    vec![
        (
            Figure::new("CPU per request, all", "µs", &[]),
            processor(&all),
        ),
        (
            Figure::new("requests, 8 busy clients", "1/s", &[]),
            rate(busy),
        ),
        (paced_wait("p50"), paced.p50 / 1e3),
        (paced_wait("p99"), paced.p99 / 1e3),
        (paced_wait("worst"), paced.worst / 1e3),
        (
            Figure::new("comers without a handshake", "number", FAILED),
            f64::from(failed),
        ),
    ]
}
