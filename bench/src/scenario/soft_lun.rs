// SPDX-License-Identifier: MIT OR Apache-2.0

//! Commands to a soft LUN.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use scsi_pr::Status;

use super::overhead::{processor, rate};
use crate::context::BenchContext;
use crate::metric::Metric;
use crate::results::Measured;
use crate::role::{Load, Workload};
use crate::subject::Subject;
use pr_testkit::{build, process};

/// The workloads and their names.
pub(super) const WORKLOADS: [(Workload, &str); 2] = [
    (Workload::ReadKeys, "READ KEYS"),
    (Workload::Reserve, "RESERVE and RELEASE"),
];

pub(super) fn measure(context: &BenchContext, subject: &Subject) -> Result<Measured> {
    let luns = context.dir().join("luns");
    let lun = luns.join("shared0");
    if !lun.exists() {
        fs::create_dir_all(&luns).context("cannot create a directory")?;
        let prhctl = build::release("prhctl")?;
        let mut create = Command::new(prhctl);
        create
            .args(["lun", "create"])
            .arg(&lun)
            .args(["--port", "node1"]);
        process::text(&mut create)?;
    }
    let server = context.start_with(subject, &["--soft-luns".into(), luns.into()])?;
    let mut measured = Vec::new();
    for (workload, name) in WORKLOADS {
        let served = context.run(&Load {
            device: lun.join("ports/node1"),
            workload,
            ..context.load(&server, 1)
        })?;
        let statuses: Vec<_> = served.statuses.keys().copied().collect();
        ensure!(
            statuses == [Status::GOOD.0],
            "{name} returned the statuses {statuses:?}"
        );
        let metric = |what: &str, unit| Metric::new(format!("{name}: {what}"), unit, &[]);
        measured.extend([
            (metric("CPU per request", "µs"), processor(&served)),
            (metric("requests", "1/s"), rate(&served)),
            (metric("wait p50", "µs"), served.p50),
            (metric("wait p99", "µs"), served.p99),
        ]);
    }
    Ok(measured)
}
