// SPDX-License-Identifier: MIT OR Apache-2.0

//! Soft LUNs on disk, each in its own directory.
//!
//! ```text
//! shared0/
//!   lun.json      identity, ports and supported features; written once
//!   state.json    registrations, reservation and unit attentions; replaced by each command that
//!                 changes them
//!   lock          locked (flock) while a process changes the state
//!   ports/
//!     node1       an initiator port, comparable to /dev/sda: a process that has the file open
//!     node2       sends commands through this port. The file is created empty and its content
//!                 is never read, because clients can write to it
//! ```
//!
//! Both JSON files are also meant to be read by people. Several processes can use a soft LUN at the
//! same time: a command takes the lock, reads the state, changes it, and replaces the state file
//! with a complete new file. If a process is killed or the disk is full, the state is either that
//! before the command or that after it.
//!
//! The content of a new state file is synced before the file is renamed, so that a power loss
//! leaves no partial file. If registrations persist through a power loss (`APTPL`), the rename is
//! synced too before the response is returned. A reboot of the host is a power loss: registrations
//! without `APTPL` are removed, and each port gets the unit attention 29h/00h.
//!
//! Only processes of one host can share the directory, because another host has another boot ID,
//! which is indistinguishable from a power loss.
//!
//! A file that has the wrong format, belongs to another soft LUN, or contains a state that no
//! sequence of commands leads to, is an error that names the file. Nothing is repaired or reset.

mod directory;
mod error;
mod json;
mod lun;
mod lun_config;
mod lun_directory;
mod state_file;

pub use error::StoreError;
pub use lun::{Executed, Lun, OpenPort};
pub use lun_config::{LunConfig, LunConfigError, LunId, LunIdError, Name, NameError, Port};
pub use lun_directory::LunDirectory;
pub use state_file::{StateFile, StateFileError};
