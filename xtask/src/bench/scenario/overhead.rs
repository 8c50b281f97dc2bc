//! What the helper itself costs: commands for `/dev/null`, which the kernel refuses at once.

use anyhow::{Result, ensure};

use crate::bench::contestant::Contestant;
use crate::bench::figure::{Figure, Goal};
use crate::bench::lab::Lab;
use crate::bench::part::Served;
use crate::bench::results::Measured;

const CLIENTS: [usize; 4] = [1, 4, 16, 64];

const PROCESSOR: &[Goal] = &[Goal::TimesFloorAtMost(1.15), Goal::LessThanOriginal(3.0)];
const RATE: &[Goal] = &[Goal::TimesFloorAtLeast(0.9)];
/// A wait is the reciprocal of a rate: 1 / 0.9.
const MEDIAN_WAIT: &[Goal] = &[Goal::TimesFloorAtMost(1.11)];
const TAIL: &[Goal] = &[Goal::TimesFloorAtMost(1.2)];

pub(super) fn measure(lab: &Lab, contestant: &Contestant) -> Result<Measured> {
    let server = lab.start(contestant)?;
    let mut measured = Vec::new();
    for clients in CLIENTS {
        let served = lab.run(&lab.load(&server, clients))?;
        ensure!(
            served.unanswered == 0,
            "a client of {clients} had no answer"
        );
        measured.extend(figures(clients, &served));
    }
    Ok(measured)
}

fn figures(clients: usize, served: &Served) -> Measured {
    let is_one = clients == 1;
    // Goals for waits are for one client, those for rates for several.
    let of = |goals: &'static [Goal], is_meant: bool| if is_meant { goals } else { &[] };
    let figure = |what: &str, unit, goals| {
        let s = if is_one { "" } else { "s" };
        Figure::new(format!("{what}, {clients} client{s}"), unit, goals)
    };
    vec![
        (
            figure("CPU per request", "µs", PROCESSOR),
            processor(served),
        ),
        (figure("requests", "1/s", of(RATE, !is_one)), rate(served)),
        (
            figure("wait p50", "µs", of(MEDIAN_WAIT, is_one)),
            served.p50,
        ),
        (figure("wait p99", "µs", of(TAIL, is_one)), served.p99),
        (figure("wait worst", "µs", &[]), served.worst),
    ]
}

/// The server's processor time for a request, in microseconds.
pub(super) fn processor(served: &Served) -> f64 {
    served.processor_seconds * 1e6 / count(served)
}

/// Requests in a second.
pub(super) fn rate(served: &Served) -> f64 {
    count(served) / served.seconds
}

fn count(served: &Served) -> f64 {
    // Far below 2^32 in the minutes that anybody measures.
    f64::from(u32::try_from(served.requests).unwrap_or(u32::MAX))
}
