// SPDX-License-Identifier: MIT OR Apache-2.0

//! Paths of a disk or a multipath map: initiator port and target port of each, from sysfs, and
//! whether the path is registered.
//!
//! A registration belongs to an initiator port and a target port. No command tells an initiator
//! which of the registrations is its own, so they are found by these two names.

use std::fs;
use std::path::Path;

use scsi_pr::{FullStatus, FullStatusDescriptor, RelativeTargetPort, TransportId, Truncatable};

use crate::block_device::{BlockDevice, read_attribute};

/// Type of the designator that contains a relative target port identifier (SPC-4, 7.8.6.7).
const RELATIVE_TARGET_PORT: u8 = 4;
/// Association of a designator with a target port.
const OF_TARGET_PORT: u8 = 1;

/// A path of a map.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ScsiPath {
    /// Name of the block device, `sda`.
    name: String,
    /// `None` if sysfs does not contain it.
    initiator: Option<InitiatorPort>,
    /// `None` if the device does not report it.
    target_port: Option<RelativeTargetPort>,
}

/// The names of an initiator port that sysfs contains.
#[derive(Clone, Debug, PartialEq, Eq)]
enum InitiatorPort {
    /// Port name.
    FibreChannel(u64),
    /// Name of the node. Sysfs does not contain the session identifier of software initiators.
    Iscsi(String),
    /// Addresses of the host adapter's ports.
    Sas(Vec<u64>),
}

/// A path, and whether it is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathStatus {
    /// Name of the block device, `sda`.
    pub(crate) name: String,
    /// `None` if a registration through its target port may be that of another initiator port.
    pub(crate) is_registered: Option<bool>,
}

/// Returns for each path of a map whether one of the registrations is its own.
pub(crate) fn path_statuses(
    map: &BlockDevice,
    status: &Truncatable<FullStatus>,
) -> Vec<PathStatus> {
    let paths = ScsiPath::all_of(map);
    let statuses = paths.iter().map(|path| PathStatus {
        name: path.name.clone(),
        is_registered: path.is_registered(&paths, status),
    });
    statuses.collect()
}

impl ScsiPath {
    /// Returns the paths of a map, or the only path of a disk.
    pub(crate) fn all_of(device: &BlockDevice) -> Vec<Self> {
        match device.is_multipath_map() {
            true => device.lower_devices().iter().map(Self::new).collect(),
            false => vec![Self::new(device)],
        }
    }

    fn new(device: &BlockDevice) -> Self {
        let dir = device.scsi_device_dir();
        let page = dir.as_ref().map(|dir| fs::read(dir.join("vpd_pg83")));
        ScsiPath {
            name: device.name(),
            initiator: dir.as_deref().and_then(InitiatorPort::from_device),
            target_port: page.and_then(|page| relative_target_port(&page.ok()?)),
        }
    }

    /// Returns whether this path, one of `paths`, is registered; `None` if that is unknown.
    fn is_registered(&self, paths: &[Self], status: &Truncatable<FullStatus>) -> Option<bool> {
        let descriptors = &status.value.descriptors;
        let possible = descriptors.iter().any(|one| self.can_own(one));
        if !possible {
            // The missing end of the list may contain it.
            return status.is_complete().then_some(false);
        }
        // The same names, as several iSCSI sessions have.
        let sharing = paths.iter().filter(|other| {
            (&other.initiator, other.target_port) == (&self.initiator, self.target_port)
        });
        let own = descriptors.iter().filter(|one| self.owns(one));
        (own.count() >= sharing.count()).then_some(true)
    }

    /// Returns whether a registration can be that of this path.
    pub(crate) fn can_own(&self, registration: &FullStatusDescriptor) -> bool {
        let port = registration.relative_target_port;
        let is_port = registration.all_tg_pt
            // 0 is reserved: the device does not report the port.
            || port.get() == 0
            || self.target_port.is_none_or(|own| own == port);
        let is_initiator = match (&self.initiator, &registration.transport_id) {
            (Some(initiator), Ok(id)) => initiator.is(id),
            (None, _) | (_, Err(_)) => true,
        };
        is_port && is_initiator
    }

    /// Returns whether a registration has the names of this path.
    pub(crate) fn owns(&self, registration: &FullStatusDescriptor) -> bool {
        let is_port =
            registration.all_tg_pt || self.target_port == Some(registration.relative_target_port);
        match (&self.initiator, &registration.transport_id) {
            (Some(initiator), Ok(id)) => is_port && initiator.is(id),
            _ => false,
        }
    }
}

