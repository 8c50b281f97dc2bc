// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl orphans`: the registrations of disks that no running machine can have made.

use std::path::PathBuf;

use anstyle::Style;
use clap::Args;
use jiff::Timestamp;

use super::{Subcommand, holders, status};
use crate::completion;
use crate::console::{GOOD, PLAIN, REJECTED, table};
use crate::context::{Context, HelperArgs};
use crate::error::Error;
use crate::exit::Exit;
use crate::helper::HelperConnection;
use crate::known_disks::{KnownDisk, known_disks};
use crate::orphans::{DiskState, DiskUsers, Evidence, Judged, OtherHosts, OtherHostsArgs, Verdict};
use crate::output::json::{Json, ToJson, object};
use crate::output::text::{ToText, count, truncation};
use crate::own_registration;
use crate::state::HelperStates;

pub(crate) const HELP: &str = query_help!(
    "\
Show which registrations of a disk have no owner any more: those of virtual
machines and hosts that crashed, of migrations that failed, and of earlier
iSCSI sessions.

  alive    the owner is connected to a helper of this host, or its own host
           says so
  orphan   the owner does not run
  unknown  the owner may run

A registration of this host is an orphan if no virtual machine that is
connected to a helper has its key, no other process has the disk open, and this
host does not use it. This requires root. Another host decides about its own
registrations: make a report there, and name it with --known. It is valid for
ten minutes, and until the registrations of the disk change. --powered-off
names an initiator port of a host that cannot make a report because it is off,
not merely unreachable.

'prhctl reap' removes the registrations with a key."
);
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl orphans /dev/sdb
  ssh node2 prhctl --json orphans /dev/sdb > node2.json
  prhctl orphans /dev/sdb --known node2.json
  prhctl orphans /dev/sdb --powered-off sas,5001405000000002

Exit status 0, or one that 'prhctl --help' lists.";

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(
    about = "Show registrations that crashed machines left behind",
    long_about = HELP, after_long_help = EXAMPLES
)]
pub(crate) struct OrphansArgs {
    /// Paths of the disks; all that the helpers know by default
    #[arg(value_name = "DISK", add = completion::device())]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    others: OtherHostsArgs,
    #[command(flatten)]
    helper: HelperArgs,
}

impl Subcommand for OrphansArgs {
    fn run(&self, context: &Context) -> Exit {
        let others = match OtherHosts::read(&self.others) {
            Ok(others) => others,
            Err(error) => return context.print_failure(&error.into()),
        };
        let host = HostState::read(context, &self.helper);
        let disks = host.disks();
        let paths = match self.paths.is_empty() {
            true => disks.iter().filter_map(KnownDisk::path).collect(),
            false => self.paths.clone(),
        };
        if paths.is_empty() {
            context.console.note("the helpers know no disk; name one");
        }
        context.query_paths_through_any(&paths, &self.helper, |helper| {
            HostState::judge(helper, &disks, &others)
        })
    }
}

/// The states of the helpers of this host.
#[derive(Debug)]
pub(super) struct HostState(HelperStates);

impl HostState {
    /// Reads the states of the helpers. Without one, only the processes of the host count.
    pub(super) fn read(context: &Context, args: &HelperArgs) -> Self {
        HostState(context.all_states(args).unwrap_or_else(|error| {
            context.print_error(&error);
            HelperStates(Vec::new())
        }))
    }

    pub(super) fn disks(&self) -> Vec<KnownDisk<'_>> {
        known_disks(&self.0)
    }

    /// Returns the verdicts on the registrations of a disk.
    pub(super) fn judge(
        helper: &mut HelperConnection<'_>,
        disks: &[KnownDisk<'_>],
        others: &OtherHosts,
    ) -> Result<Verdicts, Error> {
        let status = status::query_registrations(helper)?;
        let owners = helper.owners(&status.value.descriptors);
        let device = helper.block_device();
        let disk = DiskState {
            id: own_registration::disk_id(helper.path(), device),
            generation: status.value.generation.get(),
        };
        let evidence = Evidence {
            disk: holders::find(helper.path(), disks),
            users: DiskUsers::of(helper.path(), device),
            disk_state: &disk,
            others,
        };
        Ok(Verdicts {
            time: Timestamp::now(),
            registrations: evidence.judge(&status.value.descriptors, &owners),
            missing_bytes: status.missing,
            disk,
        })
    }
}

