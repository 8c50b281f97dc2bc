//! Commands for disks that answer, a path and a map: reading their state, and changing it.

use std::path::Path;

use anyhow::{Result, ensure};
use scsi_pr::Status;

use super::overhead::rate;
use super::soft_lun::ORDERS;
use crate::bench::contestant::{Contestant, ORIGINAL};
use crate::bench::figure::Figure;
use crate::bench::lab::Lab;
use crate::bench::part::{Load, Served};
use crate::bench::results::Measured;

/// A disk, and a multipath map of the same kind.
pub(crate) struct Disks<'a> {
    pub(crate) one_path: &'a Path,
    pub(crate) map: &'a Path,
}

/// One contestant in one round.
///
/// Processor time is not among the figures: where a helper has commands to maps done by processes of their own, it
/// is theirs. QEMU's helper has no part in the map: Debian builds it without multipath, and it would send what is
/// for all paths to one.
pub(in crate::bench) fn measure(
    lab: &Lab,
    contestant: &Contestant,
    disks: &Disks<'_>,
) -> Result<Measured> {
    let server = lab.start(contestant)?;
    let mut measured = Vec::new();
    for (order, name) in ORDERS {
        let mut serve = |disk: &str, path: &Path| {
            let served = lab.run(&Load {
                device: path.to_owned(),
                order,
                ..lab.load(&server, 1)
            })?;
            ensure!(served.unanswered == 0, "{disk}: {name} had no answer");
            measured.extend(figures(&format!("{name}, {disk}"), &served));
            anyhow::Ok(served.p50)
        };
        let one_path = serve("one path", disks.one_path)?;
        if !contestant.is(ORIGINAL) {
            let map = serve("map", disks.map)?;
            let figure = format!("{name}, map / one path: wait p50");
            measured.push((Figure::new(figure, "×", &[]), map / one_path));
        }
    }
    Ok(measured)
}

fn figures(of: &str, served: &Served) -> Measured {
    let figure = |what: &str, unit| Figure::new(format!("{of}: {what}"), unit, &[]);
    vec![
        (figure("requests", "1/s"), rate(served)),
        (figure("wait p50", "ms"), served.p50 / 1e3),
        (figure("wait p99", "ms"), served.p99 / 1e3),
        (figure("answers but GOOD", "%"), others(served)),
    ]
}

/// How many of a hundred answers were another one than GOOD. RELEASE may leave a unit attention for another path.
fn others(served: &Served) -> f64 {
    let good = served.statuses.get(&Status::GOOD.0).copied().unwrap_or(0);
    let count = |number: u64| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    count(served.requests - good) / count(served.requests) * 100.0
}
