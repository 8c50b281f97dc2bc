// SPDX-License-Identifier: MIT OR Apache-2.0

//! Conditions for a run: the devices are different, unused and without registrations, and for
//! writes also empty.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use scsi_pr::ReservationKey;

use super::keys::{A, RunNumber};
use super::known_differences::LIO_VENDOR;
use super::nodes::{DiskState, Nodes};
use super::session::Environment;
use super::{MAX_NODES, ValidateError};
use crate::block_device::{BlockDevice, PartKind};
use crate::cleanup::CleanupGuard;
use crate::error::Failure;
use crate::known_disks::distinct;
use crate::orphans::DiskUsers;

/// Driver of the loopback fabric of LIO in sysfs.
const LOOPBACK_DRIVER: &str = "tcm_loopback";

/// Time in which a running validation changes the registrations.
const RUN_SIGN: Duration = Duration::from_secs(1);

/// Number of bytes at the beginning and at the end of an empty disk that must be zero.
const EMPTY_LENGTH: usize = 1 << 20;

/// Alignment of a buffer for direct reads, which no disk exceeds.
const ALIGNMENT: usize = 4096;

/// Checks the number of devices, that they differ, and that they are not known to be different
/// disks.
pub(super) fn check_devices(paths: &[PathBuf]) -> Result<(), ValidateError> {
    if paths.len() > MAX_NODES {
        return Err(ValidateError::TooManyDevices(paths.len()));
    }
    match paths {
        [first, second] if first.canonicalize().ok() == second.canonicalize().ok() => {
            Err(ValidateError::SameDevice(first.clone(), second.clone()))
        }
        [first, second] => {
            let disks = [first, second].map(|path| {
                let device = block_device(path);
                disk(path, device.as_ref())
            });
            match disks {
                [Some(one), Some(other)] if one != other => {
                    Err(ValidateError::DifferentDisks(first.clone(), second.clone()))
                }
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Returns the block device at a path, or the disk of an sg node.
fn block_device(path: &Path) -> Option<BlockDevice> {
    BlockDevice::from_path(path).or_else(|| BlockDevice::of_generic_node(path))
}

/// Returns what identifies a disk, if it is known: the WWN of a block device, or the directory of
/// the soft LUN that a file is a port of.
fn disk(path: &Path, device: Option<&BlockDevice>) -> Option<PathBuf> {
    if let Some(device) = device {
        return device.wwn().map(PathBuf::from);
    }
    let path = path.canonicalize().ok()?;
    let ports = path.parent().filter(|ports| ports.ends_with("ports"))?;
    ports.parent().map(Path::to_owned)
}

/// Checks that the disk is not used on this host, and returns its properties.
pub(super) fn environment(nodes: &mut Nodes) -> Result<Environment, Failure> {
    let mut environment = Environment {
        nodes: nodes.all.len(),
        ..Environment::default()
    };
    for node in &mut nodes.all {
        let connection = node.connection()?;
        check_unused(connection.path())?;
        environment.has_map |= connection.multipath_map().is_some();
        if let Some(device) = block_device(connection.path()) {
            environment.is_lio |= device.vendor().as_deref() == Some(LIO_VENDOR);
            environment.hangs_on_abort |= device.host_driver().as_deref() == Some(LOOPBACK_DRIVER);
        }
    }
    Ok(environment)
}

/// Checks that no process has the disk open, as a virtual machine has, as far as open files are
/// visible. Then opens the device, or the map that it is a path of, exclusively. The kernel rejects
/// that if it is mounted, or a part of another device.
fn check_unused(path: &Path) -> Result<(), ValidateError> {
    let device = block_device(path);
    let users = DiskUsers::of(path, device.as_ref()).users;
    if !users.is_empty() {
        let users: Vec<_> = users.iter().map(ToString::to_string).collect();
        return Err(ValidateError::OpenElsewhere {
            device: path.to_owned(),
            users: users.join(", "),
        });
    }
    let Some(device) = device else {
        return Ok(());
    };
    check_exclusive(whole_disk(path, &device)?)
}

/// Opens a device exclusively, and closes it. If that fails, the disk may be in use.
fn check_exclusive(node: PathBuf) -> Result<(), ValidateError> {
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match open(&node, flags, Mode::empty()) {
        Ok(_) => Ok(()),
        Err(Errno::BUSY) => Err(ValidateError::InUse(node)),
        Err(error) => Err(ValidateError::UseUnknown {
            device: node,
            source: error.into(),
        }),
    }
}

/// Returns the node of the disk, or of the map that it is a path of. Fails for partitions and
/// volumes, because all commands would apply to the whole disk.
fn whole_disk(path: &Path, device: &BlockDevice) -> Result<PathBuf, ValidateError> {
    match device.part() {
        Some(part) if part.kind == PartKind::Path => {
            let map = part.of.into_iter().next();
            Ok(map.unwrap_or_else(|| device.node()).into())
        }
        Some(part) => Err(ValidateError::Part {
            device: path.to_owned(),
            part,
        }),
        // An sg node is not the node of its disk.
        None if BlockDevice::from_path(path).is_none() => Ok(device.node().into()),
        None => Ok(path.to_owned()),
    }
}

/// Makes sure that the disk has no registrations, through any node. Removes those with `force_key`
/// if all have this key, and those of a run that was killed.
pub(super) fn remove_registrations(
    guard: &CleanupGuard<Nodes>,
    run: RunNumber,
    force_key: Option<ReservationKey>,
) -> Result<(), Failure> {
    let states = guard.resources().states()?;
    let occupied: Vec<_> = states.iter().filter(|state| !state.is_empty()).collect();
    if occupied.is_empty() {
        return Ok(());
    }
    let is_forced = force_key.is_some_and(|key| occupied.iter().all(|state| state.has_only(key)));
    if !is_forced {
        occupied.iter().try_for_each(|state| check_left(state))?;
        thread::sleep(RUN_SIGN);
        let device = guard.resources().device();
        if guard.resources().states()? != states {
            return Err(ValidateError::OtherRun(device).into());
        }
    }
    let mut nodes = guard.resources();
    nodes.clear_with(run.key(A, 1))?;
    let remaining = nodes.states()?;
    if let Some(state) = remaining.iter().find(|state| !state.is_empty()) {
        return Err(ValidateError::NotCleared(state.device.to_owned()).into());
    }
    let reason = match is_forced {
        true => "",
        false => ", which a run of validate has left",
    };
    let keys = occupied.iter().flat_map(|state| state.keys.iter().copied());
    let keys = super::join(&distinct(keys));
    nodes.note(&format!(
        "removed all registrations with CLEAR: {keys}{reason}"
    ));
    Ok(())
}

/// Checks that a run has left the registrations.
fn check_left(state: &DiskState) -> Result<(), ValidateError> {
    let device = state.device.to_owned();
    match state.keys.as_slice() {
        [] => Err(ValidateError::Reserved(device)),
        _ if state.is_of_runs() => Ok(()),
        keys => Err(ValidateError::Registered {
            device,
            keys: keys.to_owned(),
        }),
    }
}

/// Returns whether the disk has data at all. Fails if the data are not empty.
pub(super) fn check_empty(nodes: &mut Nodes) -> Result<bool, Failure> {
    for node in &mut nodes.all {
        let connection = node.connection()?;
        let Some(device) = connection.block_device() else {
            return Ok(false);
        };
        let path = connection.path().to_owned();
        let not_empty = |reason: String| ValidateError::NotEmpty {
            device: path.clone(),
            reason,
        };
        if let Some(part) = device.part() {
            return Err(not_empty(part.note()).into());
        }
        if device.has_partitions() {
            return Err(not_empty("it has partitions".to_owned()).into());
        }
        let error = |source| ValidateError::Read {
            device: path.clone(),
            source,
        };
        if !is_zero(Path::new(&device.node())).map_err(error)? {
            return Err(not_empty("its first or last MiB contains data".to_owned()).into());
        }
    }
    Ok(true)
}

/// Returns whether the first and the last MiB contain only zeros. Reads without the page cache,
/// which can be older than the data of another host.
fn is_zero(path: &Path) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
    let mut file = File::from(open(path, flags, Mode::empty())?);
    let mut buffer = vec![0; EMPTY_LENGTH + ALIGNMENT];
    let start = buffer.as_ptr().align_offset(ALIGNMENT);
    let (_, aligned) = buffer.split_at_mut(start);
    let (data, _) = aligned.split_at_mut(EMPTY_LENGTH);
    let mut is_zero_at = |position| -> io::Result<bool> {
        file.seek(position)?;
        file.read_exact(data)?;
        Ok(data.iter().all(|byte| *byte == 0))
    };
    let from_end = i64::try_from(EMPTY_LENGTH).unwrap_or(i64::MAX);
    Ok(is_zero_at(SeekFrom::Start(0))? && is_zero_at(SeekFrom::End(-from_end))?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Creates a disk with a WWN and a partition as in sysfs, and returns both.
    fn disk_with_partition(sysfs: &Path, name: &str, wwn: &str) -> [BlockDevice; 2] {
        let disk = sysfs.join(name);
        let partition = disk.join(format!("{name}1"));
        fs::create_dir_all(disk.join("device")).unwrap();
        fs::write(disk.join("device/wwid"), format!("{wwn}\n")).unwrap();
        fs::create_dir(&partition).unwrap();
        fs::write(partition.join("partition"), "1\n").unwrap();
        [disk, partition].map(|dir| BlockDevice::from_link(&dir).unwrap())
    }

    #[test]
    fn disks_are_identified_by_their_wwn() {
        let sysfs = tempfile::tempdir().unwrap();
        let identity = |name, wwn| {
            let [device, _] = disk_with_partition(sysfs.path(), name, wwn);
            disk(Path::new("/dev/sd"), Some(&device))
        };
        let first = identity("sda", "naa.1");
        assert!(first.is_some());
        assert_eq!(first, identity("sdb", "naa.1"));
        assert_ne!(first, identity("sdc", "naa.2"));
    }

    #[test]
    fn partition_is_refused() {
        let sysfs = tempfile::tempdir().unwrap();
        let [disk, partition] = disk_with_partition(sysfs.path(), "sda", "naa.1");
        let result = whole_disk(Path::new("/dev/sda1"), &partition);
        assert!(matches!(result, Err(ValidateError::Part { .. })));
        assert!(whole_disk(Path::new("/dev/sda"), &disk).is_ok());
    }

    #[test]
    fn device_that_cannot_be_opened_does_not_count_as_unused() {
        let dir = tempfile::tempdir().unwrap();
        let result = check_exclusive(dir.path().join("missing"));
        assert!(matches!(result, Err(ValidateError::UseUnknown { .. })));
    }
}