impl InitiatorPort {
    /// Returns the initiator port of a SCSI device from its directory, such as
    /// `…/host3/rport-3:0-1/target3:0:1/3:0:1:0`.
    fn from_device(dir: &Path) -> Option<Self> {
        let host = ancestor(dir, "host")?;
        let class = |class: &str, of: &Path| Some(of.join(class).join(of.file_name()?));
        if let Some(name) = read_number(&class("fc_host", host)?.join("port_name")) {
            return Some(InitiatorPort::FibreChannel(name));
        }
        if let Some(session) = ancestor(dir, "session") {
            let name = read_attribute(&class("iscsi_session", session)?.join("initiatorname"))?;
            // The kernel prints "(null)" for a name that it does not know.
            return name.contains('.').then_some(InitiatorPort::Iscsi(name));
        }
        let phys = fs::read_dir(host).ok()?.filter_map(|entry| {
            let phy = entry.ok()?.path();
            read_number(&class("sas_phy", &phy)?.join("sas_address"))
        });
        let addresses: Vec<_> = phys.collect();
        (!addresses.is_empty()).then_some(InitiatorPort::Sas(addresses))
    }

    fn is(&self, id: &TransportId) -> bool {
        match (self, id) {
            (InitiatorPort::FibreChannel(name), TransportId::FibreChannel { n_port_name }) => {
                name == n_port_name
            }
            (InitiatorPort::Iscsi(name), TransportId::Iscsi(id)) => {
                name.eq_ignore_ascii_case(id.name.as_str())
            }
            (InitiatorPort::Sas(addresses), TransportId::Sas { sas_address }) => {
                addresses.contains(sas_address)
            }
            _ => false,
        }
    }
}

/// Returns the innermost directory above `dir` with a name of `prefix` and a number.
fn ancestor<'a>(dir: &'a Path, prefix: &str) -> Option<&'a Path> {
    dir.ancestors().find(|dir| {
        let name = dir.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_prefix(prefix));
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    })
}

