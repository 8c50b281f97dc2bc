// SPDX-License-Identifier: MIT OR Apache-2.0

//! Identifier of a disk, and the other devices that lead to it, from sysfs.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::process_name::clean;
use crate::command::device::{DeviceId, is_multipath_uuid};

/// Maximum number of devices that lead to a disk. A reply has room for these.
const MAX_NODES: usize = 32;

/// Maximum length of a device's name in bytes. The kernel's limit for disks is 32.
const MAX_NODE_LEN: u64 = 32;

/// Maximum length of an attribute in bytes. An identifier in Device Identification has at most 255,
/// and the kernel escapes some of them.
const MAX_ATTRIBUTE_LEN: u64 = 1024;

/// Names of a disk. The fields are those of [`helper_state::Disk`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskName {
    /// Identifier of the logical unit, such as `naa.6001405…`.
    pub wwn: Option<String>,
    /// Name of the device, and of those that lead to the same disk.
    pub nodes: Vec<String>,
    /// `disk`, `multipath`, `sg` or `other`.
    pub kind: String,
    /// Name of a device-mapper device.
    pub alias: Option<String>,
    /// Transport, such as `iscsi`.
    pub transport: Option<String>,
}

/// Returns the names of a device in the sysfs at `root`; `None` if it does not exist.
#[must_use]
pub fn find(root: &Path, device: DeviceId) -> Option<DiskName> {
    let (class, major, minor) = match device {
        DeviceId::Block(major, minor) => ("block", major, minor),
        DeviceId::Character(major, minor) => ("char", major, minor),
        DeviceId::File(_) | DeviceId::Unknown => return None,
    };
    let link = root
        .join("dev")
        .join(class)
        .join(format!("{major}:{minor}"));
    let dir = fs::canonicalize(link).ok()?;
    let mut disk = match class {
        "char" => character_device(&dir),
        _ if dir.join("dm").is_dir() => mapped_device(&dir),
        _ => single_disk(&dir),
    };
    disk.nodes.insert(0, name(&dir)?);
    // The other devices, each once.
    let mut known = Vec::new();
    disk.nodes.retain(|node| {
        let is_new = !known.contains(node) && known.len() < MAX_NODES;
        if is_new {
            known.push(node.clone());
        }
        is_new
    });
    Some(disk)
}

/// Describes a character device: an sg node has a SCSI device, which can have a disk.
fn character_device(dir: &Path) -> DiskName {
    let is_sg = dir
        .parent()
        .is_some_and(|class| class.ends_with("scsi_generic"));
    if !is_sg {
        return DiskName {
            kind: "other".to_owned(),
            ..DiskName::default()
        };
    }
    let device = dir.join("device");
    let disk = entries(&device.join("block")).into_iter().next();
    let kind = "sg".to_owned();
    match disk.and_then(|disk| fs::canonicalize(disk).ok()) {
        Some(disk) => DiskName {
            kind,
            nodes: name(&disk).into_iter().chain(same_disk(&disk)).collect(),
            ..single_disk(&disk)
        },
        None => DiskName {
            kind,
            wwn: wwid(&device),
            transport: transport(dir),
            ..DiskName::default()
        },
    }
}

/// Describes a block device that is not a device-mapper device.
fn single_disk(dir: &Path) -> DiskName {
    let is_part = dir.join("partition").exists();
    DiskName {
        // An NVMe namespace has the attribute itself.
        wwn: wwid(&dir.join("device")).or_else(|| wwid(dir)),
        nodes: if is_part { Vec::new() } else { same_disk(dir) },
        kind: if is_part { "other" } else { "disk" }.to_owned(),
        alias: None,
        transport: transport(dir),
    }
}

/// Describes a device-mapper device, which can be a multipath map.
fn mapped_device(dir: &Path) -> DiskName {
    let alias = attribute(&dir.join("dm/name"));
    let Some(uuid) = map_uuid(dir) else {
        return DiskName {
            kind: "other".to_owned(),
            alias,
            ..DiskName::default()
        };
    };
    let paths = paths(dir);
    let of_paths = || paths.iter().find_map(|path| wwid(&path.join("device")));
    DiskName {
        wwn: wwn_of_map(&uuid).or_else(of_paths),
        nodes: paths.iter().flat_map(|path| nodes_of_path(path)).collect(),
        kind: "multipath".to_owned(),
        alias,
        transport: paths.iter().find_map(|path| transport(path)),
    }
}

