// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sandbox of the serving process: restrictions that hold even if a client finds a way to run code
//! in it.
//!
//! | layer | leaves |
//! |---|---|
//! | seccomp | the system calls in [`syscalls`], with `SG_IO` as the only `ioctl` request |
//! | landlock | the files in `landlock.rs`, and no network |
//!
//! If the kernel or the architecture lacks a layer, the helper logs that and serves without it.

mod landlock;
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
))]
mod seccomp;
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
))]
pub mod syscalls;

/// Replacement on architectures without a list of system calls.
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
)))]
mod seccomp {
    use super::{AllowedAccess, Mode};

    pub(super) fn restrict(_: Mode, _: &AllowedAccess) -> Result<(), seccompiler::Error> {
        log::warn!("system calls not restricted: no seccomp filter for this architecture");
        Ok(())
    }

    pub(super) fn restrict_broker(_: Mode) -> Result<(), seccompiler::Error> {
        Ok(())
    }
}

use std::os::fd::OwnedFd;

use crate::error_chain;
use clap::ValueEnum;
use cli_messages::error::without_error_numbers;
use thiserror::Error;

use crate::process::created_file::OpenedFile;

/// Mode of the sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Block system calls and files that are not needed
    #[default]
    Enforce,
    /// Allow all, but record unexpected calls in the kernel log
    Log,
    /// No sandbox
    Off,
}

/// Access that depends on the options of the helper.
#[derive(Debug, Default)]
pub struct AllowedAccess {
    /// Open directory of soft LUNs, which stays readable and writable.
    pub soft_luns: Option<OwnedFd>,
    /// Permission to send datagrams to syslog.
    pub syslog: bool,
}

/// Error of a sandbox that the kernel supports but cannot set up.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// The seccomp filters cannot be created or loaded.
    #[error(
        "cannot restrict system calls: {}; start with --sandbox=off to do without",
        error_chain(.0)
    )]
    Seccomp(seccompiler::Error),
    /// The landlock rules cannot be created or applied.
    #[error(
        "cannot restrict files: {}; start with --sandbox=off to do without",
        // The text contains the causes.
        without_error_numbers(&.0.to_string())
    )]
    Landlock(::landlock::RulesetError),
}

/// Restricts the calling thread, and the threads that it starts, for good. The process must have
/// only this thread. Sets `no_new_privs`, which both layers require.
///
/// # Errors
///
/// Returns [`SandboxError`] if a layer fails that the kernel supports. The process must then exit.
pub fn enter(mode: Mode, access: &AllowedAccess) -> Result<(), SandboxError> {
    match mode {
        // First, because seccomp blocks the system calls of landlock.
        Mode::Enforce => landlock::restrict(access).map_err(SandboxError::Landlock)?,
        Mode::Log => {}
        Mode::Off => return Ok(()),
    }
    seccomp::restrict(mode, access).map_err(SandboxError::Seccomp)
}

/// Restricts the broker for multipath maps and its workers, for good.
///
/// They open paths and connect to multipathd, so they keep more than [`enter`] leaves: reading
/// below `/dev`, `/sys` and `/proc`, the removal of `files`, and all system calls except those in
/// `syscalls::KILL`.
///
/// # Errors
///
/// Returns [`SandboxError`] if a layer fails that the kernel supports. The process must then exit.
pub fn enter_as_broker(mode: Mode, files: &[OpenedFile]) -> Result<(), SandboxError> {
    match mode {
        Mode::Enforce => landlock::restrict_broker(files).map_err(SandboxError::Landlock)?,
        Mode::Log => {}
        Mode::Off => return Ok(()),
    }
    seccomp::restrict_broker(mode).map_err(SandboxError::Seccomp)
}
