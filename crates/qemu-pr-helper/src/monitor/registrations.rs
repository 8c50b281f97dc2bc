// SPDX-License-Identifier: MIT OR Apache-2.0

//! Registrations and reservations that clients of this helper have made.
//!
//! They are what the helper has seen: it sends no commands of its own to find out which keys are
//! registered. A change by another host becomes known when a command reports it with a unit
//! attention.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::time::SystemTime;

use helper_state::{KnownReservations, Registration, Reservation};
use pr_helper_protocol::{Request, RequestFd};
use scsi_pr::{AdditionalSense, OutServiceAction, ReservationKey, ScopeType, Sense};

use super::change::{Change, type_name};
use super::process;
use crate::command::device::{self, DeviceId};
use crate::command::peer::{Peer, ProcessKey};
use crate::command::request_device::{LimitKey, RequestDevice};
use crate::command::timestamp::unix_microseconds;

/// Maximum number of disks with registrations. A client can register with any number of disks.
const MAX_DISKS: usize = 4096;

/// Maximum number of registrations of a disk that are kept.
const MAX_REGISTRATIONS: usize = 256;

/// Disk of a registration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DiskKey {
    /// A device. A disk and its sg node are the same.
    Device(DeviceId),
    /// A soft LUN, by its path.
    SoftLun(String),
}

/// Name between the path of a soft LUN and that of a port.
const PORTS: &str = "/ports/";

impl DiskKey {
    pub(super) fn new(request: &Request, device: &RequestDevice) -> Self {
        match (&request.fd, device.id, device.limit_key) {
            (RequestFd::Open(fd), id @ DeviceId::File(_), _) => {
                let path = device::name(fd.as_fd(), id);
                let lun = path.rsplit_once(PORTS).map(|(lun, _)| lun.to_owned());
                Self::SoftLun(lun.unwrap_or(path))
            }
            (_, _, Some(LimitKey::Block(major, minor))) => {
                Self::Device(DeviceId::Block(major, minor))
            }
            (_, id, _) => Self::Device(id),
        }
    }

    /// Returns the text in the state document.
    pub(super) fn device(&self) -> String {
        match self {
            Self::Device(id) => id.to_string(),
            Self::SoftLun(path) => path.clone(),
        }
    }
}

/// Returns the nexus of a request: to the logical unit, all clients with this device are one
/// initiator. Each port of a soft LUN is a nexus, and has a path of its own.
pub(super) fn nexus(request: &Request, disk: &DiskKey) -> DiskKey {
    match (&request.fd, disk) {
        (RequestFd::Open(fd), DiskKey::SoftLun(_)) => {
            DiskKey::SoftLun(device::name(fd.as_fd(), DeviceId::Unknown))
        }
        _ => disk.clone(),
    }
}

/// Owner of a registration.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub(super) nexus: DiskKey,
    /// The client. Its name can become known later.
    pub(super) peer: Peer,
}

impl Owner {
    fn is_same(&self, other: &Self) -> bool {
        self.nexus == other.nexus && self.is_same_machine(other)
    }

    fn is_same_machine(&self, other: &Self) -> bool {
        let (own, others) = (self.uuid(), other.uuid());
        self.process() == other.process() || own.is_some() && own == others
    }

    pub(super) const fn process(&self) -> ProcessKey {
        self.peer.process_key()
    }

    /// Returns the UUID of the virtual machine. The processes of a live migration within this host
    /// share it.
    fn uuid(&self) -> Option<&str> {
        self.peer.process()?.vm.as_ref()?.uuid.as_deref()
    }

    fn name(&self) -> String {
        process(&self.peer).name
    }
}

/// Registrations and the reservation of a disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    registrants: Vec<ReservationKey>,
    holder: Option<(ReservationKey, ScopeType)>,
}

impl Known {
    /// Returns the form of the state document.
    pub(super) fn to_state(&self) -> KnownReservations {
        KnownReservations {
            registrants: self.registrants.iter().map(ToString::to_string).collect(),
            holder: self.holder.map(|(key, _)| key.to_string()),
            r#type: self.holder.map(|(_, scope_type)| type_name(scope_type)),
        }
    }
}

/// Returns whether a unit attention with this code reports a change by another initiator (SPC-4,
/// 5.12.11).
pub(super) fn is_change_by_other(code: AdditionalSense) -> bool {
    matches!(
        code,
        AdditionalSense::RESERVATIONS_PREEMPTED
            | AdditionalSense::RESERVATIONS_RELEASED
            | AdditionalSense::REGISTRATIONS_PREEMPTED
    )
}

/// Registrations and reservations of all disks.
#[derive(Debug, Default)]
pub(super) struct Registrations(BTreeMap<DiskKey, DiskState>);

#[derive(Debug, Default)]
struct DiskState {
    wwn: Option<String>,
    registrations: Vec<Registered>,
    reservation: Option<Reserved>,
}

#[derive(Debug)]
struct Registered {
    owner: Owner,
    key: ReservationKey,
    time: SystemTime,
}

