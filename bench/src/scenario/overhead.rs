// SPDX-License-Identifier: MIT OR Apache-2.0

//! Overhead of the helper: commands to `/dev/null`, which the kernel rejects at once.

use anyhow::Result;

use crate::context::BenchContext;
use crate::metric::{Goal, Metric};
use crate::results::Measured;
use crate::role::Served;
use crate::subject::Subject;

const CLIENTS: [usize; 4] = [1, 4, 16, 64];

const PROCESSOR: &[Goal] = &[Goal::TimesFloorAtMost(1.15), Goal::LessThanOriginal(3.0)];
const RATE: &[Goal] = &[Goal::TimesFloorAtLeast(0.9)];
/// A wait is the reciprocal of a rate: 1 / 0.9.
const MEDIAN_WAIT: &[Goal] = &[Goal::TimesFloorAtMost(1.11)];
const TAIL: &[Goal] = &[Goal::TimesFloorAtMost(1.2)];

pub(super) fn measure(context: &BenchContext, subject: &Subject) -> Result<Measured> {
    let server = context.start(subject)?;
    let mut measured = Vec::new();
    for clients in CLIENTS {
        let served = context.run_answered(&context.load(&server, clients))?;
        measured.extend(metrics(clients, &served));
    }
    Ok(measured)
}

fn metrics(clients: usize, served: &Served) -> Measured {
    let is_one = clients == 1;
    // Goals for waits apply to one client, and goals for rates to several.
    let goals_if = |goals: &'static [Goal], applies: bool| if applies { goals } else { &[] };
    let metric = |what: &str, unit, goals| {
        let s = if is_one { "" } else { "s" };
        Metric::new(format!("{what}, {clients} client{s}"), unit, goals)
    };
    vec![
        (
            metric("CPU per request", "µs", PROCESSOR),
            processor(served),
        ),
        (
            metric("requests", "1/s", goals_if(RATE, !is_one)),
            rate(served),
        ),
        (
            metric("wait p50", "µs", goals_if(MEDIAN_WAIT, is_one)),
            served.p50,
        ),
        (metric("wait p99", "µs", goals_if(TAIL, is_one)), served.p99),
        (metric("wait worst", "µs", &[]), served.worst),
    ]
}

/// Returns the server's processor time for a request, in microseconds.
pub(super) fn processor(served: &Served) -> f64 {
    served.processor_seconds * 1e6 / count(served)
}

/// Returns the number of requests per second.
pub(super) fn rate(served: &Served) -> f64 {
    count(served) / served.seconds
}

fn count(served: &Served) -> f64 {
    // A run has far fewer than 2^32 requests.
    f64::from(u32::try_from(served.requests).unwrap_or(u32::MAX))
}
