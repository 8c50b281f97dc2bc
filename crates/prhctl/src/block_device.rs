// SPDX-License-Identifier: MIT OR Apache-2.0

//! Block devices in sysfs: multipath maps and their paths, and the whole disks below partitions and
//! volumes.
//!
//! Registrations and reservations belong to a logical unit and an initiator port. A partition or a
//! volume has none of its own, and a path of a map is only one of several.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat, fstat, major, minor, stat};

/// Maximum depth of a stack of devices, in case that sysfs has a cycle.
const MAX_DEPTH: usize = 8;

/// Prefix of the device-mapper UUID of a multipath map.
const MAP_PREFIX: &str = "mpath-";

/// Prefix of the device-mapper UUID of a partition, as `part1-mpath-…`, followed by its number.
const PARTITION_PREFIX: &str = "part";

/// Prefix of the device-mapper UUID of a logical volume.
const VOLUME_PREFIX: &str = "LVM-";

/// Peripheral device type of a disk (SPC-4, 6.6.2) in sysfs.
const TYPE_DISK: &str = "0";

/// A block device, by its directory in sysfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlockDevice {
    dir: PathBuf,
}

/// The reason why a device is not all that an operator may take it for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartKind {
    /// A path of a multipath map.
    Path,
    /// A partition of a disk or a map.
    Partition,
    /// A volume: a device-mapper or MD device on disks or maps.
    Volume,
}

/// A device that is a part of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) kind: PartKind,
    /// Device nodes of the maps and whole disks, without duplicates.
    pub(crate) of: Vec<String>,
}

impl Part {
    /// Returns a note for the operator.
    pub(crate) fn note(&self) -> String {
        let of = self.of.join(", ");
        match self.kind {
            PartKind::Path => format!(
                "this is one path of the multipath map {of}: registrations through it do not cover \
                 the other paths; use the map"
            ),
            PartKind::Partition => format!(
                "this is a partition of {of}: registrations and reservations apply to the whole \
                 disk; use that"
            ),
            PartKind::Volume => format!(
                "this is a volume on {of}: registrations and reservations apply to whole disks; \
                 use these"
            ),
        }
    }
}

impl BlockDevice {
    /// Returns the block device that a descriptor refers to; `None` for other files, and without
    /// sysfs.
    pub(crate) fn from_fd(fd: impl AsFd) -> Option<Self> {
        Self::from_stat(fstat(fd).ok()?)
    }

    /// Returns the block device at a path, as [`Self::from_fd`].
    pub(crate) fn from_path(path: &Path) -> Option<Self> {
        Self::from_stat(stat(path).ok()?)
    }

    /// Returns the SCSI disk of an sg node; `None` for other files.
    pub(crate) fn of_generic_node(path: &Path) -> Option<Self> {
        let stat = stat(path).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice {
            return None;
        }
        let (major, minor) = (major(stat.st_rdev), minor(stat.st_rdev));
        let disks = format!("/sys/dev/char/{major}:{minor}/device/block");
        let disk = fs::read_dir(disks).ok()?.flatten().next()?;
        Self::from_link(&disk.path())
    }

    fn from_stat(stat: Stat) -> Option<Self> {
        if FileType::from_raw_mode(stat.st_mode) != FileType::BlockDevice {
            return None;
        }
        let (major, minor) = (major(stat.st_rdev), minor(stat.st_rdev));
        Self::from_link(Path::new(&format!("/sys/dev/block/{major}:{minor}")))
    }

    /// Returns the block device of a link in sysfs.
    pub(crate) fn from_link(link: &Path) -> Option<Self> {
        let dir = fs::canonicalize(link).ok()?;
        Some(BlockDevice { dir })
    }

    /// Returns the SCSI disks and multipath maps of this host, without the paths of maps, in the
    /// order of their nodes.
    pub(crate) fn scsi_disks() -> Vec<Self> {
        Self::scsi_disks_in(Path::new("/sys/block"))
    }

