// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl lun`: creates, lists, shows and removes soft LUNs. These commands access the files
//! without a helper.

mod create;
mod remove;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anstyle::Style;
use clap::{Args, ValueHint};
use cli_messages::error::error_chain;
use scsi_pr::{PrGeneration, ReservationKey, ReservationType};
use soft_lun::store::{Lun, LunDirectory, LunId, Name, Port, StoreError};
use soft_lun::{LogicalUnit, Nexus, NexusId, SupportedFeatures, UnitAttention};

use super::Subcommand;
use crate::console::{BOLD, Console, GOOD, INVALID, PLAIN, escape_path, table};
use crate::context::Context;
use crate::error::AdvisedError;
use crate::exit::Exit;
use crate::labels;
use crate::output::json::{self, Json, ToJson, array, object};
use crate::output::text::{self, ToText, name_value_table};

pub(crate) const HELP: &str = "\
Create and inspect soft LUNs.

A soft LUN is a logical unit in software that supports persistent reservations
and stores no data, for experiments and tests without a SAN. It is a directory.
The files in its subdirectory 'ports' represent ports, like /dev/sda and
/dev/sdb for two ports of a disk, and all other commands accept them as
devices. Start the helper with the directory that contains the soft LUN:
qemu-pr-helper --soft-luns.

These commands read and write the files themselves and use no helper.";
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl lun create luns/shared0
  prhctl lun list luns
  prhctl lun show luns/shared0
  prhctl lun remove luns/shared0

Exit status 0, or 1 if files cannot be created, read or removed.";

const LIST_HELP: &str = "\
List the soft LUNs in a directory.

This is the directory that the helper is started with (--soft-luns). A soft LUN
with damaged files is listed with the error.";
const LIST_EXAMPLES: &str = "\
EXAMPLES
  prhctl lun list /srv/luns
  prhctl --json lun list /srv/luns

Exit status 0, or 1 if the directory cannot be read.";

const SHOW_HELP: &str = "\
Show a soft LUN: its ports, registrations and reservation.

'prhctl status' sends a command, as a guest would. This command reads the files
instead: it receives no unit attention, and shows for each port what the
reservation allows and which unit attentions are pending.";
const SHOW_EXAMPLES: &str = "\
EXAMPLES
  prhctl lun show /srv/luns/quorum

Exit status 0, or 1 if the files cannot be read.";

/// Subcommands of the subcommand.
#[derive(Debug, clap::Subcommand)]
enum LunCommand {
    /// Create a soft LUN
    #[command(long_about = create::HELP, after_long_help = create::EXAMPLES)]
    Create(create::CreateArgs),
    /// List the soft LUNs in a directory
    #[command(long_about = LIST_HELP, after_long_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Show a soft LUN: its ports, registrations and reservation
    #[command(long_about = SHOW_HELP, after_long_help = SHOW_EXAMPLES)]
    Show(ShowArgs),
    /// Remove a soft LUN
    #[command(long_about = remove::HELP, after_long_help = remove::EXAMPLES)]
    Remove(remove::RemoveArgs),
}

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(
    about = "Create, inspect and remove soft LUNs (units in software)",
    long_about = HELP, after_long_help = EXAMPLES, arg_required_else_help = false
)]
pub(crate) struct LunArgs {
    #[command(subcommand)]
    command: LunCommand,
}

impl Subcommand for LunArgs {
    fn run(&self, context: &Context) -> Exit {
        match &self.command {
            LunCommand::Create(args) => context.finish(create::create(args)),
            LunCommand::List(args) => context.finish(list(args, context.console)),
            LunCommand::Show(args) => context.finish(show(args)),
            LunCommand::Remove(args) => context.finish(remove::remove(args)),
        }
    }

    fn uses_helper(&self) -> bool {
        false
    }
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Directory that contains the soft LUNs
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Directory of the soft LUN
    #[arg(value_name = "PATH", value_hint = ValueHint::DirPath)]
    path: PathBuf,
}

/// The configuration and state of a soft LUN.
#[derive(Debug)]
pub(crate) struct LunStatus {
    pub(crate) path: PathBuf,
    pub(crate) identity: LunId,
    pub(crate) supported: SupportedFeatures,
    pub(crate) generation: PrGeneration,
    /// Registrations and reservation persist through a power loss.
    pub(crate) aptpl: bool,
    /// The type of the reservation, and its holder unless all registrants are holders.
    pub(crate) reservation: Option<(ReservationType, Option<String>)>,
    pub(crate) ports: Vec<PortStatus>,
}

