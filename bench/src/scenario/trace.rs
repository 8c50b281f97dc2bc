// SPDX-License-Identifier: MIT OR Apache-2.0

//! Cost of tracing: requests to `/dev/null` with disabled trace points, without trace points, and
//! with a binary trace of all events.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::overhead::{processor, rate};
use crate::context::BenchContext;
use crate::metric::{Goal, Metric};
use crate::results::Measured;
use crate::subject::{OURS, SIMPLE, Subject, UNTRACED};

const CLIENTS: [usize; 2] = [4, 16];

const RATE: &[Goal] = &[
    Goal::AtLeast(OURS, UNTRACED, 0.99),
    Goal::AtLeast(SIMPLE, UNTRACED, 0.85),
];

/// Event ID of a record about dropped events (QEMU's `trace/simple.c`).
const DROPPED: u64 = u64::MAX - 1;

/// Size of a word. A record's length does not include its first word, the record type.
const WORD: usize = 8;

pub(super) fn measure(context: &BenchContext, subject: &Subject) -> Result<Measured> {
    let server = context.start(subject)?;
    let mut measured = Vec::new();
    for clients in CLIENTS {
        let served = context.run_answered(&context.load(&server, clients))?;
        let metric = |what: &str, unit, goals| {
            Metric::new(format!("{what}, {clients} clients"), unit, goals)
        };
        measured.push((metric("CPU per request", "µs", &[]), processor(&served)));
        measured.push((metric("requests", "1/s", RATE), rate(&served)));
    }
    // The helper still runs, so the end of the trace can be missing, which is far less than one
    // percent.
    if subject.is(SIMPLE) {
        let dropped = dropped(&context.trace())?;
        measured.push((Metric::new("events dropped", "%", &[]), dropped));
    }
    Ok(measured)
}

/// Returns the percentage of events that were dropped from a trace.
fn dropped(path: &Path) -> Result<f64> {
    let trace = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    // The header is three words.
    let mut rest = trace.get(3 * WORD..).context("the trace has no header")?;
    let (mut written, mut missing) = (0_u32, 0_u32);
    while let Some(kind) = word(rest, 0) {
        let length = if kind == 0 {
            // Layout of an event name: ID, length, name.
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
    ensure!(written > 0, "the trace has no events");
    let all = f64::from(written) + f64::from(missing);
    Ok(f64::from(missing) / all * 100.0)
}

fn word(bytes: &[u8], index: usize) -> Option<u64> {
    let bytes = bytes.get(index * WORD..(index + 1) * WORD)?;
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}
