// SPDX-License-Identifier: MIT OR Apache-2.0

//! The logical unit that the cases share. Only one case uses it at a time, and each starts without
//! registrations.
//!
//! * `PR_COMPAT_PORTS=/dev/sdX,/dev/sdY`: two initiator ports of one unit, in the order of their
//!   SAS addresses 0x5001405000000001 and …2; the target ports have the relative identifiers 1 and
//!   2. The data of the unit is lost.
//! * `PR_COMPAT_SG=/dev/sgX,/dev/sgY`: the SCSI generic devices of the same ports.
//! * `PR_COMPAT_SECOND`: another unit, with one port.
//! * `PR_COMPAT_LINEAR`, `PR_COMPAT_STACK`: a linear map over all of the first port, and a linear
//!   map over all of that map.
//! * `PR_COMPAT_PARTITION`: a partition of the first port.
//! * `PR_COMPAT_PARTS`: device-mapper devices over a part of the first port, directly and through
//!   other devices.
//! * `PR_COMPAT_MPATH`, `PR_COMPAT_MPATH_PART`: a multipath map over both ports, and a map that is
//!   a partition of it.
//! * `PR_COMPAT_MULTIPATHD`: set if multipathd manages that map.

use std::env;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use linux_util::sg_io::{Data, sg_io};
use rustix::fs::{FlockOperation, flock, major, minor};

use super::wire;
use crate::client::{Response, TIMEOUT, pr_in, pr_out};

pub(super) const PORTS: &str = "PR_COMPAT_PORTS";
pub(super) const SG: &str = "PR_COMPAT_SG";
pub(super) const SECOND: &str = "PR_COMPAT_SECOND";
pub(super) const LINEAR: &str = "PR_COMPAT_LINEAR";
pub(super) const STACK: &str = "PR_COMPAT_STACK";
pub(super) const PARTITION: &str = "PR_COMPAT_PARTITION";
pub(super) const PARTS: &str = "PR_COMPAT_PARTS";
pub(super) const MPATH: &str = "PR_COMPAT_MPATH";
pub(super) const MPATH_PART: &str = "PR_COMPAT_MPATH_PART";
pub(super) const MULTIPATHD: &str = "PR_COMPAT_MULTIPATHD";

/// A key that no case uses.
const CLEANUP_KEY: u64 = 0xc1ea_0000_0000_0001;

/// Returns the comma-separated paths of a variable.
pub(super) fn devices(variable: &str) -> Result<Vec<PathBuf>> {
    let value = env::var(variable).with_context(|| format!("{variable} is not set"))?;
    Ok(value.split(',').map(PathBuf::from).collect())
}

/// Opens a device for reading and writing.
pub(super) fn open(path: &Path) -> Result<File> {
    let file = File::options().read(true).write(true).open(path);
    file.with_context(|| format!("cannot open {}", path.display()))
}

/// Opens the directory of a block device in sysfs.
fn sysfs_dir(disk: &Path) -> Result<File> {
    let number = disk.metadata().map(|metadata| metadata.rdev());
    let number = number.with_context(|| disk.display().to_string())?;
    let dir = format!("/sys/dev/block/{}:{}", major(number), minor(number));
    File::open(&dir).context(dir)
}

