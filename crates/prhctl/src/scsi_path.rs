// SPDX-License-Identifier: MIT OR Apache-2.0

//! Paths of a disk or a multipath map: initiator port and target port of each, from sysfs, and
//! whether the path is registered.
//!
//! A registration belongs to an initiator port and a target port. No command tells an initiator
//! which of the registrations is its own, so they are found by these two names.

use std::fs;
use std::path::Path;

use scsi_pr::{
    FullStatus, FullStatusDescriptor, Isid, RelativeTargetPort, TransportId, Truncatable,
};

use crate::block_device::{BlockDevice, read_attribute};

/// Type of the designator that contains a relative target port identifier (SPC-4, 7.8.6.7).
const RELATIVE_TARGET_PORT: u8 = 4;
/// Association of a designator with a target port.
const OF_TARGET_PORT: u8 = 1;

/// Upper half of the session identifiers (ISID) of open-iscsi, the initiator of Linux. The lower
/// half is the number of the session in sysfs.
const OPEN_ISCSI_ISID: u64 = 0x0000_023d;

/// Directory of the iSCSI sessions of this host, such as `session1`.
const ISCSI_SESSIONS: &str = "/sys/class/iscsi_session";

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
    /// Name of the node, and number of the session.
    Iscsi { name: String, session: u32 },
    /// Addresses of the host adapter's ports.
    Sas(Vec<u64>),
}

/// The owner of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The path itself.
    ThisPath,
    /// Another path of this host.
    OtherPath,
    /// An iSCSI session with this host's initiator name that does not exist.
    EarlierSession,
    /// Another host.
    Other,
    /// Sysfs and device do not decide.
    Unknown,
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
        is_registered: path.is_registered(status),
    });
    statuses.collect()
}

/// Returns the owner of a registration of a device with these paths.
pub(crate) fn owner(paths: &[ScsiPath], registration: &FullStatusDescriptor) -> Owner {
    use Owner::{EarlierSession, Other, OtherPath, ThisPath, Unknown};
    let owners: Vec<_> = paths.iter().map(|path| path.owner(registration)).collect();
    let known = [ThisPath, Unknown, OtherPath, EarlierSession, Other];
    let found = known.into_iter().find(|owner| owners.contains(owner));
    found.unwrap_or(Unknown)
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

    /// Returns whether this path is registered; `None` if that is unknown.
    fn is_registered(&self, status: &Truncatable<FullStatus>) -> Option<bool> {
        let descriptors = status.value.descriptors.iter();
        let owners: Vec<_> = descriptors.map(|one| self.owner(one)).collect();
        if owners.contains(&Owner::ThisPath) {
            return Some(true);
        }
        // The missing end of the list may contain the registration.
        let is_decided = status.is_complete() && !owners.contains(&Owner::Unknown);
        is_decided.then_some(false)
    }

    /// Returns the owner of a registration.
    fn owner(&self, registration: &FullStatusDescriptor) -> Owner {
        let port = registration.relative_target_port;
        let is_port = match self.target_port {
            _ if registration.all_tg_pt => Some(true),
            // 0 is reserved: the device does not report the port.
            Some(own) if port.get() != 0 => Some(own == port),
            _ => None,
        };
        let initiator = match (&self.initiator, &registration.transport_id) {
            (Some(initiator), Ok(id)) => initiator.owner(id),
            (None, _) | (_, Err(_)) => Owner::Unknown,
        };
        match (initiator, is_port) {
            (Owner::ThisPath, Some(true)) => Owner::ThisPath,
            (Owner::ThisPath, Some(false)) => Owner::OtherPath,
            (Owner::ThisPath, None) => Owner::Unknown,
            (Owner::Unknown, Some(false)) => Owner::Other,
            (initiator, _) => initiator,
        }
    }
}

impl InitiatorPort {
    /// Returns the initiator port of a SCSI device from its directory, such as
    /// `…/host3/rport-3:0-1/target3:0:1/3:0:1:0`.
    fn from_device(dir: &Path) -> Option<Self> {
        let host = ancestor(dir, "host")?.0;
        let class = |class: &str, of: &Path| Some(of.join(class).join(of.file_name()?));
        if let Some(name) = read_number(&class("fc_host", host)?.join("port_name")) {
            return Some(InitiatorPort::FibreChannel(name));
        }
        if let Some((dir, session)) = ancestor(dir, "session") {
            let name = read_attribute(&class("iscsi_session", dir)?.join("initiatorname"))?;
            // The kernel prints "(null)" for a name that it does not know.
            let is_known = name.contains('.');
            return is_known.then_some(InitiatorPort::Iscsi { name, session });
        }
        let phys = fs::read_dir(host).ok()?.filter_map(|entry| {
            let phy = entry.ok()?.path();
            read_number(&class("sas_phy", &phy)?.join("sas_address"))
        });
        let addresses: Vec<_> = phys.collect();
        (!addresses.is_empty()).then_some(InitiatorPort::Sas(addresses))
    }