/// The registrations of a disk with their verdicts.
#[derive(Debug)]
pub(super) struct Verdicts {
    pub(super) disk: DiskState,
    time: Timestamp,
    pub(super) registrations: Vec<Judged>,
    /// Bytes that are missing at the end of the list.
    pub(super) missing_bytes: usize,
}

impl ToText for Verdicts {
    fn to_text(&self) -> String {
        let orphans = self.registrations.iter();
        let orphans = orphans.filter(|one| one.verdict == Verdict::Orphan).count();
        let registrations = count(self.registrations.len(), "registration");
        let header = [" KEY", "HOLDER", "VERDICT", "TRANSPORTID", "REASON"];
        let rows = match self.registrations.is_empty() {
            true => String::new(),
            false => table(&header, self.registrations.iter().map(row)),
        };
        let truncation = truncation(self.missing_bytes);
        format!(
            "{registrations}, {}\n{rows}{truncation}",
            count(orphans, "orphan")
        )
    }
}

fn row(judged: &Judged) -> (Style, Vec<String>) {
    let style = match judged.verdict {
        Verdict::Alive => GOOD,
        Verdict::Orphan => REJECTED,
        Verdict::Unknown => PLAIN,
    };
    let registration = &judged.registration;
    let cells = vec![
        format!(" {}", registration.key),
        if registration.holder { "yes" } else { "-" }.to_owned(),
        judged.verdict.name().to_owned(),
        status::initiator_port(registration, judged.owner),
        judged.reason.clone(),
    ];
    (style, cells)
}

impl ToJson for Verdicts {
    fn to_json(&self) -> Json {
        let registrations = self.registrations.iter().map(|one| {
            let mut members = status::registration_json(&one.registration, one.owner);
            members.push(("verdict", one.verdict.name().into()));
            members.push(("reason", one.reason.as_str().into()));
            Json::Object(members)
        });
        object! {
            "time_us": u64::try_from(self.time.as_microsecond()).unwrap_or_default(),
            "wwn": self.disk.id.as_ref(),
            "generation": self.disk.generation,
            "registrations": registrations.collect::<Json>(),
            "missing_bytes": self.missing_bytes,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::scsi_path::Owner;
    use crate::state_fixture::{check_members, plain_text};
    use scsi_pr::{FullStatusDescriptor, ScopeType};

    /// Returns the registrations with these keys, owners and verdicts.
    pub(crate) fn verdicts(registrations: &[(u64, Owner, Verdict)]) -> Verdicts {
        let judged = registrations.iter().map(|&(key, owner, verdict)| Judged {
            registration: FullStatusDescriptor {
                key: key.into(),
                all_tg_pt: false,
                holder: false,
                scope_type: ScopeType(0),
                relative_target_port: 1.into(),
                transport_id: Ok("sas,5001405000000001".parse().unwrap()),
            },
            owner,
            verdict,
            reason: "reason".to_owned(),
        });
        Verdicts {
            disk: DiskState {
                id: Some("naa.6001405".to_owned()),
                generation: 7,
            },
            time: Timestamp::UNIX_EPOCH,
            registrations: judged.collect(),
            missing_bytes: 0,
        }
    }

    #[test]
    fn registrations_have_verdicts_and_reasons() {
        let mut found = verdicts(&[
            (0xa, Owner::ThisPath, Verdict::Orphan),
            (0xb, Owner::Other, Verdict::Unknown),
        ]);
        found.registrations[1].registration.holder = true;
        let expected = "\
2 registrations, 1 orphan
  KEY  HOLDER  VERDICT  TRANSPORTID                       REASON
  0xa  -       orphan   sas,5001405000000001 (this host)  reason
  0xb  yes     unknown  sas,5001405000000001              reason
";
        assert_eq!(plain_text(&found), expected);
        check_members(&found);
    }
}