    /// Like [`Self::scsi_disks`], of the devices in a directory.
    pub(crate) fn scsi_disks_in(dir: &Path) -> Vec<Self> {
        let entries = fs::read_dir(dir).into_iter().flatten();
        let devices = entries.filter_map(|entry| Self::from_link(&entry.ok()?.path()));
        let is_listed = |device: &Self| {
            device.is_multipath_map() || device.is_scsi_disk() && device.map().is_none()
        };
        let mut disks: Vec<_> = devices.filter(is_listed).collect();
        disks.sort_by_key(|disk| (disk.node().len(), disk.node()));
        disks
    }

    /// Returns whether this is a disk of the SCSI layer, and not a CD drive, for example.
    pub(crate) fn is_scsi_disk(&self) -> bool {
        self.attribute("device/type").as_deref() == Some(TYPE_DISK)
            && self.dir.join("device/vendor").exists()
    }

    /// Returns the World Wide Name of the logical unit, such as `naa.6001405…`.
    pub(crate) fn wwn(&self) -> Option<String> {
        self.first_disk().attribute("device/wwid")
    }

    /// Returns the directory of the SCSI device, such as `…/host3/target3:0:0/3:0:0:0`.
    pub(crate) fn scsi_device_dir(&self) -> Option<PathBuf> {
        fs::canonicalize(self.dir.join("device")).ok()
    }

    /// Returns the size of a logical block in bytes.
    pub(crate) fn logical_block_size(&self) -> Option<usize> {
        self.attribute("queue/logical_block_size")?.parse().ok()
    }

    /// Returns the vendor from the inquiry data of a disk or of the first path of a map.
    pub(crate) fn vendor(&self) -> Option<String> {
        self.first_disk().attribute("device/vendor")
    }

    /// Returns the name of the driver of the host adapter, such as `qla2xxx`, of a disk or of the
    /// first path of a map.
    pub(crate) fn host_driver(&self) -> Option<String> {
        let device = self.first_disk().scsi_device_dir()?;
        let is_host = |name: &str| name.strip_prefix("host")?.parse::<u32>().ok();
        let host = device.ancestors().find(|dir| {
            dir.file_name()
                .and_then(|name| is_host(name.to_str()?))
                .is_some()
        })?;
        let name = host.file_name()?;
        read_attribute(&host.join("scsi_host").join(name).join("proc_name"))
    }

    /// Returns the first path of a map, or the disk itself.
    fn first_disk(&self) -> Self {
        let paths = self.lower_devices();
        let disk = paths.first().filter(|_| self.is_multipath_map());
        disk.unwrap_or(self).clone()
    }

    /// Returns whether the kernel has found partitions on this disk.
    pub(crate) fn has_partitions(&self) -> bool {
        !self.partitions().is_empty()
    }

