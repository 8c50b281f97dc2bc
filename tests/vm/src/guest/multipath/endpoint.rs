// SPDX-License-Identifier: MIT OR Apache-2.0

//! The two endpoints of the comparison: a guest on a single path, and a guest on a map. Each has a
//! logical unit of its own, which it shares with another host.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use scsi_pr::FullStatus;

use super::commands::{ALL_TG_PT, PrOutCommand, clear, out, register_and_ignore};
use super::device::{Device, Reply};
use super::helper_client::HelperClient;
use crate::guest::lio_target::Port;

/// A key that no scenario uses.
const CLEANUP_KEY: u64 = 0xc1ea_0001;

/// Maximum attempts of a command that returns unit attentions.
const ATTEMPTS: usize = 8;

/// An endpoint.
pub(super) struct Endpoint {
    pub(super) guest: HelperClient,
    /// The paths of the guest's disk with their port numbers, for commands without the helper.
    pub(super) paths: Vec<(u32, Device)>,
    /// The other host's port number and device. It does not use the helper.
    pub(super) other: (u32, Device),
}

impl Endpoint {
    /// Creates a guest with a `disk` that consists of `paths`, and the other host.
    pub(super) fn new(disk: &Path, paths: &[(u32, &Path)], other: &Port) -> Result<Self> {
        let paths = paths
            .iter()
            .map(|(number, path)| Ok((*number, Device::open(path)?)));
        Ok(Self {
            guest: HelperClient::connect(disk)?,
            paths: paths.collect::<Result<_>>()?,
            other: (other.number, Device::open(&other.block)?),
        })
    }

    /// Removes all registrations, also from multipathd, and consumes all unit attentions.
    pub(super) fn clean(&mut self) -> Result<()> {
        self.drain()?;
        // The target requires ALL_TG_PT from a port that has registered with it.
        let plain = out(6, 0, 0, 0);
        if !self.retry(&plain)?.is_good() {
            expect_good("unregister", &self.retry(&plain.flags(ALL_TG_PT))?)?;
        }
        self.drain()?;
        let other = &self.other.1;
        let register = register_and_ignore(CLEANUP_KEY);
        if !other.reserve_out(&register).is_good() {
            expect_good("register", &other.reserve_out(&register.flags(ALL_TG_PT)))?;
        }
        expect_good("clear", &other.reserve_out(&clear(CLEANUP_KEY)))?;
        self.drain()?;
        let left = registrations(other)?.descriptors;
        ensure!(left.is_empty(), "registrations remain: {left:?}");
        Ok(())
    }

    /// Consumes the unit attentions of both hosts.
    pub(super) fn drain(&self) -> Result<()> {
        self.drain_guest()?;
        self.other.1.drain()
    }

    /// Consumes the unit attentions of the guest.
    pub(super) fn drain_guest(&self) -> Result<()> {
        self.paths.iter().try_for_each(|(_, path)| path.drain())
    }

    /// Sends a command of the guest and repeats it after a unit attention.
    fn retry(&mut self, pr_out: &PrOutCommand) -> Result<Reply> {
        for _ in 1..ATTEMPTS {
            let reply = self.guest.reserve_out(pr_out)?;
            if reply.sense().is_none_or(|[key, ..]| key != 6) {
                return Ok(reply);
            }
        }
        self.guest.reserve_out(pr_out)
    }
}

fn expect_good(what: &str, reply: &Reply) -> Result<()> {
    ensure!(reply.is_good(), "cleanup, {what}: {reply}");
    Ok(())
}

/// Returns the registrations from READ FULL STATUS.
pub(super) fn registrations(port: &Device) -> Result<FullStatus> {
    let reply = port.reserve_in(3, 8192);
    let Reply::Response {
        status: 0, data, ..
    } = &reply
    else {
        bail!("READ FULL STATUS: {reply}");
    };
    FullStatus::decode(data)?
        .complete()
        .context("the data of READ FULL STATUS is truncated")
}
