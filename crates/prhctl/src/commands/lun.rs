//! The commands about soft LUNs: made, listed, shown. No helper is asked: they read the files.

use std::path::{Path, PathBuf};

use scsi_pr::{
    PrGeneration, RelativeTargetPort, ReservationKey, ReservationType, TransportId, TypeMask,
};
use soft_lun::store::{Lun, LunDirectory, LunId, Name, Port, StoreError};
use soft_lun::{LogicalUnit, Nexus, NexusId, SupportedFeatures, UnitAttention};

use crate::chain::chain;
use crate::cli::lun::{Feature, LunCreate, PortSpec};

/// A soft LUN, and how it is now.
#[derive(Debug)]
pub(crate) struct View {
    /// Its folder.
    pub(crate) path: PathBuf,
    /// Its identity.
    pub(crate) identity: LunId,
    /// What it supports.
    pub(crate) supported: SupportedFeatures,
    /// PRgeneration.
    pub(crate) generation: PrGeneration,
    /// Whether registrations and reservation outlast a loss of power.
    pub(crate) aptpl: bool,
    /// The reservation's type, and the port that holds it unless all registrants do.
    pub(crate) reservation: Option<(ReservationType, Option<String>)>,
    /// Its ports.
    pub(crate) ports: Vec<PortView>,
}

/// One of the soft LUNs in a folder.
#[derive(Debug)]
pub(crate) struct Listed {
    /// Its name.
    pub(crate) name: String,
    /// How it is, or what is wrong with it.
    pub(crate) view: Result<View, String>,
}

/// A port of a soft LUN, and how it is now.
#[derive(Debug)]
pub(crate) struct PortView {
    /// Its name.
    pub(crate) name: String,
    /// The file.
    pub(crate) path: PathBuf,
    /// The nexus.
    pub(crate) nexus: Nexus,
    /// The key that it is registered with.
    pub(crate) key: Option<ReservationKey>,
    /// Whether it holds the reservation.
    pub(crate) holder: bool,
    /// Whether it may read and write.
    pub(crate) may_read: bool,
    /// Whether it may write.
    pub(crate) may_write: bool,
    /// The unit attentions that wait for it.
    pub(crate) attentions: Vec<UnitAttention>,
}

/// Makes one.
///
/// # Errors
///
/// Why it was not made.
pub(crate) fn create(given: &LunCreate) -> Result<View, StoreError> {
    let ports = match given.ports.is_empty() {
        true => ["node1", "node2"]
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect(),
        false => given.ports.clone(),
    };
    let ports = ports.into_iter().zip(1..).map(port).collect();
    let has = |feature| !given.without.contains(&feature);
    let types = given.types.iter();
    let supported = SupportedFeatures {
        persist_through_power_loss: has(Feature::Aptpl),
        specify_initiator_ports: has(Feature::SpecIPt),
        all_target_ports: has(Feature::AllTgPt),
        types: match given.types.is_empty() {
            true => TypeMask::ALL,
            false => types.fold(TypeMask::default(), |mask, kind| mask.with(*kind)),
        },
    };
    view(&Lun::create(&given.path, ports, supported)?)
}

/// A port as it was given; the `number`th, if it was not given an initiator port. The same number is the
/// same initiator port on every soft LUN, as a host's adapter is to all of its disks.
fn port((spec, number): (PortSpec, u64)) -> Port {
    let sas_address = LOCAL | number;
    Port {
        name: spec.name,
        nexus: Nexus {
            initiator: spec.initiator.unwrap_or(TransportId::Sas { sas_address }),
            target_port: spec.target_port.unwrap_or(RelativeTargetPort::new(1)),
        },
    }
}

/// NAA 3h, locally assigned (SPC-4, 7.8.6.6.4): nobody's adapter has such an address.
const LOCAL: u64 = 3 << 60;

/// Shows those in a folder. One that cannot be used does not hide the others.
///
/// # Errors
///
/// That the folder cannot be read.
pub(crate) fn list(folder: &Path) -> Result<Vec<Listed>, StoreError> {
    let folder = LunDirectory::open(folder)?;
    let listed = |name: &Name| Listed {
        name: name.to_string(),
        view: folder
            .lun(name)
            .and_then(|lun| view(&lun))
            .map_err(|error| chain(&error)),
    };
    Ok(folder.names()?.iter().map(listed).collect())
}

/// Whether a folder is a soft LUN, and not one of those that hold some.
pub(crate) fn is_one(folder: &Path) -> bool {
    folder.join("lun.json").is_file()
}

/// Shows one.
///
/// # Errors
///
/// What is wrong with its files.
pub(crate) fn show(path: &Path) -> Result<View, StoreError> {
    view(&Lun::open(path)?)
}

fn view(lun: &Lun) -> Result<View, StoreError> {
    let (description, unit) = (lun.config()?, lun.load()?);
    let name = |nexus| description.port(nexus).map(|port| port.name.to_string());
    let ports = description
        .ports
        .iter()
        .filter_map(|port| Some(port_view(lun, &unit, port, description.nexus(&port.name)?)));
    Ok(View {
        path: lun.path().to_owned(),
        identity: description.identity,
        supported: description.supported_features,
        generation: unit.generation(),
        aptpl: unit.aptpl(),
        reservation: unit
            .reservation()
            .map(|held| (held.kind(), held.holder().and_then(name))),
        ports: ports.collect(),
    })
}

fn port_view(lun: &Lun, unit: &LogicalUnit, port: &Port, nexus: NexusId) -> PortView {
    PortView {
        name: port.name.to_string(),
        path: lun.port_path(&port.name),
        nexus: port.nexus.clone(),
        key: unit.key_of(nexus),
        holder: unit.is_holder(nexus),
        may_read: unit.can_read(nexus),
        may_write: unit.can_write(nexus),
        attentions: unit.unit_attentions(nexus).to_vec(),
    }
}
