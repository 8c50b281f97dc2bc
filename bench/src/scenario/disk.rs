// SPDX-License-Identifier: MIT OR Apache-2.0

//! Commands to real disks, on a single path and on a multipath map.

use std::path::Path;

use anyhow::Result;
use scsi_pr::Status;

use super::overhead::rate;
use super::soft_lun::WORKLOADS;
use crate::context::BenchContext;
use crate::metric::Metric;
use crate::results::Measured;
use crate::role::{Load, Served};
use crate::subject::{ORIGINAL, Subject};

/// A disk, and a multipath map with the same target.
pub struct Disks<'a> {
    /// A disk with one path.
    pub one_path: &'a Path,
    /// A multipath map.
    pub map: &'a Path,
}

/// Measures one subject in one round.
///
/// The metrics do not include processor time, because a helper can execute commands on maps in
/// processes of their own, which are not counted. QEMU's helper skips the map: Debian builds it
/// without multipath support, so it would send a command for all paths to one of them.
pub(crate) fn measure(
    context: &BenchContext,
    subject: &Subject,
    disks: &Disks<'_>,
) -> Result<Measured> {
    let server = context.start(subject)?;
    let mut measured = Vec::new();
    for (workload, name) in WORKLOADS {
        let mut serve = |disk_name: &str, path: &Path| {
            let served = context.run_answered(&Load {
                device: path.to_owned(),
                workload,
                ..context.load(&server, 1)
            })?;
            measured.extend(metrics(&format!("{name}, {disk_name}"), &served));
            anyhow::Ok(served.p50)
        };
        let one_path = serve("one path", disks.one_path)?;
        if !subject.is(ORIGINAL) {
            let map = serve("map", disks.map)?;
            let metric = format!("{name}, map / one path: wait p50");
            measured.push((Metric::new(metric, "×", &[]), map / one_path));
        }
    }
    Ok(measured)
}

fn metrics(of: &str, served: &Served) -> Measured {
    let metric = |what: &str, unit| Metric::new(format!("{of}: {what}"), unit, &[]);
    vec![
        (metric("requests", "1/s"), rate(served)),
        (metric("wait p50", "ms"), served.p50 / 1e3),
        (metric("wait p99", "ms"), served.p99 / 1e3),
        (
            metric("responses other than GOOD", "%"),
            percent_not_good(served),
        ),
    ]
}

/// Returns the percentage of responses other than GOOD. RELEASE can leave a unit attention for
/// another path.
fn percent_not_good(served: &Served) -> f64 {
    let good = served.statuses.get(&Status::GOOD.0).copied().unwrap_or(0);
    let count = |number: u64| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    count(served.requests - good) / count(served.requests) * 100.0
}