#[derive(Debug)]
struct Reserved {
    owner: Owner,
    key: ReservationKey,
    scope_type: ScopeType,
    time: SystemTime,
}

impl Registrations {
    /// Returns the key that was last registered over the owner's nexus.
    pub(super) fn key_of(&self, disk: &DiskKey, owner: &Owner) -> Option<ReservationKey> {
        let mut registrations = self.0.get(disk)?.registrations.iter().rev();
        let last = registrations.find(|registered| registered.owner.nexus == owner.nexus);
        last.map(|registered| registered.key)
    }

    /// Returns the owner of a key, unless it is `except`, over any device of this host with this
    /// `wwn`.
    pub(super) fn owner_of(
        &self,
        disk: &DiskKey,
        wwn: Option<&str>,
        key: Option<ReservationKey>,
        except: &Owner,
    ) -> Option<Peer> {
        let key = key?;
        let mut registrations = self.over_any_device(disk, wwn);
        let owner = registrations
            .find(|registered| registered.key == key && !registered.owner.is_same(except));
        owner.map(|registered| registered.owner.peer.clone())
    }

    /// Returns the registrations and the reservation of a disk.
    pub(super) fn known(&self, disk: &DiskKey) -> Known {
        let Some(state) = self.0.get(disk) else {
            return Known::default();
        };
        let reserved = state.reservation.as_ref();
        Known {
            registrants: state.registrations.iter().map(|known| known.key).collect(),
            holder: reserved.map(|reserved| (reserved.key, reserved.scope_type)),
        }
    }

    /// Returns the registrations over all devices of this host with the `wwn` of a disk.
    fn over_any_device<'a>(
        &'a self,
        disk: &'a DiskKey,
        wwn: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Registered> {
        let wwn = wwn.or_else(|| self.0.get(disk)?.wwn.as_deref());
        let same_disk = self.0.iter().filter(move |(key, state)| {
            *key == disk || wwn.is_some() && state.wwn.as_deref() == wwn
        });
        same_disk.flat_map(|(_, state)| &state.registrations)
    }

    /// Returns another owner with a registration and a running process that the disk cannot tell
    /// from this one: over any device of this host with this `wwn`, or over the same port of a soft
    /// LUN.
    pub(super) fn other_owner(
        &self,
        disk: &DiskKey,
        wwn: Option<&str>,
        owner: &Owner,
        is_running: impl Fn(ProcessKey) -> bool,
    ) -> Option<Peer> {
        let is_soft_lun = matches!(disk, DiskKey::SoftLun(_));
        let other = self.over_any_device(disk, wwn).find(|registered| {
            let other = &registered.owner;
            let is_same_port = !is_soft_lun || other.nexus == owner.nexus;
            is_same_port && !other.is_same_machine(owner) && is_running(other.process())
        });
        other.map(|registered| registered.owner.peer.clone())
    }

    /// Sets the identifier of a disk with registrations, if it is known.
    pub(super) fn set_wwn(&mut self, disk: &DiskKey, wwn: Option<&str>) {
        if let Some((state, wwn)) = self.0.get_mut(disk).zip(wwn) {
            state.wwn = Some(wwn.to_owned());
        }
    }

    /// Notes the effect of a command that was executed.
    pub(super) fn apply(
        &mut self,
        disk: &DiskKey,
        owner: &Owner,
        change: &Change,
        is_running: impl Fn(ProcessKey) -> bool,
    ) {
        use OutServiceAction as Action;
        if !self.0.contains_key(disk) && self.0.len() >= MAX_DISKS {
            return;
        }
        let state = self.0.entry(disk.clone()).or_default();
        let key = change.service_action_key().unwrap_or_default();
        let scope_type = change.scope_type();
        match change.action() {
            _ if change.is_cleanup => state.unregister(owner),
            Some(Action::Register | Action::RegisterAndIgnoreExistingKey) => match key.is_zero() {
                true => state.unregister(owner),
                false => state.register(owner, key, is_running),
            },
            Some(Action::Reserve) => state.reserve(owner, change, scope_type),
            Some(Action::Release) => state.release(owner),
            Some(Action::Clear) => *state = DiskState::default(),
            Some(Action::Preempt | Action::PreemptAndAbort) => {
                state.preempt(owner, key);
                // With the holder's key, the command takes the reservation over.
                if state.reservation.is_none() {
                    state.reserve(owner, change, scope_type);
                }
            }
            // The reservation has moved to a port that no client of this helper may own.
            Some(Action::RegisterAndMove) => {
                state.reservation = None;
                if change.unregisters_sender() {
                    state.unregister(owner);
                }
            }
            // The reservation and all registrations were lost.
            Some(Action::ReplaceLostReservation) => {
                *state = DiskState::default();
                state.register(owner, key, is_running);
                state.set_holder(owner, key, scope_type);
            }
            None => {}
        }
        if state.is_empty() {
            self.0.remove(disk);
        }
    }

