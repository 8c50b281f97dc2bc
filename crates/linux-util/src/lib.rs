// SPDX-License-Identifier: MIT OR Apache-2.0

#![doc = include_str!("../README.md")]
// The workspace denies unsafe code. This crate is the only one that allows it.
#![allow(unsafe_code)]

pub mod ancillary;
pub mod fork;
pub mod listen_fds;
pub mod memory;
pub mod procfs;
pub mod sg_io;
pub mod signals;
