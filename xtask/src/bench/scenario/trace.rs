//! What traces cost: requests to `/dev/null` where trace points are off, where there are none, and where all
//! events go to a binary trace.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::overhead::{processor, rate};
use crate::bench::contestant::{Contestant, OURS, SIMPLE, UNTRACED};
use crate::bench::figure::{Figure, Goal};
use crate::bench::lab::Lab;
use crate::bench::results::Measured;

const CLIENTS: [usize; 2] = [4, 16];

const RATE: &[Goal] = &[
    Goal::AtLeast(OURS, UNTRACED, 0.99),
    Goal::AtLeast(SIMPLE, UNTRACED, 0.85),
];

/// The number that stands for missing events (QEMU's `trace/simple.c`).
const DROPPED: u64 = u64::MAX - 1;

/// Words of a record that are not among the bytes that it counts.
const WORD: usize = 8;

pub(super) fn measure(lab: &Lab, contestant: &Contestant) -> Result<Measured> {
    let server = lab.start(contestant)?;
    let mut measured = Vec::new();
    for clients in CLIENTS {
        let served = lab.run(&lab.load(&server, clients))?;
        ensure!(
            served.unanswered == 0,
            "a client of {clients} had no answer"
        );
        let figure = |what: &str, unit, goals| {
            Figure::new(format!("{what}, {clients} clients"), unit, goals)
        };
        measured.push((figure("CPU per request", "µs", &[]), processor(&served)));
        measured.push((figure("requests", "1/s", RATE), rate(&served)));
    }
    // Before it has ended, the end of the trace may be missing; it is far less than one in a hundred.
    if contestant.is(SIMPLE) {
        let dropped = dropped(&lab.trace())?;
        measured.push((Figure::new("events dropped", "%", &[]), dropped));
    }
    Ok(measured)
}

/// How many of a hundred events are missing in a trace.
fn dropped(path: &Path) -> Result<f64> {
    let trace = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    // The header is three words.
    let mut rest = trace.get(3 * WORD..).context("a trace without header")?;
    let (mut written, mut missing) = (0_u32, 0_u32);
    while let Some(kind) = word(rest, 0) {
        let length = if kind == 0 {
            // A name: number, length, name.
            let length = rest
                .get(2 * WORD..2 * WORD + 4)
                .and_then(|bytes| bytes.try_into().ok());
            length.map(|length| 2 * WORD + 4 + u32::from_ne_bytes(length) as usize)
        } else {
            let length = rest
                .get(3 * WORD..3 * WORD + 4)
                .and_then(|bytes| bytes.try_into().ok());
            length.map(|length| WORD + u32::from_ne_bytes(length) as usize)
        };
        let Some(after) = length.and_then(|length| rest.get(length..)) else {
            break;
        };
        match word(rest, 1) {
            _ if kind == 0 => {}
            Some(DROPPED) => {
                let count = word(rest, 4).and_then(|count| u32::try_from(count).ok());
                missing = missing.saturating_add(count.unwrap_or(u32::MAX));
            }
            _ => written = written.saturating_add(1),
        }
        rest = after;
    }
    ensure!(written > 0, "nothing was traced");
    let all = f64::from(written) + f64::from(missing);
    Ok(f64::from(missing) / all * 100.0)
}

fn word(bytes: &[u8], place: usize) -> Option<u64> {
    let bytes = bytes.get(place * WORD..(place + 1) * WORD)?;
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}