/// Returns the devices that lead to the same disk as a path: its sg node, its map, and the other
/// paths of the map.
fn same_disk(dir: &Path) -> Vec<String> {
    let holders = entries(&dir.join("holders")).into_iter();
    let holders = holders.filter_map(|holder| fs::canonicalize(holder).ok());
    let maps: Vec<_> = holders
        .filter(|holder| map_uuid(holder).is_some())
        .collect();
    let sg = sg_node(dir).into_iter();
    let maps = maps.iter().flat_map(|map| {
        let paths = paths(map);
        let paths: Vec<_> = paths.iter().flat_map(|path| nodes_of_path(path)).collect();
        name(map).into_iter().chain(paths)
    });
    sg.chain(maps).collect()
}

/// Returns the UUID of a multipath map; `None` for every other device.
fn map_uuid(dir: &Path) -> Option<String> {
    attribute(&dir.join("dm/uuid")).filter(|uuid| is_multipath_uuid(uuid))
}

/// Returns the directories of a map's paths, sorted by name.
fn paths(map: &Path) -> Vec<PathBuf> {
    let paths = entries(&map.join("slaves")).into_iter();
    paths
        .filter_map(|path| fs::canonicalize(path).ok())
        .collect()
}

fn nodes_of_path(dir: &Path) -> impl Iterator<Item = String> {
    name(dir).into_iter().chain(sg_node(dir))
}

fn sg_node(disk: &Path) -> Option<String> {
    let nodes = entries(&disk.join("device/scsi_generic"));
    nodes.first().and_then(|node| name(node))
}

/// Returns the entries of a directory, sorted by name; none if it does not exist.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn name(dir: &Path) -> Option<String> {
    let name = clean(dir.file_name()?.as_encoded_bytes());
    (name.len() as u64 <= MAX_NODE_LEN).then_some(name)
}

fn wwid(device: &Path) -> Option<String> {
    attribute(&device.join("wwid")).map(|text| normalize_wwid(&text))
}

/// Reads an attribute; `None` if it is missing or empty.
fn attribute(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).ok()?;
    file.take(MAX_ATTRIBUTE_LEN).read_to_end(&mut bytes).ok()?;
    let text = clean(bytes.trim_ascii());
    (!text.is_empty()).then_some(text)
}

/// Returns an identifier of sysfs in the form that a path and its map have in common: udev and
/// multipath-tools replace blanks.
#[must_use]
pub fn normalize_wwid(text: &str) -> String {
    match text.split_once('.') {
        Some(("naa" | "eui", _)) => text.to_ascii_lowercase(),
        Some(("t10", _)) => replace_blanks(text),
        _ => text.to_owned(),
    }
}

/// Returns the identifier in the UUID of a multipath map, `mpath-…`. Its first digit is the type of
/// the designator, as `scsi_id` and multipath-tools write it; a map of NVM
/// Express namespaces has the identifier of sysfs.
#[must_use]
pub fn wwn_of_map(uuid: &str) -> Option<String> {
    let id = uuid.strip_prefix("mpath-")?;
    let rest = id.get(1..)?;
    let is_hex = rest.bytes().all(|byte| byte.is_ascii_hexdigit());
    match id.as_bytes().first()? {
        b'3' if is_hex && matches!(rest.len(), 16 | 32) => Some(format!("naa.{rest}")),
        b'2' if is_hex && matches!(rest.len(), 16 | 24 | 32) => Some(format!("eui.{rest}")),
        b'1' if !rest.is_empty() => Some(format!("t10.{}", replace_blanks(rest))),
        // A SCSI name string, which begins with the kind of name.
        b'8' if rest.contains('.') => Some(rest.to_owned()),
        _ if id.starts_with("eui.") || id.starts_with("nvme.") || id.starts_with("uuid.") => {
            Some(id.to_owned())
        }
        _ => None,
    }
    .map(|id| normalize_wwid(&id))
}

/// Replaces each sequence of blanks and underscores by one underscore.
fn replace_blanks(text: &str) -> String {
    let words = text.split([' ', '_']).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_")
}

/// Returns the transport of a device by the directories above it.
fn transport(dir: &Path) -> Option<String> {
    let parts = dir.iter().filter_map(|part| part.to_str());
    let mut transports = parts.filter_map(transport_of_part);
    transports.next_back().map(str::to_owned)
}