    /// Notes the effect of a command on registrations over other devices of this host with this
    /// `wwn`. PREEMPT and CLEAR remove the registrations of all ports (SPC-4, 5.12.11).
    pub(super) fn apply_to_other_devices(
        &mut self,
        disk: &DiskKey,
        wwn: Option<&str>,
        owner: &Owner,
        change: &Change,
    ) {
        use OutServiceAction as Action;
        let others = self
            .0
            .iter_mut()
            .filter(|(key, state)| *key != disk && wwn.is_some() && state.wwn.as_deref() == wwn);
        match change.action() {
            Some(Action::Clear) => others.for_each(|(_, state)| *state = DiskState::default()),
            Some(Action::Preempt | Action::PreemptAndAbort) => {
                let victim = change.service_action_key().unwrap_or_default();
                others.for_each(|(_, state)| state.preempt(owner, victim));
            }
            _ => return,
        }
        self.0.retain(|_, state| !state.is_empty());
    }

    /// Notes what a unit attention reports to an owner.
    pub(super) fn apply_attention(&mut self, disk: &DiskKey, owner: &Owner, sense: Option<Sense>) {
        let Some((state, sense)) = self.0.get_mut(disk).zip(sense) else {
            return;
        };
        // The other codes are about the reservation of another initiator.
        if sense.code == AdditionalSense::REGISTRATIONS_PREEMPTED {
            state.unregister(owner);
        }
    }

    /// Returns the disks.
    pub(super) fn disks(&self) -> impl Iterator<Item = &DiskKey> {
        self.0.keys()
    }

    /// Returns the registrations and the reservation of a disk, in the form of the state document.
    pub(super) fn of_disk(
        &self,
        disk: &DiskKey,
        is_running: impl Fn(&Owner) -> bool,
    ) -> (Vec<Registration>, Option<Reservation>) {
        let Some(state) = self.0.get(disk) else {
            return (Vec::new(), None);
        };
        let registrations = state.registrations.iter().map(|registered| Registration {
            key: registered.key.to_string(),
            client: registered.owner.name(),
            is_connected: is_running(&registered.owner),
            time_us: unix_microseconds(registered.time),
        });
        let reservation = state.reservation.as_ref().map(|reserved| Reservation {
            key: reserved.key.to_string(),
            r#type: type_name(reserved.scope_type),
            client: reserved.owner.name(),
            time_us: unix_microseconds(reserved.time),
        });
        (registrations.collect(), reservation)
    }
}

impl DiskState {
    const fn is_empty(&self) -> bool {
        self.registrations.is_empty() && self.reservation.is_none()
    }

    /// Adds a registration. To the logical unit it replaces every other one over the nexus. Those
    /// of connected clients remain here, because these clients rely on them.
    fn register(
        &mut self,
        owner: &Owner,
        key: ReservationKey,
        is_running: impl Fn(ProcessKey) -> bool,
    ) {
        self.registrations
            .retain(|Registered { owner: other, .. }| {
                other.nexus != owner.nexus || !other.is_same(owner) && is_running(other.process())
            });
        if let Some(reserved) = self.held_by(owner) {
            reserved.key = key;
        }
        if self.registrations.len() < MAX_REGISTRATIONS {
            self.registrations.push(Registered {
                owner: owner.clone(),
                key,
                time: SystemTime::now(),
            });
        }
    }

    fn unregister(&mut self, owner: &Owner) {
        self.registrations
            .retain(|registered| registered.owner.nexus != owner.nexus);
        self.release(owner);
    }

    fn reserve(&mut self, owner: &Owner, change: &Change, scope_type: Option<ScopeType>) {
        // A holder that reserves again changes nothing.
        if let Some([key, _]) = change.keys
            && self.held_by(owner).is_none()
        {
            self.set_holder(owner, key, scope_type);
        }
    }

    fn set_holder(&mut self, owner: &Owner, key: ReservationKey, scope_type: Option<ScopeType>) {
        if let Some(scope_type) = scope_type {
            self.reservation = Some(Reserved {
                owner: owner.clone(),
                key,
                scope_type,
                time: SystemTime::now(),
            });
        }
    }

    fn release(&mut self, owner: &Owner) {
        if self.held_by(owner).is_some() {
            self.reservation = None;
        }
    }

    /// Removes the registrations with the key of a victim, and their reservation. Key zero, with a
    /// reservation of all registrants, removes all other registrations (SPC-4, 5.12.11.2).
    fn preempt(&mut self, owner: &Owner, victim: ReservationKey) {
        let is_victim = |key: ReservationKey| key == victim || victim.is_zero();
        self.registrations.retain(|registered| {
            !is_victim(registered.key) || registered.owner.nexus == owner.nexus
        });
        if self
            .reservation
            .as_ref()
            .is_some_and(|reserved| is_victim(reserved.key))
        {
            self.reservation = None;
        }
    }

    fn held_by(&mut self, owner: &Owner) -> Option<&mut Reserved> {
        let reserved = self.reservation.as_mut();
        reserved.filter(|reserved| reserved.owner.nexus == owner.nexus)
    }
}

#[cfg(test)]
mod tests;
