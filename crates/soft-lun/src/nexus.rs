//! Nexuses: which initiator port reaches the unit through which target port.

use scsi_pr::{RelativeTargetPort, TransportId};
use thiserror::Error;

/// An `I_T` nexus: one initiator port and one target port (SAM-5). A registration belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Nexus {
    /// The initiator port.
    pub initiator: TransportId,
    /// The target port.
    pub target_port: RelativeTargetPort,
}

/// A nexus of a [`LogicalUnit`](crate::LogicalUnit), by its place in the list that the unit was
/// made with.
///
/// It means nothing to another unit, which answers LOGICAL UNIT NOT SUPPORTED if it has no such place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NexusId(pub(crate) usize);

/// Why a list of nexuses is none of a logical unit.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NexusError {
    /// One is there twice.
    #[error("I_T nexus {} at target port {} is there twice", .0.initiator, .0.target_port)]
    Duplicate(Nexus),
    /// An iSCSI name without a session identifier is an initiator device, and no port of it.
    #[error("{0} is no initiator port: it has no session identifier")]
    InitiatorDevice(TransportId),
    /// Relative target port 0 is reserved (SPC-4, 6.15.5).
    #[error("relative target port 0 is reserved")]
    TargetPortZero,
}

/// All nexuses of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Nexuses(Vec<Nexus>);

impl Nexuses {
    /// # Errors
    ///
    /// [`NexusError`]: one of them cannot be, or is there twice.
    pub(crate) fn new(nexuses: Vec<Nexus>) -> Result<Self, NexusError> {
        for (place, nexus) in nexuses.iter().enumerate() {
            if is_device(&nexus.initiator) {
                return Err(NexusError::InitiatorDevice(nexus.initiator.clone()));
            }
            if nexus.target_port == RelativeTargetPort::default() {
                return Err(NexusError::TargetPortZero);
            }
            if nexuses
                .iter()
                .skip(place)
                .skip(1)
                .any(|other| other == nexus)
            {
                return Err(NexusError::Duplicate(nexus.clone()));
            }
        }
        Ok(Nexuses(nexuses))
    }

    pub(crate) fn get(&self, id: NexusId) -> Option<&Nexus> {
        self.0.get(id.0)
    }

    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (NexusId, &Nexus)> {
        self.0
            .iter()
            .enumerate()
            .map(|(place, nexus)| (NexusId(place), nexus))
    }

    pub(crate) fn find(&self, wanted: &Nexus) -> Option<NexusId> {
        self.iter()
            .find_map(|(id, nexus)| (nexus == wanted).then_some(id))
    }

    /// All of the same initiator port, `id` among them: what `ALL_TG_PT` is about.
    pub(crate) fn of_same_initiator(&self, id: NexusId) -> Vec<NexusId> {
        let initiator = self.get(id).map(|nexus| &nexus.initiator);
        self.ids(|nexus| Some(&nexus.initiator) == initiator)
    }

    /// Those that a TransportID of `SPEC_I_PT` names at a target port, or, where it names none there, at
    /// all target ports.
    pub(crate) fn named(&self, name: &TransportId, port: RelativeTargetPort) -> Vec<NexusId> {
        let here = self.ids(|nexus| nexus.target_port == port && names(name, &nexus.initiator));
        match here.is_empty() {
            true => self.named_anywhere(name),
            false => here,
        }
    }

    /// Those that a TransportID names at all target ports.
    pub(crate) fn named_anywhere(&self, name: &TransportId) -> Vec<NexusId> {
        self.ids(|nexus| names(name, &nexus.initiator))
    }

    fn ids(&self, wanted: impl Fn(&Nexus) -> bool) -> Vec<NexusId> {
        self.iter()
            .filter(|(_, nexus)| wanted(nexus))
            .map(|(id, _)| id)
            .collect()
    }
}

/// Whether a TransportID is that of an initiator device: an iSCSI name without session identifier.
pub(crate) const fn is_device(id: &TransportId) -> bool {
    matches!(id, TransportId::Iscsi(iscsi) if iscsi.isid.is_none())
}

/// Whether `name` is `port`, or the initiator device that it belongs to (SPC-4, 7.6.4.6: an iSCSI
/// initiator device TransportID stands for all initiator ports with that name).
fn names(name: &TransportId, port: &TransportId) -> bool {
    match (name, port) {
        (TransportId::Iscsi(device), TransportId::Iscsi(port)) if device.isid.is_none() => {
            device.name == port.name
        }
        _ => name == port,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nexus(initiator: &str, port: u16) -> Nexus {
        Nexus {
            initiator: initiator.parse().expect("a TransportID"),
            target_port: port.into(),
        }
    }

    #[test]
    fn a_nexus_is_there_once_and_is_one_of_ports() {
        let sas = nexus("sas,5001405000000001", 1);
        let device = nexus("iqn.2024-01.example:a", 1);
        let zero = nexus("sas,5001405000000001", 0);
        for (list, error) in [
            (vec![sas.clone(), zero], NexusError::TargetPortZero),
            (
                vec![device.clone()],
                NexusError::InitiatorDevice(device.initiator),
            ),
            (
                vec![sas.clone(), nexus("sas,5001405000000002", 1), sas.clone()],
                NexusError::Duplicate(sas),
            ),
        ] {
            assert_eq!(Nexuses::new(list), Err(error));
        }
    }

    #[test]
    fn an_iscsi_name_stands_for_all_ports_of_the_device() {
        let list = vec![
            nexus("iqn.2024-01.example:a,i,0x000000000001", 1),
            nexus("iqn.2024-01.example:a,i,0x000000000002", 1),
            nexus("iqn.2024-01.example:a,i,0x000000000003", 2),
            nexus("iqn.2024-01.example:b,i,0x000000000001", 1),
        ];
        let nexuses = Nexuses::new(list).expect("nexuses");
        let name = nexus("iqn.2024-01.example:a", 1).initiator;
        assert_eq!(nexuses.named(&name, 1.into()), [NexusId(0), NexusId(1)]);
        assert_eq!(nexuses.named(&name, 2.into()), [NexusId(2)]);
        assert_eq!(nexuses.named(&name, 9.into()).len(), 3);
    }
}
