//! Soft LUNs in files: each is a folder.
//!
//! ```text
//! shared0/
//!   lun.json      what it is: identity, ports, what it supports. Written once
//!   state.json    registrations, reservation, unit attentions. Replaced by each command that changes them
//!   lock          held (flock) by whoever changes the state
//!   ports/
//!     node1       an initiator port, as /dev/sda is one: whoever has it open speaks through it.
//!     node2       Made empty; a client can write to it, so nothing is read from it
//! ```
//!
//! Both JSON files are for people too. Several processes can use a soft LUN at once: a command takes the
//! lock, reads the state, changes it, and puts a complete new file in the old one's place. Whenever a
//! process is killed, or a disk is full, the state is what it was before the command or after it.
//!
//! A new state is on the disk before it takes the name, so that a loss of power leaves no half of one.
//! Where the standard wants registrations to outlast it (`APTPL`), the name is on the disk too before
//! the command is answered. A restart of the host is a loss of power: what is not to outlast it is gone
//! afterwards, and each port is told so (29h/00h).
//!
//! The folder is for one host's processes: another host has been started at another time, which looks like
//! a loss of power.
//!
//! A file that is none of these, is of another soft LUN, or holds what no command leads to, is an
//! error that names it. Nothing is ever repaired or reset.

mod create;
mod description;
mod error;
mod file;
mod folder;
mod lun;
mod name;
mod record;
mod text;
mod type_text;

pub use description::{LunConfig, LunConfigError, LunId, LunIdError, Port};
pub use error::StoreError;
pub use folder::LunDirectory;
pub use lun::{Executed, Lun, OpenPort};
pub use name::{Name, NameError};
pub use record::{StateFile, StateFileError};