    /// Returns the partitions that the kernel has found on this disk.
    pub(crate) fn partitions(&self) -> Vec<Self> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let devices = entries.map(|entry| BlockDevice { dir: entry.path() });
        devices.filter(Self::is_kernel_partition).collect()
    }

    /// Returns the devices directly above, such as a map or volumes.
    pub(crate) fn holders(&self) -> Vec<Self> {
        self.linked("holders")
    }

    /// Returns the device number, `8:0`.
    pub(crate) fn number(&self) -> Option<String> {
        self.attribute("dev")
    }

    /// Returns whether this is a logical volume of LVM.
    pub(crate) fn is_logical_volume(&self) -> bool {
        self.mapper_uuid().starts_with(VOLUME_PREFIX)
    }

    /// Returns the kernel's name, `sda`.
    pub(crate) fn name(&self) -> String {
        let name = self.dir.file_name().unwrap_or_default().to_string_lossy();
        name.replace('!', "/")
    }

    /// Returns the device node: `/dev/mapper/NAME` for a device-mapper device.
    pub(crate) fn node(&self) -> String {
        match self.attribute("dm/name") {
            Some(name) => format!("/dev/mapper/{name}"),
            None => format!("/dev/{}", self.name()),
        }
    }

    /// Returns whether this is a device-mapper multipath map.
    pub(crate) fn is_multipath_map(&self) -> bool {
        self.mapper_uuid().starts_with(MAP_PREFIX)
    }

    /// Returns which of the map's paths, or whether this disk, cannot be used according to the
    /// kernel's SCSI layer, one line for each.
    pub(crate) fn unusable_paths(&self) -> Vec<String> {
        let paths = match self.is_multipath_map() {
            true => self.lower_devices(),
            false => vec![self.clone()],
        };
        paths.iter().filter_map(Self::unusable_state).collect()
    }

    /// Returns the state of a SCSI device (`scsi_device_state_name` in the kernel) and its meaning,
    /// unless the device can be used.
    fn unusable_state(&self) -> Option<String> {
        let (name, state) = (self.name(), self.attribute("device/state")?);
        let meaning = match state.as_str() {
            "running" => return None,
            "blocked" => {
                ": its transport has lost the target, and commands wait until the target returns \
                 or the transport gives up"
            }
            "transport-offline" => {
                ": its transport has lost the target and has given up; the disk is usable as soon \
                 as the target returns"
            }
            "offline" => {
                return Some(format!(
                    "{name} is offline: after an error or by an operator; 'echo running > \
                     /sys/block/{name}/device/state' makes it usable"
                ));
            }
            _ => "",
        };
        Some(format!("{name} is {state}{meaning}"))
    }

    /// Returns the devices directly below, which are the paths of a map, in the order of their
    /// names.
    pub(crate) fn lower_devices(&self) -> Vec<Self> {
        self.linked("slaves")
    }

    /// Returns what this device is a part of; `None` for a map, and for a disk that is not a path
    /// of a map.
    pub(crate) fn part(&self) -> Option<Part> {
        let kind = match () {
            () if self.is_multipath_map() => return None,
            () if self.is_partition() => PartKind::Partition,
            () if !self.lower_devices().is_empty() => PartKind::Volume,
            () if self.map().is_some() => PartKind::Path,
            () => return None,
        };
        let mut of = self.whole_devices(MAX_DEPTH);
        of.sort();
        of.dedup();
        Some(Part { kind, of })
    }

    /// Returns whether this is a partition that the kernel or kpartx has found.
    pub(crate) fn is_partition(&self) -> bool {
        self.is_kernel_partition() || self.mapper_uuid().starts_with(PARTITION_PREFIX)
    }

    /// Returns whether this is a partition that the kernel has found. Its directory is in that of
    /// the disk.
    fn is_kernel_partition(&self) -> bool {
        self.dir.join("partition").exists()
    }

    /// Returns the multipath map that this device is a path of.
    fn map(&self) -> Option<Self> {
        let mut holders = self.holders().into_iter();
        holders.find(Self::is_multipath_map)
    }

    /// Returns the device nodes of the maps and whole disks that this device lies on.
    fn whole_devices(&self, depth: usize) -> Vec<String> {
        let Some(depth) = depth.checked_sub(1) else {
            return Vec::new();
        };
        let below = match self.dir.parent() {
            _ if self.is_multipath_map() => Vec::new(),
            Some(disk) if self.is_kernel_partition() => vec![BlockDevice {
                dir: disk.to_owned(),
            }],
            _ => self.lower_devices(),
        };
        match below.is_empty() {
            true => vec![self.map().as_ref().unwrap_or(self).node()],
            false => {
                let nodes = below.iter().map(|device| device.whole_devices(depth));
                nodes.flatten().collect()
            }
        }
    }

    fn linked(&self, links: &str) -> Vec<Self> {
        let entries = fs::read_dir(self.dir.join(links)).into_iter().flatten();
        let devices = entries.filter_map(|entry| Self::from_link(&entry.ok()?.path()));
        let mut devices: Vec<_> = devices.collect();
        devices.sort_by_key(BlockDevice::name);
        devices
    }

    /// Returns the device-mapper UUID, which is empty for other devices.
    fn mapper_uuid(&self) -> String {
        self.attribute("dm/uuid").unwrap_or_default()
    }

    fn attribute(&self, name: &str) -> Option<String> {
        read_attribute(&self.dir.join(name))
    }
}