/// The state of a port of a soft LUN.
#[derive(Debug)]
pub(crate) struct PortStatus {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) nexus: Nexus,
    pub(crate) key: Option<ReservationKey>,
    pub(crate) is_holder: bool,
    pub(crate) may_read: bool,
    pub(crate) may_write: bool,
    /// The pending unit attentions.
    pub(crate) unit_attentions: Vec<UnitAttention>,
}

/// A soft LUN in a directory.
#[derive(Debug)]
pub(crate) struct LunEntry {
    pub(crate) name: String,
    /// The soft LUN, or why it cannot be used.
    pub(crate) status: Result<LunStatus, String>,
}

impl AdvisedError for StoreError {
    fn advice(&self) -> Vec<String> {
        if let StoreError::Io { path, source, .. } = self
            && source.kind() == ErrorKind::NotADirectory
            && let Some(lun) = lun_of_port(path)
        {
            let lun = lun.display();
            return vec![format!(
                "This is a port of the soft LUN {lun}. Use that path."
            )];
        }
        let line = match self {
            StoreError::Exists(_) => {
                "Choose another name, or see what is there with 'prhctl lun show'."
            }
            StoreError::NotALun(_) => {
                "Use 'prhctl lun list' to list the soft LUNs in a directory, or 'prhctl lun \
                 create' to create one."
            }
            // The soft LUN was not created yet, so there is nothing to repair.
            StoreError::Config { path, .. } if !path.is_file() => return Vec::new(),
            StoreError::Malformed { .. } | StoreError::State { .. } | StoreError::Config { .. } => {
                "Repair the file or restore it from a backup. To start over, move the directory \
                 away, then create it again."
            }
            StoreError::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
                "The directory belongs to another user; run prhctl as its owner, the helper's user."
            }
            _ => return Vec::new(),
        };
        vec![line.to_owned()]
    }
}

/// Runs `prhctl lun list`. A soft LUN that cannot be used does not hide the others.
fn list(args: &ListArgs, console: Console) -> Result<Vec<LunEntry>, StoreError> {
    if is_lun_dir(&args.dir) {
        let path = args.dir.display();
        console.note(&format!(
            "{path} is itself a soft LUN; use 'prhctl lun show'"
        ));
    }
    let dir = LunDirectory::open(&args.dir)?;
    let entry = |name: &Name| LunEntry {
        name: name.to_string(),
        status: dir
            .lun(name)
            .and_then(|lun| lun_status(&lun))
            .map_err(|error| error_chain(&error)),
    };
    Ok(dir.names()?.iter().map(entry).collect())
}

/// Returns the soft LUN that a path is a port of.
fn lun_of_port(path: &Path) -> Option<&Path> {
    let ports = path.parent().filter(|ports| ports.ends_with("ports"))?;
    ports.parent().filter(|lun| is_lun_dir(lun))
}

/// Returns whether a directory is a soft LUN, rather than a directory of soft LUNs.
fn is_lun_dir(dir: &Path) -> bool {
    dir.join("lun.json").is_file()
}

/// Runs `prhctl lun show`.
fn show(args: &ShowArgs) -> Result<LunStatus, StoreError> {
    lun_status(&Lun::open(&args.path)?)
}

fn lun_status(lun: &Lun) -> Result<LunStatus, StoreError> {
    let (config, unit) = (lun.config()?, lun.load()?);
    let name = |nexus| config.port(nexus).map(|port| port.name.to_string());
    let ports = config
        .ports
        .iter()
        .filter_map(|port| Some(port_status(lun, &unit, port, config.nexus(&port.name)?)));
    Ok(LunStatus {
        path: lun.path().to_owned(),
        identity: config.identity,
        supported: config.supported_features,
        generation: unit.generation(),
        aptpl: unit.aptpl(),
        reservation: unit
            .reservation()
            .map(|held| (held.kind(), held.holder().and_then(name))),
        ports: ports.collect(),
    })
}

fn port_status(lun: &Lun, unit: &LogicalUnit, port: &Port, nexus: NexusId) -> PortStatus {
    PortStatus {
        name: port.name.to_string(),
        path: lun.port_path(&port.name),
        nexus: port.nexus.clone(),
        key: unit.key(nexus),
        is_holder: unit.is_holder(nexus),
        may_read: unit.can_read(nexus),
        may_write: unit.can_write(nexus),
        unit_attentions: unit.unit_attentions(nexus).to_vec(),
    }
}

