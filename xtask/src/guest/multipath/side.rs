//! The two sides of the comparison: a guest whose disk is a path, and one whose disk is a map. Each has a
//! logical unit of its own, which another host shares with it.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use scsi_pr::FullStatus;

use super::commands::{ALL_TG_PT, Order, clear, out, register_and_ignore};
use super::device::{Device, Reply};
use super::through::Guest;
use crate::guest::lio::Port;

/// A key that no scene uses.
const CLEANER: u64 = 0xc1ea_0001;

/// How often a command of ours is repeated that meets a unit attention.
const ATTEMPTS: usize = 8;

/// One of them.
pub(super) struct Side {
    pub(super) guest: Guest,
    /// What the guest's commands go by, here without the helper, with the numbers of the ports.
    pub(super) paths: Vec<(u32, Device)>,
    /// The other host, which uses no helper, and the number of its port.
    pub(super) other: (u32, Device),
}

impl Side {
    /// A guest whose commands to `disk` go by `paths`, beside another host.
    pub(super) fn new(disk: &Path, paths: &[(u32, &Path)], other: &Port) -> Result<Self> {
        let paths = paths
            .iter()
            .map(|(number, path)| Ok((*number, Device::open(path)?)));
        Ok(Self {
            guest: Guest::connect(disk)?,
            paths: paths.collect::<Result<_>>()?,
            other: (other.number, Device::open(&other.block)?),
        })
    }

    /// Removes all registrations, and what multipathd knows of them, and reads all unit attentions.
    pub(super) fn clean(&mut self) -> Result<()> {
        self.drain()?;
        // To a port that has used the flag the target answers that it wants it again.
        let plain = out(6, 0, 0, 0);
        if !self.insist(&plain)?.is_good() {
            good("unregister", &self.insist(&plain.flags(ALL_TG_PT))?)?;
        }
        self.drain()?;
        let other = &self.other.1;
        let register = register_and_ignore(CLEANER);
        if !other.reserve_out(&register).is_good() {
            good("register", &other.reserve_out(&register.flags(ALL_TG_PT)))?;
        }
        good("clear", &other.reserve_out(&clear(CLEANER)))?;
        self.drain()?;
        let left = registrations(other)?.descriptors;
        ensure!(left.is_empty(), "registrations are left: {left:?}");
        Ok(())
    }

    /// Reads everybody's unit attentions.
    pub(super) fn drain(&self) -> Result<()> {
        self.drain_guest()?;
        self.other.1.drain()
    }

    /// Reads the unit attentions that wait for the guest.
    pub(super) fn drain_guest(&self) -> Result<()> {
        self.paths.iter().try_for_each(|(_, path)| path.drain())
    }

    /// Has the guest send a command until no unit attention is in its way.
    fn insist(&mut self, order: &Order) -> Result<Reply> {
        for _ in 1..ATTEMPTS {
            let reply = self.guest.tell(order)?;
            if reply.sense().is_none_or(|[key, ..]| key != 6) {
                return Ok(reply);
            }
        }
        self.guest.tell(order)
    }
}

fn good(what: &str, reply: &Reply) -> Result<()> {
    ensure!(reply.is_good(), "cleaning, {what}: {reply}");
    Ok(())
}

/// The registrations as READ FULL STATUS has them by this port.
pub(super) fn registrations(port: &Device) -> Result<FullStatus> {
    let reply = port.reserve_in(3, 8192);
    let Reply::Answer {
        status: 0, data, ..
    } = &reply
    else {
        bail!("READ FULL STATUS: {reply}");
    };
    FullStatus::decode(data)?
        .complete()
        .context("READ FULL STATUS is cut off")
}
