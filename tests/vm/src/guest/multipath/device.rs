// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sends commands with `SG_IO` to a device, and returns the results of all layers.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use linux_util::sg_io::{Data, sg_io};

use super::commands::PrOutCommand;

/// The kernel raises this timeout to seven seconds.
const TIMEOUT: Duration = Duration::from_secs(1);

/// INQUIRY for the device identification page, which identifies the responding target port.
const IDENTIFICATION: [u8; 6] = [0x12, 1, 0x83, 0, 255, 0];

/// READ (10) and WRITE (10) of the first block.
const READ_BLOCK: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const WRITE_BLOCK: [u8; 10] = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];

/// Size of a block in bytes.
const BLOCK_SIZE: u16 = 512;

/// Size of the sense data in the helper's protocol.
const SENSE_SIZE: usize = 96;

/// Maximum number of data bytes that are printed.
const MAX_PRINTED: usize = 12;

/// An open block device.
pub(super) struct Device {
    pub(super) path: PathBuf,
    file: File,
}

impl Device {
    /// Opens the device for the lifetime of this value. udevd probes a device after each close of a
    /// writer, and its reads would use the paths of a map in turn with our commands.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::options().read(true).write(true).open(path);
        Ok(Self {
            path: path.to_owned(),
            file: file.with_context(|| format!("cannot open {}", path.display()))?,
        })
    }

    /// Sends PERSISTENT RESERVE IN.
    pub(super) fn reserve_in(&self, action: u8, allocation: u16) -> Reply {
        let [high, low] = allocation.to_be_bytes();
        self.read(&[0x5e, action, 0, 0, 0, 0, 0, high, low, 0], allocation)
    }

    /// Sends PERSISTENT RESERVE OUT.
    pub(super) fn reserve_out(&self, pr_out: &PrOutCommand) -> Reply {
        self.write(&pr_out.cdb, &pr_out.parameter_list)
    }

    /// Returns the first block.
    pub(super) fn read_block(&self) -> Result<Vec<u8>> {
        match self.read(&READ_BLOCK, BLOCK_SIZE) {
            Reply::Response {
                status: 0, data, ..
            } => Ok(data),
            reply => bail!("READ from {}: {reply}", self.path.display()),
        }
    }

    /// Writes the first block.
    pub(super) fn write_block(&self, block: &[u8]) -> Reply {
        self.write(&WRITE_BLOCK, block)
    }

    fn write(&self, cdb: &[u8], data: &[u8]) -> Reply {
        // An empty parameter list is sent without a data transfer.
        let data = match data {
            [] => Data::None,
            data => Data::ToDevice(data),
        };
        let mut sense = vec![0; SENSE_SIZE];
        match sg_io(self.file.as_fd(), cdb, data, &mut sense, TIMEOUT) {
            Err(error) => Reply::Errno(error.raw_os_error().unwrap_or_default()),
            Ok(completion) if completion.host_status != 0 => Reply::Host(completion.host_status),
            Ok(completion) => Reply::Response {
                status: completion.status,
                sense,
                data: Vec::new(),
            },
        }
    }

    /// Returns the identification of the responding port, which differs between paths.
    pub(super) fn identification(&self) -> Result<Vec<u8>> {
        match self.read(&IDENTIFICATION, 255) {
            Reply::Response {
                status: 0, data, ..
            } => Ok(data),
            reply => bail!("INQUIRY to {}: {reply}", self.path.display()),
        }
    }

    /// Consumes the pending unit attentions.
    pub(super) fn drain(&self) -> Result<()> {
        self.unit_attentions().map(drop)
    }

    /// Consumes the pending unit attentions and returns them.
    pub(super) fn unit_attentions(&self) -> Result<Vec<Reply>> {
        const TEST_UNIT_READY: [u8; 6] = [0; 6];
        let mut replies = Vec::new();
        for _ in 0..20 {
            match self.read(&TEST_UNIT_READY, 0) {
                reply if reply.is_good() => return Ok(replies),
                reply => replies.push(reply),
            }
        }
        let last = replies.pop().unwrap_or(Reply::Pending);
        bail!("{} is still not ready: {last}", self.path.display())
    }

    fn read(&self, cdb: &[u8], allocation: u16) -> Reply {
        let mut data = vec![0; allocation.into()];
        let transfer = match allocation {
            0 => Data::None,
            _ => Data::FromDevice(&mut data),
        };
        let mut sense = vec![0; SENSE_SIZE];
        match sg_io(self.file.as_fd(), cdb, transfer, &mut sense, TIMEOUT) {
            Err(error) => Reply::Errno(error.raw_os_error().unwrap_or_default()),
            Ok(completion) if completion.host_status != 0 => Reply::Host(completion.host_status),
            Ok(completion) => {
                // With another status there is no data, whatever residual the adapter reports.
                let received = match completion.status {
                    0 => data.len().saturating_sub(completion.residual),
                    _ => 0,
                };
                data.truncate(received);
                Reply::Response {
                    status: completion.status,
                    sense,
                    data,
                }
            }
        }
    }
}