/// Returns a text attribute in sysfs without its newline.
pub(crate) fn read_attribute(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, write};
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    /// A directory with devices as in sysfs.
    struct TestSysfs(TempDir);

    impl TestSysfs {
        /// Creates two paths of a map with a partition each, a third disk, partitions of the map,
        /// and volumes.
        fn new() -> Self {
            let sysfs = TestSysfs(tempfile::tempdir().unwrap());
            for disk in ["sda", "sdb", "sdc"] {
                let partition = sysfs.path(disk).join(format!("{disk}1"));
                create_dir_all(&partition).unwrap();
                write(partition.join("partition"), "1\n").unwrap();
            }
            sysfs.mapped("dm-0", "mpatha", "mpath-3600", &["sda", "sdb"]);
            sysfs.mapped("dm-1", "mpatha-part1", "part1-mpath-3600", &["dm-0"]);
            sysfs.mapped("dm-2", "vg-lv", "LVM-x", &["dm-1", "sdc/sdc1"]);
            sysfs.mapped("dm-3", "crypt", "CRYPT-LUKS2-y", &["dm-2"]);
            sysfs.mapped("dm-4", "plain", "", &["sdc"]);
            sysfs
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        /// Creates a device-mapper device on other devices.
        fn mapped(&self, device: &str, name: &str, uuid: &str, below: &[&str]) {
            let dir = self.path(device);
            create_dir_all(dir.join("dm")).unwrap();
            create_dir_all(dir.join("slaves")).unwrap();
            write(dir.join("dm/name"), format!("{name}\n")).unwrap();
            write(dir.join("dm/uuid"), format!("{uuid}\n")).unwrap();
            for below in below {
                let lower = self.path(below);
                let link = dir.join("slaves").join(lower.file_name().unwrap());
                symlink(&lower, link).unwrap();
                create_dir_all(lower.join("holders")).unwrap();
                symlink(&dir, lower.join("holders").join(device)).unwrap();
            }
        }

        fn device(&self, name: &str) -> BlockDevice {
            BlockDevice::from_link(&self.path(name)).unwrap()
        }

        fn part(&self, name: &str) -> Option<(PartKind, Vec<String>)> {
            self.device(name).part().map(|part| (part.kind, part.of))
        }
    }

    #[test]
    fn parts_name_their_map_and_disks() {
        const MAP: &str = "/dev/mapper/mpatha";
        let sysfs = TestSysfs::new();
        for (name, kind, of) in [
            ("sda", PartKind::Path, &[MAP][..]),
            ("sdb", PartKind::Path, &[MAP]),
            ("sda/sda1", PartKind::Partition, &[MAP]),
            ("sdc/sdc1", PartKind::Partition, &["/dev/sdc"]),
            ("dm-1", PartKind::Partition, &[MAP]),
            ("dm-2", PartKind::Volume, &[MAP, "/dev/sdc"]),
            ("dm-3", PartKind::Volume, &[MAP, "/dev/sdc"]),
            ("dm-4", PartKind::Volume, &["/dev/sdc"]),
        ] {
            let of = of.iter().map(|node| (*node).to_owned()).collect();
            assert_eq!(sysfs.part(name), Some((kind, of)), "{name}");
        }
    }

    #[test]
    fn maps_and_whole_disks_are_no_parts() {
        let sysfs = TestSysfs::new();
        assert_eq!(sysfs.part("dm-0"), None);
        // A volume on a disk does not make the disk a path.
        assert_eq!(sysfs.part("sdc"), None);
    }

    #[test]
    fn note_names_the_whole_devices() {
        let sysfs = TestSysfs::new();
        for (name, start) in [
            (
                "sda",
                "this is one path of the multipath map /dev/mapper/mpatha: ",
            ),
            ("sdc/sdc1", "this is a partition of /dev/sdc: "),
            ("dm-2", "this is a volume on /dev/mapper/mpatha, /dev/sdc: "),
        ] {
            let note = sysfs.device(name).part().unwrap().note();
            assert!(note.starts_with(start), "{note}");
        }
    }

    #[test]
    fn map_has_its_paths_in_order() {
        let sysfs = TestSysfs::new();
        let map = sysfs.device("dm-0");
        assert!(map.is_multipath_map());
        let paths = map.lower_devices();
        let names: Vec<_> = paths.iter().map(BlockDevice::name).collect();
        assert_eq!(names, ["sda", "sdb"]);
        assert!(!sysfs.device("dm-1").is_multipath_map());
    }

    #[test]
    fn disks_and_maps_are_listed_without_paths() {
        let sysfs = TestSysfs::new();
        for disk in ["sda", "sdb", "sdc", "sr0"] {
            let device = sysfs.path(disk).join("device");
            create_dir_all(&device).unwrap();
            write(device.join("vendor"), "LIO-ORG\n").unwrap();
            let kind = if disk == "sr0" { "5\n" } else { "0\n" };
            write(device.join("type"), kind).unwrap();
            write(device.join("wwid"), format!("naa.{disk}\n")).unwrap();
        }
        let disks = BlockDevice::scsi_disks_in(sysfs.0.path());
        let found = disks.iter().map(|disk| (disk.node(), disk.wwn().unwrap()));
        let expected = [("/dev/sdc", "naa.sdc"), ("/dev/mapper/mpatha", "naa.sda")];
        let expected = expected.map(|(node, wwn)| (node.to_owned(), wwn.to_owned()));
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn unusable_paths_are_named_with_their_state() {
        let sysfs = TestSysfs::new();
        let set_state = |disk: &str, state: &str| {
            let device = sysfs.path(disk).join("device");
            create_dir_all(&device).unwrap();
            write(device.join("state"), format!("{state}\n")).unwrap();
        };
        set_state("sda", "running");
        for state in ["blocked", "transport-offline", "offline", "quiesce"] {
            set_state("sdb", state);
            let [of_map, of_disk] = ["dm-0", "sdb"].map(|name| sysfs.device(name).unusable_paths());
            let expected = format!("sdb is {state}");
            assert!(
                of_map.len() == 1 && of_map[0].starts_with(&expected),
                "{of_map:?}"
            );
            assert_eq!(of_map, of_disk);
        }
        assert!(sysfs.device("sda").unusable_paths().is_empty());
        // A device without such a state.
        assert!(sysfs.device("dm-4").unusable_paths().is_empty());
    }

    #[test]
    fn files_are_no_block_devices() {
        assert_eq!(BlockDevice::from_path(Path::new("/dev/null")), None);
        assert_eq!(BlockDevice::from_path(Path::new("/")), None);
        assert_eq!(BlockDevice::from_fd(tempfile::tempfile().unwrap()), None);
    }

    #[test]
    fn cycle_of_devices_ends() {
        let sysfs = TestSysfs(tempfile::tempdir().unwrap());
        for (device, below) in [("dm-0", "dm-1"), ("dm-1", "dm-0")] {
            sysfs.mapped(device, device, "LVM-x", &[]);
            create_dir_all(sysfs.path(below)).unwrap();
            symlink(sysfs.path(below), sysfs.path(device).join("slaves/below")).unwrap();
        }
        assert_eq!(sysfs.part("dm-0"), Some((PartKind::Volume, Vec::new())));
    }
}
