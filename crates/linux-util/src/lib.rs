//! The kernel interfaces that no safe library offers, behind a safe one.
//!
//! This is the only crate of the workspace with `unsafe` in it. One file per interface, each block
//! with the argument why it is sound; whatever rustix or nix can do is not here.
//!
//! * [`ancillary`]: which control messages a socket receives
//! * [`sg_io`]: a SCSI command to a device by the `SG_IO` ioctl
//! * [`fork`]: a second process, while there is one thread
//! * [`listen_fds`]: the socket that a service manager hands over by number
//! * [`memory`]: what the allocator keeps
//! * [`signals`]: the signal mask that another program begins with, and children that end

// The workspace denies unsafe code; it is allowed here, and here alone.
#![allow(unsafe_code)]

pub mod ancillary;
pub mod fork;
pub mod listen_fds;
pub mod memory;
pub mod sg_io;
pub mod signals;
