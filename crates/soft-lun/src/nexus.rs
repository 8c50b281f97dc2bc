// SPDX-License-Identifier: MIT OR Apache-2.0

//! `I_T` nexuses: pairs of an initiator port and a target port.

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

/// The index of a nexus in the list that a [`LogicalUnit`](crate::LogicalUnit) was created with.
///
/// An identifier is valid for that unit only. A unit without such an index answers LOGICAL UNIT
/// NOT SUPPORTED.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NexusId(pub(crate) usize);

/// An invalid list of nexuses.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NexusError {
    /// The list contains a nexus twice.
    #[error("duplicate I_T nexus {} at target port {}", .0.initiator, .0.target_port)]
    Duplicate(Nexus),
    /// An iSCSI name without a session identifier names an initiator device, not a port.
    #[error("{0} is not an initiator port: it has no session identifier")]
    InitiatorDevice(TransportId),
    /// Relative target port 0 is reserved (SPC-4, 6.15.5).
    #[error("relative target port 0 is reserved")]
    TargetPortZero,
}

/// All nexuses of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Nexuses(Vec<Nexus>);

impl Nexuses {
    pub(crate) fn new(nexuses: Vec<Nexus>) -> Result<Self, NexusError> {
        for (index, nexus) in nexuses.iter().enumerate() {
            if is_device(&nexus.initiator) {
                return Err(NexusError::InitiatorDevice(nexus.initiator.clone()));
            }
            if nexus.target_port == RelativeTargetPort::default() {
                return Err(NexusError::TargetPortZero);
            }
            let mut later = nexuses.iter().skip(index).skip(1);
            if later.any(|other| other == nexus) {
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
        let nexuses = self.0.iter().enumerate();
        nexuses.map(|(index, nexus)| (NexusId(index), nexus))
    }

    pub(crate) fn find(&self, wanted: &Nexus) -> Option<NexusId> {
        self.0.iter().position(|nexus| nexus == wanted).map(NexusId)
    }

    /// Returns all nexuses of the initiator port of `id`, including `id` (`ALL_TG_PT`).
    pub(crate) fn same_initiator(&self, id: NexusId) -> Vec<NexusId> {
        let initiator = self.get(id).map(|nexus| &nexus.initiator);
        self.filter(|nexus| Some(&nexus.initiator) == initiator)
    }

    /// Returns the nexuses that a TransportID of `SPEC_I_PT` names: those at `port`, or, if there
    /// are none or `port` is `None`, those at all target ports.
    pub(crate) fn specified_by(
        &self,
        name: &TransportId,
        port: Option<RelativeTargetPort>,
    ) -> Vec<NexusId> {
        let names = |nexus: &Nexus| names(name, &nexus.initiator);
        let at_port = self.filter(|nexus| Some(nexus.target_port) == port && names(nexus));
        match at_port.is_empty() {
            true => self.filter(names),
            false => at_port,
        }
    }

    fn filter(&self, predicate: impl Fn(&Nexus) -> bool) -> Vec<NexusId> {
        let nexuses = self.iter().filter(|(_, nexus)| predicate(nexus));
        nexuses.map(|(id, _)| id).collect()
    }
}

/// Returns whether a TransportID names an initiator device: an iSCSI name without a session
/// identifier.
pub(crate) const fn is_device(id: &TransportId) -> bool {
    matches!(id, TransportId::Iscsi(iscsi) if iscsi.isid.is_none())
}

/// Returns whether `name` is `port` or the initiator device of `port` (SPC-4, 7.6.4.6: an iSCSI
/// initiator device TransportID applies to all initiator ports with that name).
fn names(name: &TransportId, port: &TransportId) -> bool {
    match (name, port) {
        (TransportId::Iscsi(device), TransportId::Iscsi(port)) if device.isid.is_none() => {
            device.name == port.name
        }
        _ => name == port,
    }
}
