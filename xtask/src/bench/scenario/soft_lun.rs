//! Commands for a soft LUN: reading its state, and changing it.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use scsi_pr::Status;

use super::overhead::{processor, rate};
use crate::bench::contestant::Contestant;
use crate::bench::figure::Figure;
use crate::bench::lab::Lab;
use crate::bench::part::{Load, Order};
use crate::bench::results::Measured;
use crate::{build, process};

/// The commands, and what they are called.
pub(super) const ORDERS: [(Order, &str); 2] = [
    (Order::ReadKeys, "READ KEYS"),
    (Order::Reserve, "RESERVE and RELEASE"),
];

pub(super) fn measure(lab: &Lab, contestant: &Contestant) -> Result<Measured> {
    let luns = lab.folder().join("luns");
    let lun = luns.join("shared0");
    if !lun.exists() {
        fs::create_dir_all(&luns).context("cannot make a folder")?;
        let prhctl = build::release("prhctl")?;
        let mut create = Command::new(prhctl);
        create
            .args(["lun", "create"])
            .arg(&lun)
            .args(["--port", "node1"]);
        process::text(&mut create)?;
    }
    let server = lab.start_with(contestant, &["--soft-luns".into(), luns.into()])?;
    let mut measured = Vec::new();
    for (order, name) in ORDERS {
        let served = lab.run(&Load {
            device: lun.join("ports/node1"),
            order,
            ..lab.load(&server, 1)
        })?;
        let statuses: Vec<_> = served.statuses.keys().copied().collect();
        ensure!(
            statuses == [Status::GOOD.0],
            "{name} was answered with {statuses:?}"
        );
        let figure = |what: &str, unit| Figure::new(format!("{name}: {what}"), unit, &[]);
        measured.extend([
            (figure("CPU per request", "µs"), processor(&served)),
            (figure("requests", "1/s"), rate(&served)),
            (figure("wait p50", "µs"), served.p50),
            (figure("wait p99", "µs"), served.p99),
        ]);
    }
    Ok(measured)
}