/// Reads a hexadecimal number with the prefix `0x`.
fn read_number(path: &Path) -> Option<u64> {
    let text = read_attribute(path)?;
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// Returns the relative target port identifier in the device identification page (VPD page 83h).
fn relative_target_port(page: &[u8]) -> Option<RelativeTargetPort> {
    let mut rest = page.get(4..)?;
    while let [_, kind, _, length, after @ ..] = rest {
        let (designator, next) = after.split_at_checked(usize::from(*length))?;
        let (association, designator_type) = (kind >> 4 & 3, kind & 0xf);
        if (association, designator_type) == (OF_TARGET_PORT, RELATIVE_TARGET_PORT) {
            let [_, _, high, low] = designator.try_into().ok()?;
            return Some(u16::from_be_bytes([high, low]).into());
        }
        rest = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use scsi_pr::{PrGeneration, ScopeType};
    use std::fs::{create_dir_all, write};

    const FC: &str = "fcp,10000000c9f3a571";
    const OTHER_FC: &str = "fcp,10000000c9f3a572";
    const ISCSI: &str = "iqn.2024-01.example:a,i,0x00023d000001";
    const SAS: &str = "sas,500605b000000001";

    /// Creates a SCSI device as in sysfs with an attribute of its initiator port, and returns the
    /// port.
    fn initiator(device: &str, attribute: &str, value: &str) -> Option<InitiatorPort> {
        let dir = tempfile::tempdir().unwrap();
        let device = dir.path().join(device);
        let attribute = dir.path().join(attribute);
        create_dir_all(&device).unwrap();
        create_dir_all(attribute.parent().unwrap()).unwrap();
        write(attribute, format!("{value}\n")).unwrap();
        InitiatorPort::from_device(&device)
    }

    fn path(initiator: Option<InitiatorPort>, port: u16) -> ScsiPath {
        ScsiPath {
            name: format!("sd{port}"),
            initiator,
            target_port: Some(port.into()),
        }
    }

    fn registration(id: &str, port: u16) -> FullStatusDescriptor {
        FullStatusDescriptor {
            key: 1.into(),
            all_tg_pt: false,
            holder: false,
            scope_type: ScopeType(0),
            relative_target_port: port.into(),
            transport_id: Ok(id.parse().unwrap()),
        }
    }

    /// Returns for each path whether it is registered.
    fn registered(
        paths: &[ScsiPath],
        registrations: &[FullStatusDescriptor],
        missing: usize,
    ) -> Vec<Option<bool>> {
        let value = FullStatus {
            generation: PrGeneration::default(),
            descriptors: registrations.to_vec(),
        };
        let status = Truncatable { value, missing };
        let all = paths.iter().map(|path| path.is_registered(paths, &status));
        all.collect()
    }

    fn fibre_channel() -> Option<InitiatorPort> {
        Some(InitiatorPort::FibreChannel(0x1000_0000_c9f3_a571))
    }

    fn iscsi() -> Option<InitiatorPort> {
        Some(InitiatorPort::Iscsi("iqn.2024-01.example:a".to_owned()))
    }

    #[test]
    fn initiator_port_is_found_in_sysfs() {
        let device = "host3/rport-3:0-1/target3:0:1/3:0:1:0";
        let attribute = "host3/fc_host/host3/port_name";
        let found = initiator(device, attribute, "0x10000000c9f3a571");
        assert_eq!(found, fibre_channel());

        let device = "host4/session2/target4:0:0/4:0:0:0";
        let attribute = "host4/session2/iscsi_session/session2/initiatorname";
        let found = initiator(device, attribute, "iqn.2024-01.example:a");
        assert_eq!(found, iscsi());
        assert_eq!(initiator(device, attribute, "(null)"), None);

        let device = "host5/port-5:0/end_device-5:0/target5:0:0/5:0:0:0";
        let attribute = "host5/phy-5:0/sas_phy/phy-5:0/sas_address";
        let found = initiator(device, attribute, "0x500605b000000001");
        assert_eq!(found, Some(InitiatorPort::Sas(vec![0x5006_05b0_0000_0001])));

        let device = "host6/target6:0:0/6:0:0:0";
        let attribute = "host6/scsi_host/host6/proc_name";
        assert_eq!(initiator(device, attribute, "tcm_loopback"), None);
    }

    #[test]
    fn path_without_its_registration_is_unregistered() {
        let sas = Some(InitiatorPort::Sas(vec![0x5006_05b0_0000_0001]));
        for (initiator, id) in [(fibre_channel(), FC), (iscsi(), ISCSI), (sas, SAS)] {
            let paths = [path(initiator.clone(), 1), path(initiator, 2)];
            let both = [registration(id, 1), registration(id, 2)];
            assert_eq!(registered(&paths, &both, 0), [Some(true), Some(true)]);
            let one = [registration(id, 1), registration(OTHER_FC, 2)];
            assert_eq!(registered(&paths, &one, 0), [Some(true), Some(false)]);
            assert_eq!(registered(&paths, &[], 0), [Some(false), Some(false)]);
        }
    }

    #[test]
    fn registration_at_all_target_ports_covers_all_paths() {
        let paths = [path(fibre_channel(), 1), path(fibre_channel(), 2)];
        let all = FullStatusDescriptor {
            all_tg_pt: true,
            ..registration(FC, 0)
        };
        assert_eq!(registered(&paths, &[all], 0), [Some(true), Some(true)]);
    }

    #[test]
    fn unknown_initiator_port_is_decided_by_target_port() {
        let paths = [path(None, 1), path(None, 2)];
        let one = [registration(FC, 1)];
        assert_eq!(registered(&paths, &one, 0), [None, Some(false)]);
    }

    #[test]
    fn missing_or_unreported_data_decides_nothing() {
        let paths = [path(fibre_channel(), 1), path(fibre_channel(), 2)];
        let one = [registration(FC, 1)];
        assert_eq!(registered(&paths, &one, 48), [Some(true), None]);
        let unreported = [registration(FC, 0)];
        assert_eq!(registered(&paths, &unreported, 0), [None, None]);
        let portless = [ScsiPath {
            target_port: None,
            ..path(fibre_channel(), 1)
        }];
        assert_eq!(registered(&portless, &one, 0), [None]);
    }

    #[test]
    fn sessions_with_one_name_and_port_need_a_registration_each() {
        let paths = [path(iscsi(), 1), path(iscsi(), 1)];
        let other_session = "iqn.2024-01.example:a,i,0x00023d000002";
        let both = [registration(ISCSI, 1), registration(other_session, 1)];
        assert_eq!(registered(&paths, &both, 0), [Some(true), Some(true)]);
        assert_eq!(registered(&paths, &both[..1], 0), [None, None]);
    }

    #[test]
    fn target_port_is_found_in_identification_page() {
        let name = [0x01, 0x03, 0, 8, 0x60, 1, 2, 3, 4, 5, 6, 7];
        let port = [0x51, 0x94, 0, 4, 0, 0, 1, 2];
        let page = [&[0, 0x83, 0, 20][..], &name, &port].concat();
        assert_eq!(relative_target_port(&page), Some(0x102.into()));
        for length in 0..page.len() {
            assert_eq!(relative_target_port(&page[..length]), None, "{length}");
        }
        let without = [&[0, 0x83, 0, 12][..], &name].concat();
        assert_eq!(relative_target_port(&without), None);
    }
}
