// SPDX-License-Identifier: MIT OR Apache-2.0

//! Conditions for a run: the devices are different, unused and without registrations, and for
//! writes also empty.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use scsi_pr::ReservationKey;

use super::keys::{A, RunNumber, is_of_a_run};
use super::known_differences::LIO_VENDOR;
use super::nodes::Nodes;
use super::session::Environment;
use super::{MAX_NODES, ValidateError};
use crate::block_device::{BlockDevice, PartKind};
use crate::cleanup::CleanupGuard;
use crate::error::Failure;
use crate::helper::HelperConnection;
use crate::known_disks::distinct;
use crate::orphans::DiskUsers;

/// Driver of the loopback fabric of LIO in sysfs.
const LOOPBACK_DRIVER: &str = "tcm_loopback";

/// Time in which a running validation changes the registrations.
const RUN_SIGN: Duration = Duration::from_secs(1);

/// Number of bytes at the beginning and at the end of an empty disk that must be zero.
const EMPTY_LENGTH: usize = 1 << 20;

/// Checks the number of devices, and that they differ.
pub(super) fn check_devices(paths: &[PathBuf]) -> Result<(), ValidateError> {
    if paths.len() > MAX_NODES {
        return Err(ValidateError::TooManyDevices(paths.len()));
    }
    match paths {
        [first, second] if first.canonicalize().ok() == second.canonicalize().ok() => {
            Err(ValidateError::SameDevice(first.clone(), second.clone()))
        }
        _ => Ok(()),
    }
}

/// Checks that the disk is not used on this host, and returns its properties.
pub(super) fn environment(nodes: &mut Nodes) -> Result<Environment, Failure> {
    let mut environment = Environment {
        nodes: nodes.all.len(),
        ..Environment::default()
    };
    for node in &mut nodes.all {
        let connection = node.connection()?;
        check_unused(connection)?;
        environment.has_map |= connection.multipath_map().is_some();
        if let Some(device) = connection.block_device() {
            environment.is_lio |= device.vendor().as_deref() == Some(LIO_VENDOR);
            environment.hangs_on_abort |= device.host_driver().as_deref() == Some(LOOPBACK_DRIVER);
        }
    }
    Ok(environment)
}

/// Checks that no process has the disk open, as a virtual machine has, as far as open files are
/// visible. Then opens the device, or the map that it is a path of, exclusively. The kernel rejects
/// that if it is mounted, or a part of another device.
fn check_unused(connection: &HelperConnection<'_>) -> Result<(), ValidateError> {
    let users = DiskUsers::of(connection.path(), connection.block_device()).users;
    if !users.is_empty() {
        let users: Vec<_> = users.iter().map(ToString::to_string).collect();
        return Err(ValidateError::OpenElsewhere {
            device: connection.path().to_owned(),
            users: users.join(", "),
        });
    }
    let Some(device) = connection.block_device() else {
        return Ok(());
    };
    let node = match device.part() {
        Some(part) if part.kind == PartKind::Path => part.of.first().map(PathBuf::from),
        _ => None,
    };
    let path = node.as_deref().unwrap_or_else(|| connection.path());
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match open(path, flags, Mode::empty()) {
        Err(Errno::BUSY) => Err(ValidateError::InUse(path.to_owned())),
        _ => Ok(()),
    }
}

/// Makes sure that the disk has no registrations. Removes those with `force_key` if all have this
/// key, and those of a run that was killed.
pub(super) fn remove_registrations(
    guard: &CleanupGuard<Nodes>,
    run: RunNumber,
    force_key: Option<ReservationKey>,
) -> Result<(), Failure> {
    let device = guard.resources().device();
    let state = guard.resources().state()?;
    if state.is_empty() {
        return Ok(());
    }
    let keys = distinct(state.keys.keys.iter().copied());
    let is_forced = force_key.is_some_and(|key| keys == [key]);
    if !is_forced && !keys.iter().copied().all(is_of_a_run) {
        return Err(ValidateError::Registered { device, keys }.into());
    }
    if !is_forced {
        thread::sleep(RUN_SIGN);
        if guard.resources().state()?.keys != state.keys {
            return Err(ValidateError::OtherRun(device).into());
        }
    }
    let mut nodes = guard.resources();
    nodes.clear_with(run.key(A, 1))?;
    if !nodes.state()?.is_empty() {
        return Err(ValidateError::NotCleared(device).into());
    }
    let reason = match is_forced {
        true => "",
        false => ", which a run of validate has left",
    };
    let keys = super::join(&keys);
    nodes.note(&format!(
        "removed all registrations with CLEAR: {keys}{reason}"
    ));
    Ok(())
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
        if !is_zero(device).map_err(error)? {
            return Err(not_empty("its first or last MiB contains data".to_owned()).into());
        }
    }
    Ok(true)
}

/// Returns whether the first and the last MiB contain only zeros.
fn is_zero(device: &BlockDevice) -> io::Result<bool> {
    let mut file = File::open(device.node())?;
    let mut buffer = vec![0; EMPTY_LENGTH];
    let mut is_zero_at = |position| -> io::Result<bool> {
        file.seek(position)?;
        file.read_exact(&mut buffer)?;
        Ok(buffer.iter().all(|byte| *byte == 0))
    };
    let from_end = i64::try_from(EMPTY_LENGTH).unwrap_or(i64::MAX);
    Ok(is_zero_at(SeekFrom::Start(0))? && is_zero_at(SeekFrom::End(-from_end))?)
}
