//! Commands by `SG_IO` to a device, and every layer of what comes back.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use linux_util::sg_io::{Data, sg_io};

use super::commands::Order;

/// The kernel raises this to seven seconds.
const TIMEOUT: Duration = Duration::from_secs(1);

/// INQUIRY for the page of device identification, which names the target port that answers.
const IDENTIFICATION: [u8; 6] = [0x12, 1, 0x83, 0, 255, 0];

/// As many bytes as the protocol with QEMU has for it.
const SENSE: usize = 96;

/// How many bytes of an answer are shown.
const SHOWN: usize = 12;

/// An open block device.
pub(super) struct Device {
    pub(super) path: PathBuf,
    file: File,
}

impl Device {
    /// Opens the device. It is kept open: udevd probes a device anew whenever somebody who could
    /// write to it has closed it, and what it reads takes turns with our commands on the paths of a
    /// map.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::options().read(true).write(true).open(path);
        Ok(Self {
            path: path.to_owned(),
            file: file.with_context(|| format!("cannot open {}", path.display()))?,
        })
    }

    /// PERSISTENT RESERVE IN.
    pub(super) fn reserve_in(&self, action: u8, allocation: u16) -> Reply {
        let [high, low] = allocation.to_be_bytes();
        self.read(&[0x5e, action, 0, 0, 0, 0, 0, high, low, 0], allocation)
    }

    /// PERSISTENT RESERVE OUT.
    pub(super) fn reserve_out(&self, order: &Order) -> Reply {
        // Zero bytes of parameters are no data.
        let data = match order.list.as_slice() {
            [] => Data::None,
            list => Data::ToDevice(list),
        };
        let mut sense = vec![0; SENSE];
        match sg_io(self.file.as_fd(), &order.cdb, data, &mut sense, TIMEOUT) {
            Err(error) => Reply::Errno(error.raw_os_error().unwrap_or_default()),
            Ok(done) if done.host_status != 0 => Reply::Host(done.host_status),
            Ok(done) => Reply::Answer {
                status: done.status,
                sense,
                data: Vec::new(),
            },
        }
    }

    /// What the port at the other end says of itself: different for each path.
    pub(super) fn identification(&self) -> Result<Vec<u8>> {
        match self.read(&IDENTIFICATION, 255) {
            Reply::Answer {
                status: 0, data, ..
            } => Ok(data),
            reply => bail!("INQUIRY to {}: {reply}", self.path.display()),
        }
    }

    /// Reads the unit attentions, each of which ends one command.
    pub(super) fn drain(&self) -> Result<()> {
        self.attentions().map(drop)
    }

    /// Reads the unit attentions, and says which there were.
    pub(super) fn attentions(&self) -> Result<Vec<Reply>> {
        const TEST_UNIT_READY: [u8; 6] = [0; 6];
        let mut replies = Vec::new();
        for _ in 0..20 {
            match self.read(&TEST_UNIT_READY, 0) {
                reply if reply.is_good() => return Ok(replies),
                reply => replies.push(reply),
            }
        }
        let last = replies.pop().unwrap_or(Reply::Waiting);
        bail!("{} does not get ready: {last}", self.path.display())
    }

    fn read(&self, cdb: &[u8], allocation: u16) -> Reply {
        let mut data = vec![0; allocation.into()];
        let transfer = match allocation {
            0 => Data::None,
            _ => Data::FromDevice(&mut data),
        };
        let mut sense = vec![0; SENSE];
        match sg_io(self.file.as_fd(), cdb, transfer, &mut sense, TIMEOUT) {
            Err(error) => Reply::Errno(error.raw_os_error().unwrap_or_default()),
            Ok(done) if done.host_status != 0 => Reply::Host(done.host_status),
            Ok(done) => {
                // With any other status there are none, whatever the adapter says.
                let received = match done.status {
                    0 => data.len().saturating_sub(done.residual),
                    _ => 0,
                };
                data.truncate(received);
                Reply::Answer {
                    status: done.status,
                    sense,
                    data,
                }
            }
        }
    }
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reply {
    /// The logical unit answered.
    Answer {
        status: u8,
        sense: Vec<u8>,
        data: Vec<u8>,
    },
    /// The adapter did not get it there (`DID_…` of `include/scsi/scsi_status.h`).
    Host(u16),
    /// The kernel did not even try.
    Errno(i32),
    /// The kernel was still waiting when we looked.
    Waiting,
}

impl Reply {
    /// Whether the command was done.
    pub(super) fn is_good(&self) -> bool {
        matches!(self, Self::Answer { status: 0, .. })
    }

    /// Sense key and code of a CHECK CONDITION, in fixed format, which is what the target uses.
    pub(super) fn sense(&self) -> Option<[u8; 3]> {
        match self {
            Self::Answer {
                status: 2, sense, ..
            } if sense.first() == Some(&0x70) => Some([sense[2], sense[12], sense[13]]),
            _ => None,
        }
    }
}

/// What came of several commands, in whatever order.
#[derive(PartialEq, Eq)]
pub(super) struct Tally(BTreeMap<Reply, usize>);

impl FromIterator<Reply> for Tally {
    fn from_iter<I: IntoIterator<Item = Reply>>(replies: I) -> Self {
        let mut counts = BTreeMap::new();
        for reply in replies {
            *counts.entry(reply).or_default() += 1;
        }
        Self(counts)
    }
}

impl fmt::Display for Tally {
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
            Self::Answer {
                status: 0, data, ..
            } if data.is_empty() => f.write_str("GOOD"),
            Self::Answer {
                status: 0, data, ..
            } => {
                write!(f, "GOOD {}:", data.len())?;
                for byte in data.iter().take(SHOWN) {
                    write!(f, " {byte:02x}")?;
                }
                f.write_str(if data.len() > SHOWN { " …" } else { "" })
            }
            Self::Answer { status: 0x08, .. } => f.write_str("BUSY"),
            Self::Answer { status: 0x18, .. } => f.write_str("CONFLICT"),
            Self::Answer { status, sense, .. } => {
                write!(f, "status {status:#04x}, sense {:02x?}", &sense[..18])
            }
            Self::Host(0x0e) => f.write_str("DID_TRANSPORT_DISRUPTED"),
            Self::Host(number) => write!(f, "host status {number:#04x}"),
            Self::Errno(5) => f.write_str("EIO"),
            Self::Errno(19) => f.write_str("ENODEV"),
            Self::Errno(number) => write!(f, "errno {number}"),
            Self::Waiting => f.write_str("waits"),
        }
    }
}
