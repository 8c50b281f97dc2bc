// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reports of other hosts about the registrations of their own ports: the JSON output of `prhctl
//! orphans` there. A host cannot see the processes of another one.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, ValueHint};
use cli_messages::error::system_error;
use scsi_pr::{FullStatusDescriptor, TransportId};
use serde::Deserialize;
use thiserror::Error;

use super::verdict::Verdict;
use crate::completion;
use crate::console::escape_control;
use crate::error::AdvisedError;

/// Maximum age of a report in seconds. Machines can start meanwhile.
const MAX_AGE: u64 = 600;

/// Tolerated difference of two hosts' clocks in seconds.
const MAX_CLOCK_DIFFERENCE: u64 = 60;

/// Options about other hosts.
#[derive(Debug, Default, Args)]
pub(crate) struct OtherHostsArgs {
    /// Report of another host. Can be repeated
    #[arg(long, value_name = "FILE", add = completion::file())]
    known: Vec<PathBuf>,
    /// Port of a host that is off. Can be repeated
    #[arg(long, value_name = "TRANSPORTID", value_hint = ValueHint::Other)]
    powered_off: Vec<TransportId>,
}

/// A report that cannot be used.
#[derive(Debug, Error)]
#[error("{}: {reason}", path.display())]
pub(crate) struct ReportError {
    path: PathBuf,
    reason: Reason,
}

#[derive(Debug, Error)]
enum Reason {
    #[error("cannot read the report: {}", system_error(.0))]
    Read(io::Error),
    #[error("not the JSON output of 'prhctl orphans'")]
    Malformed,
    #[error("the report is older than 10 minutes, or from the future")]
    Old,
}

impl AdvisedError for ReportError {
    fn advice(&self) -> Vec<String> {
        let line = "Make a report on the other host: prhctl --json orphans DISK > FILE";
        vec![line.to_owned()]
    }
}

/// Knowledge about the registrations of other hosts.
#[derive(Debug, Default)]
pub(crate) struct OtherHosts {
    reports: Vec<Report>,
    powered_off: Vec<TransportId>,
}

/// Identifier of a disk, and the number of changes to its registrations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DiskState {
    /// WWN, or the identifier of a soft LUN.
    pub(crate) id: Option<String>,
    /// PRgeneration.
    pub(crate) generation: u32,
}

/// The report of a disk.
#[derive(Debug, Deserialize)]
struct Report {
    time_us: u64,
    wwn: Option<String>,
    generation: u32,
    registrations: Vec<Reported>,
}

/// A registration in a report.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Reported {
    key: String,
    relative_target_port: Option<u16>,
    transport_id: String,
    owner: Option<String>,
    verdict: String,
    reason: String,
}

/// The reports of one file.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Reports {
    One(Report),
    Several(Vec<Report>),
}

impl OtherHosts {
    /// Reads the reports.
    pub(crate) fn read(args: &OtherHostsArgs) -> Result<Self, ReportError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        let mut all = Vec::new();
        for path in &args.known {
            let reports = read(path, now).map_err(|reason| ReportError {
                path: path.clone(),
                reason,
            })?;
            all.extend(reports);
        }
        Ok(OtherHosts {
            reports: all,
            powered_off: args.powered_off.clone(),
        })
    }

    /// Returns the verdict on a registration of another host with a disk. A report counts only if
    /// it is about this disk, and if nothing has changed since. Of several reports, one that the
    /// owner may run counts.
    pub(super) fn verdict(
        &self,
        disk: &DiskState,
        registration: &FullStatusDescriptor,
    ) -> (Verdict, String) {
        let of_disk = self
            .reports
            .iter()
            .filter(|report| report.wwn.is_some() && report.wwn == disk.id);
        let statements: Vec<_> = of_disk
            .flat_map(|report| {
                let is_current = report.generation == disk.generation;
                let own = report.registrations.iter();
                own.filter(|one| one.is_about(registration))
                    .map(move |one| (one, is_current))
            })
            .collect();
        let is_orphan = |(one, is_current): &(&Reported, bool)| {
            *is_current && Verdict::from_name(&one.verdict) == Some(Verdict::Orphan)
        };
        let doubt = statements.iter().find(|one| !is_orphan(one));
        match doubt.or_else(|| statements.first()) {
            Some((_, false)) => {
                let reason = "the registrations have changed since the report of its host";
                return (Verdict::Unknown, reason.to_owned());
            }
            Some((own, true)) => {
                let verdict = Verdict::from_name(&own.verdict).unwrap_or(Verdict::Unknown);
                let reason = format!("its host says: {}", escape_control(&own.reason));
                return (verdict, reason);
            }
            None => {}
        }
        let port = registration.transport_id.as_ref().ok();
        match port.is_some_and(|port| self.powered_off.contains(port)) {
            true => (Verdict::Orphan, "its host is powered off".to_owned()),
            false => (
                Verdict::Unknown,
                "made by another host (--known, --powered-off)".to_owned(),
            ),
        }
    }
}

