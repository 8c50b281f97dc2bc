//! What the helper can no longer do once it serves: layers that hold even if a client finds a way to run code in it.
//!
//! | layer | what it takes away |
//! |---|---|
//! | seccomp | every system call but those in [`calls`]; `ioctl` but for `SG_IO` |
//! | landlock | every file but those in `landlock.rs`, and every network |
//!
//! A kernel or an architecture that lacks a layer does not stop the helper: one line says so.

mod landlock;
mod seccomp;
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
))]
pub mod syscalls;

use std::os::fd::OwnedFd;

use clap::ValueEnum;
use thiserror::Error;

use crate::process::created_file::OpenedFile;

/// How the sandbox is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// What is not allowed is refused
    #[default]
    Enforce,
    /// Foreign system calls are let through and noted in the kernel's log; files are not restricted
    Log,
    /// There is none
    Off,
}

/// What the helper's options make necessary beyond what every helper needs.
#[derive(Debug, Default)]
pub struct AllowedAccess {
    /// The folder of soft LUNs, open, to be read and written.
    pub soft_luns: Option<OwnedFd>,
    /// Whether lines are sent to syslog.
    pub syslog: bool,
}

/// Why there is no sandbox where there could be one.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// The filter of system calls cannot be made or set.
    #[error("cannot restrict system calls: start with --sandbox=off to do without")]
    Seccomp(#[source] seccompiler::Error),
    /// The rules for files cannot be made or set.
    #[error("cannot restrict files: start with --sandbox=off to do without")]
    Landlock(#[source] ::landlock::RulesetError),
}

/// Gives up for ever what the helper does not need. There must be one thread; those to come have the same
/// restrictions. It takes `no_new_privs`.
///
/// # Errors
///
/// [`SandboxError`]; the process must then end. It is none that the kernel does not know a layer.
pub fn enter(mode: Mode, needs: &AllowedAccess) -> Result<(), SandboxError> {
    match mode {
        Mode::Off => return Ok(()),
        Mode::Log => {}
        // First, as it takes system calls that there are none of afterwards.
        Mode::Enforce => landlock::restrict(needs).map_err(SandboxError::Landlock)?,
    }
    seccomp::restrict(mode, needs).map_err(SandboxError::Seccomp)
}

/// Restricts the broker for multipath maps and its workers, for good.
///
/// They have to open paths and to speak with multipathd, so they keep more than with [`enter`]:
/// files below `/dev`, `/sys` and `/proc` can be read, `files` can be removed, and only hostile
/// system calls are refused.
///
/// # Errors
///
/// [`SandboxError`]; the process must then end.
pub fn enter_as_broker(mode: Mode, files: &[OpenedFile]) -> Result<(), SandboxError> {
    match mode {
        Mode::Off => return Ok(()),
        Mode::Log => {}
        Mode::Enforce => landlock::restrict_broker(files).map_err(SandboxError::Landlock)?,
    }
    seccomp::restrict_hostile(mode).map_err(SandboxError::Seccomp)
}
