//! The logical unit that the cases share, one at a time and each from a clean start.
//!
//! * `PR_COMPAT_PORTS=/dev/sdX,/dev/sdY`: two initiator ports of one unit, in the order of their
//!   SAS addresses 0x5001405000000001 and …2; the target ports have the relative identifiers 1 and 2.
//!   What is on it is lost.
//! * `PR_COMPAT_SG=/dev/sgX,/dev/sgY`: the same two as character devices.
//! * `PR_COMPAT_SECOND`: another unit, with one port.
//! * `PR_COMPAT_LINEAR`, `PR_COMPAT_STACK`: a linear map over the whole of the first port, and a
//!   linear map over the whole of that map.
//! * `PR_COMPAT_PARTITION`: a partition of the first port.
//! * `PR_COMPAT_PARTS`: device-mapper devices over a part of the first port, directly and by other
//!   devices.
//! * `PR_COMPAT_MPATH`, `PR_COMPAT_MPATH_PART`: a multipath map over both ports, and a map that is a
//!   partition of it.
//! * `PR_COMPAT_MULTIPATHD`: set where multipathd runs and knows that map.

use std::env;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use linux_util::sg_io::{Data, sg_io};
use rustix::fs::{FlockOperation, flock};

use super::wire;
use crate::client::{Answer, DEADLINE, pr_in, pr_out};

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

/// The SAS addresses of the two initiator ports.
pub(super) const INITIATORS: [u64; 2] = [0x5001_4050_0000_0001, 0x5001_4050_0000_0002];

/// The relative identifiers of the target ports that they are connected to.
pub(super) const TARGETS: [u16; 2] = [1, 2];

/// A key that no case uses.
const CLEANER: u64 = 0xc1ea_0000_0000_0001;

/// The paths in a variable, which are separated by commas.
pub(super) fn devices(variable: &str) -> Result<Vec<PathBuf>> {
    let value = env::var(variable).with_context(|| format!("{variable} is not set"))?;
    Ok(value.split(',').map(PathBuf::from).collect())
}

/// Opens a device for reading and writing.
pub(super) fn open(path: &Path) -> Result<File> {
    let file = File::options().read(true).write(true).open(path);
    file.with_context(|| format!("cannot open {}", path.display()))
}

/// A unit without registrations and unit attentions, this process's alone until it is dropped.
pub(super) struct Lun {
    ports: Vec<File>,
    /// The value of `PRgeneration` at the start.
    generation: u32,
    /// Locked as long as nobody else may use the unit.
    _turn: File,
}

impl Lun {
    /// Takes the unit that `variable` names the ports of.
    pub(super) fn take(variable: &str) -> Result<Self> {
        let paths = devices(variable)?;
        let ports = paths
            .iter()
            .map(|path| open(path))
            .collect::<Result<Vec<_>>>()?;
        // The character devices are other nodes of the same unit.
        let turn = if variable == SG { PORTS } else { variable };
        let turn = devices(turn)?.into_iter().next();
        let turn = open(&turn.with_context(|| format!("{variable} is empty"))?)?;
        flock(&turn, FlockOperation::LockExclusive)?;
        let mut lun = Self {
            ports,
            generation: 0,
            _turn: turn,
        };
        lun.generation = lun.clean()?;
        Ok(lun)
    }

    /// Adds the device of another variable, which is left as it is.
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

    /// Removes every registration and returns the generation.
    fn clean(&self) -> Result<u32> {
        self.drain()?;
        let first = self.port(0)?;
        let register = |flags| {
            let list = wire::basic(0, CLEANER, flags);
            send(first, &pr_out(6, 0, 24), &list)
        };
        // The target wants the flag again from a port that has used it.
        if register(0)?.status != 0 {
            good(&register(wire::ALL_TG_PT)?)?;
        }
        good(&send(
            first,
            &pr_out(3, 0, 24),
            &wire::basic(CLEANER, 0, 0),
        )?)?;
        self.drain()?;
        let keys = self.keys()?;
        ensure!(keys.is_empty(), "registrations are left: {keys:x?}");
        let header = receive(first, &pr_in(0, 8), 8)?;
        good(&header)?;
        Ok(u32::from_be_bytes(header.data[..4].try_into()?))
    }

    /// The keys that are registered, read from the first port past the helper.
    pub(super) fn keys(&self) -> Result<Vec<u64>> {
        let answer = receive(self.port(0)?, &pr_in(0, 255), 255)?;
        good(&answer)?;
        let length = u32::from_be_bytes(answer.data[4..8].try_into()?);
        let keys = answer.data[8..]
            .chunks_exact(8)
            .take(usize::try_from(length)? / 8);
        keys.map(|key| Ok(u64::from_be_bytes(key.try_into()?)))
            .collect()
    }

    /// Reads the unit attentions of every port.
    fn drain(&self) -> Result<()> {
        'ports: for port in &self.ports {
            for _ in 0..20 {
                if receive(port, &[0; 6], 0)?.status == 0 {
                    continue 'ports;
                }
            }
            bail!("the unit does not get ready");
        }
        Ok(())
    }
}

fn good(answer: &Answer) -> Result<()> {
    let sense = answer.sense_code();
    ensure!(answer.status == 0, "cleaning: {sense:02x?}");
    Ok(())
}

/// Sends a command with data to a device, without a helper.
pub(super) fn send(device: &File, cdb: &[u8], bytes: &[u8]) -> Result<Answer> {
    run(device, cdb, Data::ToDevice(bytes)).map(|(answer, _)| answer)
}

/// Sends a command to a device that answers with up to `length` bytes, without a helper.
pub(super) fn receive(device: &File, cdb: &[u8], length: usize) -> Result<Answer> {
    let mut bytes = vec![0; length];
    let data = if length == 0 {
        Data::None
    } else {
        Data::FromDevice(&mut bytes)
    };
    let (mut answer, residual) = run(device, cdb, data)?;
    // With any other status there are none, whatever the adapter says.
    let received = length - residual.min(length);
    bytes.truncate(if answer.status == 0 { received } else { 0 });
    answer.data = bytes;
    Ok(answer)
}

fn run(device: &File, cdb: &[u8], data: Data<'_>) -> Result<(Answer, usize)> {
    let mut sense = vec![0; 96];
    let done = sg_io(device.as_fd(), cdb, data, &mut sense, DEADLINE)?;
    ensure!(done.host_status == 0, "{cdb:02x?}: {done:?}");
    let answer = Answer {
        status: u32::from(done.status),
        sense,
        data: Vec::new(),
    };
    Ok((answer, done.residual))
}