fn lock(file: File) -> Result<File> {
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

/// A unit without registrations and unit attentions, which this process uses exclusively until the
/// value is dropped.
pub(super) struct Lun {
    ports: Vec<File>,
    /// `PRgeneration` at the start.
    generation: u32,
    /// Hold the locks of the unit.
    _locks: [File; 2],
}

impl Lun {
    /// Locks the unit of the ports in `variable`.
    pub(super) fn lock(variable: &str) -> Result<Self> {
        // The SCSI generic devices belong to the same unit, so they have the same lock.
        let disk = devices(if variable == SG { PORTS } else { variable })?;
        let disk = disk
            .first()
            .with_context(|| format!("{variable} is empty"))?;
        // The node itself cannot be opened while another case has taken the disk offline.
        let turn = lock(sysfs_dir(disk)?)?;
        let ports = devices(variable)?;
        let ports = ports.iter().map(|path| open(path));
        let mut lun = Self {
            ports: ports.collect::<Result<_>>()?,
            generation: 0,
            // udev skips disks with a locked node.
            _locks: [turn, lock(open(disk)?)?],
        };
        lun.generation = lun.clean()?;
        Ok(lun)
    }

    /// Adds the devices of another variable without changing their state.
    pub(super) fn add(&mut self, variable: &str) -> Result<()> {
        for path in devices(variable)? {
            self.ports.push(open(&path)?);
        }
        Ok(())
    }

    pub(super) fn port(&self, number: usize) -> Result<&File> {
        self.ports.get(number).context("no such port")
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// Removes all registrations and returns PRgeneration.
    fn clean(&self) -> Result<u32> {
        self.drain()?;
        let first = self.port(0)?;
        let register = |flags| {
            let list = wire::basic(0, CLEANUP_KEY, flags);
            send(first, &pr_out(6, 0, 24), &list)
        };
        // The target requires ALL_TG_PT from a port that has registered with it.
        if register(0)?.status != 0 {
            expect_good(&register(wire::ALL_TG_PT)?)?;
        }
        expect_good(&send(
            first,
            &pr_out(3, 0, 24),
            &wire::basic(CLEANUP_KEY, 0, 0),
        )?)?;
        self.drain()?;
        let keys = self.keys()?;
        ensure!(keys.is_empty(), "registrations remain: {keys:x?}");
        let header = receive(first, &pr_in(0, 8), 8)?;
        expect_good(&header)?;
        Ok(u32::from_be_bytes(header.data[..4].try_into()?))
    }

    /// Returns the registered keys, which are read from the first port without the helper.
    pub(super) fn keys(&self) -> Result<Vec<u64>> {
        let response = receive(self.port(0)?, &pr_in(0, 255), 255)?;
        expect_good(&response)?;
        let length = u32::from_be_bytes(response.data[4..8].try_into()?);
        let keys = response.data[8..]
            .chunks_exact(8)
            .take(usize::try_from(length)? / 8);
        keys.map(|key| Ok(u64::from_be_bytes(key.try_into()?)))
            .collect()
    }

    /// Consumes the unit attentions of all ports.
    fn drain(&self) -> Result<()> {
        'ports: for port in &self.ports {
            for _ in 0..20 {
                if receive(port, &[0; 6], 0)?.status == 0 {
                    continue 'ports;
                }
            }
            bail!("the unit is still not ready");
        }
        Ok(())
    }
}

fn expect_good(response: &Response) -> Result<()> {
    let sense = response.sense_code();
    ensure!(response.status == 0, "cleanup: {sense:02x?}");
    Ok(())
}

/// Sends a command with data to a device, without the helper.
pub(super) fn send(device: &File, cdb: &[u8], bytes: &[u8]) -> Result<Response> {
    run(device, cdb, Data::ToDevice(bytes)).map(|(response, _)| response)
}

/// Sends a command that returns up to `length` bytes to a device, without the helper.
pub(super) fn receive(device: &File, cdb: &[u8], length: usize) -> Result<Response> {
    let mut bytes = vec![0; length];
    let data = if length == 0 {
        Data::None
    } else {
        Data::FromDevice(&mut bytes)
    };
    let (mut response, residual) = run(device, cdb, data)?;
    // With another status there is no data, whatever residual the adapter reports.
    let received = length - residual.min(length);
    bytes.truncate(if response.status == 0 { received } else { 0 });
    response.data = bytes;
    Ok(response)
}

fn run(device: &File, cdb: &[u8], data: Data<'_>) -> Result<(Response, usize)> {
    let mut sense = vec![0; 96];
    let done = sg_io(device.as_fd(), cdb, data, &mut sense, TIMEOUT)?;
    ensure!(done.host_status == 0, "{cdb:02x?}: {done:?}");
    let response = Response {
        status: u32::from(done.status),
        sense,
        data: Vec::new(),
    };
    Ok((response, done.residual))
}