/// Result of a command.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reply {
    /// Response of the logical unit.
    Response {
        status: u8,
        sense: Vec<u8>,
        data: Vec<u8>,
    },
    /// The adapter could not deliver the command (`DID_…` of `include/scsi/scsi_status.h`).
    Host(u16),
    /// The kernel rejected the command.
    Errno(i32),
    /// The command has not completed yet.
    Pending,
}

impl Reply {
    /// Returns whether the command succeeded.
    pub(super) fn is_good(&self) -> bool {
        matches!(self, Self::Response { status: 0, .. })
    }

    /// Returns sense key, ASC and ASCQ of a CHECK CONDITION with fixed format sense data, which the
    /// target uses.
    pub(super) fn sense(&self) -> Option<[u8; 3]> {
        match self {
            Self::Response {
                status: 2, sense, ..
            } if sense.first() == Some(&0x70) => Some([sense[2], sense[12], sense[13]]),
            _ => None,
        }
    }
}

/// Number of commands by result.
#[derive(PartialEq, Eq)]
pub(super) struct ReplyCounts(BTreeMap<Reply, usize>);

impl FromIterator<Reply> for ReplyCounts {
    fn from_iter<I: IntoIterator<Item = Reply>>(replies: I) -> Self {
        let mut counts = BTreeMap::new();
        for reply in replies {
            *counts.entry(reply).or_default() += 1;
        }
        Self(counts)
    }
}

impl fmt::Display for ReplyCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (reply, count)) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{count} x {reply}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some([key, code, qualifier]) = self.sense() {
            return write!(f, "CHECK {key:x}/{code:02x}/{qualifier:02x}");
        }
        match self {
            Self::Response {
                status: 0, data, ..
            } if data.is_empty() => f.write_str("GOOD"),
            Self::Response {
                status: 0, data, ..
            } => {
                write!(f, "GOOD {}:", data.len())?;
                for byte in data.iter().take(MAX_PRINTED) {
                    write!(f, " {byte:02x}")?;
                }
                f.write_str(if data.len() > MAX_PRINTED { " …" } else { "" })
            }
            Self::Response { status: 0x08, .. } => f.write_str("BUSY"),
            Self::Response { status: 0x18, .. } => f.write_str("CONFLICT"),
            Self::Response { status, sense, .. } => {
                write!(f, "status {status:#04x}, sense {:02x?}", &sense[..18])
            }
            Self::Host(0x0e) => f.write_str("DID_TRANSPORT_DISRUPTED"),
            Self::Host(number) => write!(f, "host status {number:#04x}"),
            Self::Errno(5) => f.write_str("EIO"),
            Self::Errno(19) => f.write_str("ENODEV"),
            Self::Errno(number) => write!(f, "errno {number}"),
            Self::Pending => f.write_str("pending"),
        }
    }
}
