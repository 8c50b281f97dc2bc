// SPDX-License-Identifier: MIT OR Apache-2.0

//! The parts of a command: its peer, its device, its executor and its log.

pub(crate) mod command_log;
pub(crate) mod device;
pub mod executor;
pub(crate) mod known_maps;
pub mod peer;
pub mod request_device;
pub mod sg;
mod sg_disks;
pub(crate) mod timestamp;
