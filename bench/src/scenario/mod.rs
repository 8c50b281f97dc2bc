// SPDX-License-Identifier: MIT OR Apache-2.0

//! The scenarios, each of which measures a subject in a round.

pub(super) mod disk;
mod hung;
mod idle;
mod journal;
mod limit;
mod mixed;
mod overhead;
mod soft_lun;
mod storm;
mod trace;

use anyhow::Result;
use clap::ValueEnum;

pub use disk::Disks;

use super::context::BenchContext;
use super::results::Measured;
use super::subject::{FLOOR, ORIGINAL, SIMPLE, Subject, UNTRACED};

/// A scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Requests to /dev/null by 1, 4, 16 and 64 clients: the overhead of the helper
    Overhead,
    /// 1 to 4,000 idle connections: memory, threads, and their cost for other clients
    Idle,
    /// 64, 200 and 1,000 hanging commands, and a healthy client
    Hung,
    /// Commands that are recorded, with and without a system journal that reads the records
    Journal,
    /// More clients than the limit of open files allows
    Limit,
    /// 10,000 connections in a burst
    Storm,
    /// The load of a host: idle, paced and busy clients, short connections, and hanging commands
    Mixed,
    /// READ KEYS, RESERVE and RELEASE on a soft LUN
    SoftLun,
    /// Cost of disabled trace points, and of a binary trace of all events
    Trace,
}

impl Scenario {
    /// Returns whether the scenario can measure this subject.
    pub(super) fn applies_to(self, subject: &Subject) -> bool {
        let is_traced = subject.is(UNTRACED) || subject.is(SIMPLE);
        match self {
            Self::Trace => !subject.is(FLOOR) && !subject.is(ORIGINAL),
            _ if is_traced => false,
            // The floor exits when it is out of descriptors.
            Self::Limit => !subject.is(FLOOR),
            Self::Journal | Self::SoftLun => !subject.is(FLOOR) && !subject.is(ORIGINAL),
            Self::Overhead | Self::Idle | Self::Hung | Self::Storm | Self::Mixed => true,
        }
    }

    /// Measures one subject in one round.
    pub(super) fn measure(self, context: &BenchContext, subject: &Subject) -> Result<Measured> {
        match self {
            Self::Overhead => overhead::measure(context, subject),
            Self::Idle => idle::measure(context, subject),
            Self::Hung => hung::measure(context, subject),
            Self::Journal => journal::measure(context, subject),
            Self::Limit => limit::measure(context, subject),
            Self::Storm => storm::measure(context, subject),
            Self::Mixed => mixed::measure(context, subject),
            Self::SoftLun => soft_lun::measure(context, subject),
            Self::Trace => trace::measure(context, subject),
        }
    }
}
