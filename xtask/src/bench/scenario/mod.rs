//! The scenarios: what is done to each contestant in a round.

pub(super) mod disk;
mod hung;
mod idle;
mod limit;
mod mixed;
mod overhead;
mod soft_lun;
mod storm;
mod trace;

use anyhow::Result;
use clap::ValueEnum;

pub(crate) use disk::Disks;

use super::contestant::{Contestant, FLOOR, ORIGINAL, SIMPLE, UNTRACED};
use super::lab::Lab;
use super::results::Measured;

/// A scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Requests to /dev/null by 1, 4, 16 and 64 clients: what the helper itself costs
    Overhead,
    /// 1 to 4,000 connections that do nothing: memory, threads, and what they cost the others
    Idle,
    /// 64, 200 and 1,000 commands that hang, and a healthy client beside them
    Hung,
    /// More clients than there are descriptors for
    Limit,
    /// 10,000 connections in a burst
    Storm,
    /// Everything at once, as on a host: idle clients, paced ones, busy ones, comers and goers, hung commands
    Mixed,
    /// READ KEYS, RESERVE and RELEASE on a soft LUN
    SoftLun,
    /// What trace points cost that are off, and all events in a binary trace
    Trace,
}

impl Scenario {
    /// Whether it can be done to this contestant.
    pub(super) fn admits(self, contestant: &Contestant) -> bool {
        let is_traced = contestant.is(UNTRACED) || contestant.is(SIMPLE);
        match self {
            Self::Trace => !contestant.is(FLOOR) && !contestant.is(ORIGINAL),
            _ if is_traced => false,
            // The floor has no answer to a want of descriptors.
            Self::Limit => !contestant.is(FLOOR),
            Self::SoftLun => !contestant.is(FLOOR) && !contestant.is(ORIGINAL),
            Self::Overhead | Self::Idle | Self::Hung | Self::Storm | Self::Mixed => true,
        }
    }

    /// One contestant in one round.
    pub(super) fn measure(self, lab: &Lab, contestant: &Contestant) -> Result<Measured> {
        match self {
            Self::Overhead => overhead::measure(lab, contestant),
            Self::Idle => idle::measure(lab, contestant),
            Self::Hung => hung::measure(lab, contestant),
            Self::Limit => limit::measure(lab, contestant),
            Self::Storm => storm::measure(lab, contestant),
            Self::Mixed => mixed::measure(lab, contestant),
            Self::SoftLun => soft_lun::measure(lab, contestant),
            Self::Trace => trace::measure(lab, contestant),
        }
    }
}