    /// Returns the owner of the initiator port `id`, which is known without a target port.
    fn owner(&self, id: &TransportId) -> Owner {
        let is_own = match (self, id) {
            (InitiatorPort::FibreChannel(name), TransportId::FibreChannel { n_port_name }) => {
                name == n_port_name
            }
            (InitiatorPort::Iscsi { name, session }, TransportId::Iscsi(id)) => {
                let is_name = name.eq_ignore_ascii_case(id.name.as_str());
                return match id.isid.and_then(open_iscsi_session) {
                    _ if !is_name => Owner::Other,
                    None => Owner::Unknown,
                    Some(number) if number == *session => Owner::ThisPath,
                    Some(number) if is_session(number) => Owner::OtherPath,
                    Some(_) => Owner::EarlierSession,
                };
            }
            (InitiatorPort::Sas(addresses), TransportId::Sas { sas_address }) => {
                addresses.contains(sas_address)
            }
            _ => false,
        };
        if is_own {
            Owner::ThisPath
        } else {
            Owner::Other
        }
    }
}

/// Returns the number of the session with an identifier of open-iscsi.
fn open_iscsi_session(isid: Isid) -> Option<u32> {
    let number = u32::try_from(isid.get() & 0xff_ffff).ok()?;
    (isid.get() >> 24 == OPEN_ISCSI_ISID).then_some(number)
}

/// Returns whether this host has an iSCSI session with a number.
fn is_session(number: u32) -> bool {
    Path::new(ISCSI_SESSIONS)
        .join(format!("session{number}"))
        .exists()
}

/// Returns the innermost directory above `dir` with a name of `prefix` and a number, and that
/// number.
fn ancestor<'a>(dir: &'a Path, prefix: &str) -> Option<(&'a Path, u32)> {
    dir.ancestors().find_map(|dir| {
        let number = dir.file_name()?.to_str()?.strip_prefix(prefix)?;
        Some((dir, number.parse().ok()?))
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
    const ISCSI: &str = "iqn.2024-01.example:a,i,0x00023dfffff1";
    const OTHER_SESSION: &str = "iqn.2024-01.example:a,i,0x00023dfffff2";
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
        let all = paths.iter().map(|path| path.is_registered(&status));
        all.collect()
    }

    fn fibre_channel() -> Option<InitiatorPort> {
        Some(InitiatorPort::FibreChannel(0x1000_0000_c9f3_a571))
    }

    /// Returns the port of the session with the TransportID [`ISCSI`].
    fn iscsi() -> Option<InitiatorPort> {
        Some(InitiatorPort::Iscsi {
            name: "iqn.2024-01.example:a".to_owned(),
            session: 0xff_fff1,
        })
    }

    #[test]
    fn initiator_port_is_found_in_sysfs() {
        let device = "host3/rport-3:0-1/target3:0:1/3:0:1:0";
        let attribute = "host3/fc_host/host3/port_name";
        let found = initiator(device, attribute, "0x10000000c9f3a571");
        assert_eq!(found, fibre_channel());

        let device = "host4/session16777201/target4:0:0/4:0:0:0";
        let attribute = "host4/session16777201/iscsi_session/session16777201/initiatorname";
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
    fn session_number_distinguishes_iscsi_sessions() {
        let path = path(iscsi(), 1);
        let other_name = "iqn.2024-01.example:b,i,0x00023dfffff1";
        for (id, port, owner) in [
            (ISCSI, 1, Owner::ThisPath),
            (ISCSI, 2, Owner::OtherPath),
            (OTHER_SESSION, 1, Owner::EarlierSession),
            (OTHER_SESSION, 2, Owner::EarlierSession),
            // The identifier of another initiator software.
            ("iqn.2024-01.example:a,i,0x400001370000", 1, Owner::Unknown),
            ("iqn.2024-01.example:a,i,0x400001370000", 2, Owner::Other),
            (other_name, 1, Owner::Other),
            (FC, 1, Owner::Other),
        ] {
            assert_eq!(path.owner(&registration(id, port)), owner, "{id} {port}");
        }
        let paths = [path];
        let earlier = [registration(OTHER_SESSION, 1)];
        assert_eq!(registered(&paths, &earlier, 0), [Some(false)]);
    }

    #[test]
    fn owner_is_the_path_if_one_decides() {
        let paths = [path(fibre_channel(), 1), path(None, 2)];
        for (id, port, expected) in [
            (FC, 1, Owner::ThisPath),
            (FC, 2, Owner::Unknown),
            (FC, 3, Owner::OtherPath),
            (OTHER_FC, 3, Owner::Other),
        ] {
            assert_eq!(
                owner(&paths, &registration(id, port)),
                expected,
                "{id} {port}"
            );
        }
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