impl ToText for LunStatus {
    fn to_text(&self) -> String {
        let path = escape_path(&self.path);
        let persistence = match self.aptpl {
            true => "persist through a power loss",
            false => "do not persist through a power loss",
        };
        let properties = name_value_table([
            ("reservation", reservation_text(self)),
            ("generation", self.generation.to_string()),
            ("registrations", persistence.to_owned()),
            ("supports", supported(self.supported)),
        ]);
        let header = [
            " NAME",
            "KEY",
            "HOLDER",
            "ACCESS",
            "PORT",
            "TRANSPORTID",
            "UNIT ATTENTIONS",
        ];
        let ports = table(&header, self.ports.iter().map(port_row));
        let identity = self.identity;
        format!("{BOLD}{path}{BOLD:#}: soft LUN {identity}\n{properties}\n{ports}")
    }
}

fn port_row(port: &PortStatus) -> (Style, Vec<String>) {
    let dash = || "-".to_owned();
    let unit_attentions = port.unit_attentions.iter().copied();
    let unit_attentions: Vec<_> = unit_attentions.map(labels::unit_attention).collect();
    let access = match (port.may_read, port.may_write) {
        (_, true) => "rw",
        (true, false) => "ro",
        (false, false) => "none",
    };
    let cells = vec![
        format!(" {}", port.name),
        port.key.map_or_else(dash, |key| key.to_string()),
        if port.is_holder { "yes" } else { "-" }.to_owned(),
        access.to_owned(),
        port.nexus.target_port.to_string(),
        port.nexus.initiator.to_string(),
        match unit_attentions.is_empty() {
            true => dash(),
            false => unit_attentions.join(", "),
        },
    ];
    (if port.is_holder { GOOD } else { PLAIN }, cells)
}

fn reservation_text(lun: &LunStatus) -> String {
    match &lun.reservation {
        None => "none".to_owned(),
        Some((reservation_type, holder)) => text::held_by(*reservation_type, holder.as_deref()),
    }
}

fn supported(supported: SupportedFeatures) -> String {
    let features = [
        (supported.persist_through_power_loss, "APTPL"),
        (supported.specify_initiator_ports, "SPEC_I_PT"),
        (supported.all_target_ports, "ALL_TG_PT"),
    ];
    let features = features.into_iter().filter(|(has, _)| *has);
    let types = supported.types.types().map(labels::short_type);
    let all: Vec<_> = features.map(|(_, name)| name).chain(types).collect();
    all.join(" ")
}

impl ToText for Vec<LunEntry> {
    fn to_text(&self) -> String {
        if self.is_empty() {
            return "no soft LUNs\n".to_owned();
        }
        let rows = self.iter().map(|entry| match &entry.status {
            Ok(lun) => {
                let registered = lun.ports.iter().filter(|port| port.key.is_some()).count();
                let registered = format!("{registered} of {} ports", lun.ports.len());
                (
                    PLAIN,
                    vec![entry.name.clone(), registered, reservation_text(lun)],
                )
            }
            Err(error) => {
                let cells = vec![entry.name.clone(), "unusable".to_owned(), error.clone()];
                (INVALID, cells)
            }
        });
        table(&["NAME", "REGISTERED", "RESERVATION"], rows)
    }
}

impl ToJson for LunStatus {
    fn to_json(&self) -> Json {
        let reservation = self.reservation.as_ref();
        let reservation = reservation
            .map(|(reservation_type, holder)| json::held_by(*reservation_type, holder.as_deref()));
        object! {
            "path": self.path.as_path(),
            "identity": self.identity.to_string(),
            "generation": self.generation.get(),
            "aptpl": self.aptpl,
            "reservation": reservation,
            "supported": object! {
                "aptpl": self.supported.persist_through_power_loss,
                "spec_i_pt": self.supported.specify_initiator_ports,
                "all_tg_pt": self.supported.all_target_ports,
                "types": self.supported.types.types().map(labels::long_type).collect::<Json>(),
            },
            "ports": array(&self.ports),
        }
    }
}

impl ToJson for PortStatus {
    fn to_json(&self) -> Json {
        let unit_attentions = self.unit_attentions.iter().copied();
        let unit_attentions = unit_attentions.map(labels::unit_attention);
        object! {
            "name": &self.name,
            "path": self.path.as_path(),
            "transport_id": self.nexus.initiator.to_string(),
            "relative_target_port": self.nexus.target_port.get(),
            "key": self.key,
            "is_holder": self.is_holder,
            "may_read": self.may_read,
            "may_write": self.may_write,
            "unit_attentions": unit_attentions.collect::<Json>(),
        }
    }
}

impl ToJson for Vec<LunEntry> {
    fn to_json(&self) -> Json {
        object! { "luns": array(self) }
    }
}

impl ToJson for LunEntry {
    fn to_json(&self) -> Json {
        object! {
            "name": &self.name,
            "lun": self.status.as_ref().ok().map(ToJson::to_json),
            "error": self.status.as_ref().err().map(|text| json::message(text)),
        }
    }
}