fn read(path: &PathBuf, now: u64) -> Result<Vec<Report>, Reason> {
    let text = fs::read_to_string(path).map_err(Reason::Read)?;
    let reports = match serde_json::from_str(&text).map_err(|_| Reason::Malformed)? {
        Reports::One(report) => vec![report],
        Reports::Several(reports) => reports,
    };
    let is_recent = |report: &Report| {
        let time = report.time_us / 1_000_000;
        time.saturating_add(MAX_AGE) >= now && time <= now.saturating_add(MAX_CLOCK_DIFFERENCE)
    };
    match reports.iter().all(is_recent) {
        true => Ok(reports),
        false => Err(Reason::Old),
    }
}

impl Reported {
    /// Returns whether this is the statement of the host that a registration belongs to.
    fn is_about(&self, registration: &FullStatusDescriptor) -> bool {
        let owner = self.owner.as_deref();
        let is_of_its_host = matches!(owner, Some("this-path" | "other-path" | "earlier-session"));
        let port = (!registration.all_tg_pt).then(|| registration.relative_target_port.get());
        is_of_its_host
            && self.key == registration.key.to_string()
            && self.relative_target_port == port
            && registration
                .transport_id
                .as_ref()
                .is_ok_and(|id| id.to_string() == self.transport_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn reports(time: u64, owner: &str, verdict: &str) -> String {
        format!(
            r#"[{{"time_us": {time}000000, "wwn": "naa.1", "generation": 7, "registrations": [{{
                "key": "0xa", "relative_target_port": 1, "owner": "{owner}",
                "transport_id": "sas,5001405000000001", "verdict": "{verdict}", "reason": "r"
            }}]}}]"#
        )
    }

    fn others(text: &str) -> Result<OtherHosts, Reason> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report");
        fs::write(&path, text).unwrap();
        let reports = read(&path, NOW)?;
        Ok(OtherHosts {
            reports,
            powered_off: vec!["sas,5001405000000002".parse().unwrap()],
        })
    }

    #[test]
    fn host_decides_about_its_own_ports_only() {
        for (owner, verdict, key, port, expected) in [
            ("this-path", "orphan", 0xa, 1, Verdict::Orphan),
            ("other-path", "alive", 0xa, 1, Verdict::Alive),
            ("earlier-session", "orphan", 0xa, 1, Verdict::Orphan),
            ("this-path", "dead", 0xa, 1, Verdict::Unknown),
            ("other-host", "orphan", 0xa, 1, Verdict::Unknown),
            ("this-path", "orphan", 0xb, 1, Verdict::Unknown),
            ("this-path", "orphan", 0xa, 2, Verdict::Orphan),
            ("this-path", "orphan", 0xa, 3, Verdict::Unknown),
        ] {
            let others = others(&reports(NOW, owner, verdict)).unwrap();
            let registration = descriptor(key, &format!("sas,500140500000000{port}"));
            let found = others.verdict(&disk("naa.1", 7), &registration);
            assert_eq!(
                found.0, expected,
                "{owner} {verdict} {key} {port}: {}",
                found.1
            );
        }
    }

    fn disk(id: &str, generation: u32) -> DiskState {
        DiskState {
            id: Some(id.to_owned()),
            generation,
        }
    }

    /// Nodes of a cluster have the same keys on all disks.
    #[test]
    fn report_is_about_one_disk_and_one_generation() {
        let registration = descriptor(0xa, "sas,5001405000000001");
        let orphan = reports(NOW, "this-path", "orphan");
        let alive = reports(NOW, "this-path", "alive");
        let verdict = |text: &str, disk: &DiskState| {
            let others = others(text).unwrap();
            others.verdict(disk, &registration).0
        };
        assert_eq!(verdict(&orphan, &disk("naa.1", 7)), Verdict::Orphan);
        assert_eq!(verdict(&orphan, &disk("naa.1", 8)), Verdict::Unknown);
        assert_eq!(verdict(&orphan, &disk("naa.2", 7)), Verdict::Unknown);
        assert_eq!(verdict(&orphan, &DiskState::default()), Verdict::Unknown);
        let without_id = orphan.replace("\"naa.1\"", "null");
        assert_eq!(
            verdict(&without_id, &DiskState::default()),
            Verdict::Unknown
        );
        let both = format!("{},{}", &orphan[..orphan.len() - 1], &alive[1..]);
        assert_eq!(verdict(&both, &disk("naa.1", 7)), Verdict::Alive);
    }

    #[test]
    fn unusable_reports_are_errors() {
        let error = |text: &str| others(text).unwrap_err().to_string();
        assert!(others(&reports(NOW - 600, "this-path", "orphan")).is_ok());
        for text in [reports(NOW - 601, "", ""), reports(NOW + 61, "", "")] {
            assert_eq!(error(&text), Reason::Old.to_string());
        }
        for text in ["", "{}", "[{}]", "[1]"] {
            assert_eq!(error(text), Reason::Malformed.to_string());
        }
    }

    fn descriptor(key: u64, port: &str) -> FullStatusDescriptor {
        FullStatusDescriptor {
            key: key.into(),
            all_tg_pt: false,
            holder: false,
            scope_type: scsi_pr::ScopeType(0),
            relative_target_port: 1.into(),
            transport_id: Ok(port.parse().unwrap()),
        }
    }
}