fn transport_of_part(part: &str) -> Option<&'static str> {
    let is_numbered = |prefix: &str| {
        let number = part.strip_prefix(prefix);
        number.is_some_and(|number| number.starts_with(|digit: char| digit.is_ascii_digit()))
    };
    let transports = [
        ("session", "iscsi"),
        ("rport-", "fc"),
        ("end_device-", "sas"),
        ("tcm_loop_adapter_", "loopback"),
        ("virtio", "virtio"),
        ("nvme", "nvme"),
        ("ata", "ata"),
        ("usb", "usb"),
    ];
    let mut found = transports.iter().filter(|(prefix, _)| is_numbered(prefix));
    found.next().map(|(_, transport)| *transport)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, write};
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    const NAA: &str = "naa.60014054d6e6d8b8d2c4f0e9a3b1c5d7";

    /// A fake sysfs.
    struct Sysfs(TempDir);

    impl Sysfs {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        /// Adds a device with this directory below `devices`.
        fn add(&self, class: &str, number: &str, path: &str) -> PathBuf {
            let dir = self.0.path().join("devices").join(path);
            create_dir_all(&dir).unwrap();
            let links = self.0.path().join("dev").join(class);
            create_dir_all(&links).unwrap();
            symlink(&dir, links.join(number)).unwrap();
            dir
        }

        /// Adds a SCSI disk with its sg node below this SCSI device.
        fn add_disk(&self, device: &str, (disk, sg): (&str, &str), minor: u32) -> PathBuf {
            let dir = self.add(
                "block",
                &format!("8:{}", minor * 16),
                &format!("{device}/block/{disk}"),
            );
            let sg_path = format!("{device}/scsi_generic/{sg}");
            let sg_dir = self.add("char", &format!("21:{minor}"), &sg_path);
            let device = self.0.path().join("devices").join(device);
            write(device.join("wwid"), format!("{NAA}\n")).unwrap();
            symlink(&device, dir.join("device")).unwrap();
            symlink(&device, sg_dir.join("device")).unwrap();
            dir
        }

        /// Adds a map with these paths.
        fn add_map(&self, uuid: &str, paths: &[&Path]) {
            let dir = self.add("block", "253:3", "virtual/block/dm-3");
            create_dir_all(dir.join("dm")).unwrap();
            create_dir_all(dir.join("slaves")).unwrap();
            write(dir.join("dm/uuid"), format!("{uuid}\n")).unwrap();
            write(dir.join("dm/name"), "mpatha\n").unwrap();
            for path in paths {
                create_dir_all(path.join("holders")).unwrap();
                symlink(path, dir.join("slaves").join(path.file_name().unwrap())).unwrap();
                symlink(&dir, path.join("holders/dm-3")).unwrap();
            }
        }

        fn find(&self, device: DeviceId) -> DiskName {
            find(self.0.path(), device).unwrap()
        }
    }

    #[test]
    fn disk_has_its_wwid_and_sg_node() {
        let sysfs = Sysfs::new();
        sysfs.add_disk(
            "platform/host3/session1/target3:0:0/3:0:0:0",
            ("sda", "sg2"),
            0,
        );
        let disk = sysfs.find(DeviceId::Block(8, 0));
        assert_eq!(disk.wwn.as_deref(), Some(NAA));
        assert_eq!(disk.nodes, ["sda", "sg2"]);
        assert_eq!(
            (&*disk.kind, disk.transport.as_deref()),
            ("disk", Some("iscsi"))
        );
        let sg = sysfs.find(DeviceId::Character(21, 0));
        assert_eq!((&*sg.kind, sg.wwn), ("sg", disk.wwn));
        assert_eq!(sg.nodes, ["sg2", "sda"]);
        assert_eq!(find(sysfs.0.path(), DeviceId::Block(8, 16)), None);
        assert_eq!(find(sysfs.0.path(), DeviceId::Unknown), None);
    }

    #[test]
    fn map_and_its_paths_have_one_wwn() {
        let sysfs = Sysfs::new();
        let one = sysfs.add_disk(
            "pci/host1/rport-1:0-0/target1:0:0/1:0:0:0",
            ("sda", "sg0"),
            0,
        );
        let two = sysfs.add_disk(
            "pci/host2/rport-2:0-0/target2:0:0/2:0:0:0",
            ("sdb", "sg1"),
            1,
        );
        sysfs.add_map("mpath-360014054d6e6d8b8d2c4f0e9a3b1c5d7", &[&one, &two]);
        let map = sysfs.find(DeviceId::Block(253, 3));
        assert_eq!(map.nodes, ["dm-3", "sda", "sg0", "sdb", "sg1"]);
        assert_eq!(
            (&*map.kind, map.alias.as_deref()),
            ("multipath", Some("mpatha"))
        );
        assert_eq!(map.transport.as_deref(), Some("fc"));
        let path = sysfs.find(DeviceId::Block(8, 16));
        assert_eq!(path.nodes, ["sdb", "sg1", "dm-3", "sda", "sg0"]);
        assert_eq!(
            (map.wwn.as_deref(), path.wwn.as_deref()),
            (Some(NAA), Some(NAA))
        );
        let sg = sysfs.find(DeviceId::Character(21, 1));
        assert_eq!(sg.nodes, ["sg1", "sdb", "dm-3", "sda", "sg0"]);
    }

    #[test]
    fn map_with_another_uuid_has_the_wwn_of_a_path() {
        let sysfs = Sysfs::new();
        let path = sysfs.add_disk("pci/host1/target1:0:0/1:0:0:0", ("sda", "sg0"), 0);
        sysfs.add_map("mpath-0VENDOR_specific", &[&path]);
        let map = sysfs.find(DeviceId::Block(253, 3));
        assert_eq!((map.wwn.as_deref(), map.transport), (Some(NAA), None));
    }

    #[test]
    fn volume_is_no_map() {
        let sysfs = Sysfs::new();
        sysfs.add_map("LVM-abc", &[]);
        let volume = sysfs.find(DeviceId::Block(253, 3));
        assert_eq!(
            (&*volume.kind, volume.alias.as_deref()),
            ("other", Some("mpatha"))
        );
        assert_eq!((volume.wwn, volume.nodes), (None, vec!["dm-3".to_owned()]));
    }

    #[test]
    fn identifiers_of_path_and_map_are_equal() {
        for (wwid, uuid) in [
            (NAA, "mpath-360014054d6e6d8b8d2c4f0e9a3b1c5d7"),
            ("naa.5000c500a1b2c3d4", "mpath-35000c500a1b2c3d4"),
            ("eui.0025385b71b00123", "mpath-20025385b71b00123"),
            (
                "t10.ATA     QEMU HARDDISK    QM00001",
                "mpath-1ATA_QEMU_HARDDISK_QM00001",
            ),
            (
                "t10.ATA     QEMU HARDDISK    QM00001",
                "mpath-1ATA     QEMU HARDDISK    QM00001",
            ),
            (
                "iqn.2001-05.com.a:b,L,0x0001",
                "mpath-8iqn.2001-05.com.a:b,L,0x0001",
            ),
            ("eui.0025385b71b00123", "mpath-eui.0025385b71b00123"),
            (
                "uuid.4dea22b3-1d52-d8f3-2516-782e98ab3fa0",
                "mpath-uuid.4dea22b3-1d52-d8f3-2516-782e98ab3fa0",
            ),
        ] {
            assert_eq!(wwn_of_map(uuid), Some(normalize_wwid(wwid)), "{uuid}");
        }
        for uuid in ["mpath-", "mpath-3", "mpath-3xyz", "mpath-0ABC", "LVM-abc"] {
            assert_eq!(wwn_of_map(uuid), None, "{uuid}");
        }
    }

    #[test]
    fn transport_is_that_of_the_path() {
        for (path, expected) in [
            (
                "pci0000:00/host0/port-0:0/end_device-0:0/target0:0:0/0:0:0:0/block/sda",
                Some("sas"),
            ),
            (
                "pci0000:00/virtio1/host2/target2:0:0/2:0:0:0/block/sda",
                Some("virtio"),
            ),
            (
                "tcm_loop_0/tcm_loop_adapter_0/host2/target2:0:1/2:0:1:0/block/sda",
                Some("loopback"),
            ),
            (
                "pci0000:00/ata1/host0/target0:0:0/0:0:0:0/block/sda",
                Some("ata"),
            ),
            ("pci0000:00/nvme/nvme0/nvme0n1", Some("nvme")),
            (
                "pseudo_0/adapter0/host4/target4:0:0/4:0:0:0/block/sda",
                None,
            ),
            ("virtual/block/loop0", None),
        ] {
            assert_eq!(transport(Path::new(path)).as_deref(), expected, "{path}");
        }
    }
}
