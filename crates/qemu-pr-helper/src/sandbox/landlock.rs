//! Files that can still be opened, created and removed. Open files stay open, and so do those that
//! clients send.

use std::error::Error;
use std::io;
use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, PathBeneath, Ruleset, RulesetAttr as _,
    RulesetCreated, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
    path_beneath_rules,
};

use super::AllowedAccess;
use crate::process::created_file::OpenedFile;

/// Latest version of landlock that is used. An older kernel does as much of it as it can.
const KNOWN: ABI = ABI::V6;

/// Directories of sysfs that tell a multipath map from a disk, and what a map lies on. The links in
/// the first lead to all devices, but what is read of a device that is no map is a file that it
/// does not have, which the kernel looks up without landlock.
const SYSFS: [&str; 2] = ["/sys/dev/block", "/sys/devices/virtual/block"];
/// File that a daemon replaces its standard streams with.
const NULL: &str = "/dev/null";
/// File by which soft LUNs notice that the machine was started again.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// Directories that the broker's workers read: the nodes of paths, the paths of maps, their own
/// threads and descriptors.
const WORKER_DIRS: [&str; 3] = ["/dev", "/sys", "/proc"];

/// Restricts the helper to the files that it needs, and forbids every network.
pub(super) fn restrict(needs: &AllowedAccess) -> Result<(), RulesetError> {
    match tolerate(restrict_helper(needs))? {
        Ok(RulesetStatus::FullyEnforced) => {}
        Ok(RulesetStatus::PartiallyEnforced) => {
            log::info!(
                "this kernel knows a part of landlock: files are restricted, not everything else"
            );
        }
        Ok(RulesetStatus::NotEnforced) => {
            log::warn!("this kernel has no landlock: files are not restricted");
        }
        Err(error) => log::warn!("no landlock here, files are not restricted: {error}"),
    }
    Ok(())
}

/// Restricts the broker and its workers to the files that they need. The helper logs what the
/// kernel does not know, for both.
pub(super) fn restrict_broker(files: &[OpenedFile]) -> Result<(), RulesetError> {
    tolerate(try_restrict_broker(files)).map(drop)
}

/// Passes on errors that are no fault of the kernel or of a container.
fn tolerate(
    result: Result<RulesetStatus, RulesetError>,
) -> Result<Result<RulesetStatus, RulesetError>, RulesetError> {
    match result {
        Ok(status) => Ok(Ok(status)),
        Err(error) => match errno(&error) {
            // A container that forbids part of it, or a process that is in too many such sandboxes already.
            Some(libc::EPERM | libc::ENOSYS | libc::EOPNOTSUPP | libc::E2BIG) => Ok(Err(error)),
            _ => Err(error),
        },
    }
}

fn restrict_helper(needs: &AllowedAccess) -> Result<RulesetStatus, RulesetError> {
    let writing = AccessFs::from_all(KNOWN) & !AccessFs::Execute;
    let mut ruleset = ruleset(Scope::from_all(KNOWN))?;
    if let Some(folder) = &needs.soft_luns {
        // The folder that is open already: what leads to it may be barred by now.
        let rule = PathBeneath::new(folder, writing & !special_files());
        ruleset = ruleset.add_rule(rule)?;
        ruleset = allow(ruleset, BOOT, reading())?;
    }
    ruleset = allow(ruleset, NULL, AccessFs::ReadFile | AccessFs::WriteFile)?;
    for dir in SYSFS {
        // No directory: with a descriptor of one, a client in a chroot(2) could walk out by `..`.
        ruleset = allow(ruleset, dir, AccessFs::ReadFile)?;
    }
    Ok(ruleset.restrict_self()?.ruleset)
}

fn try_restrict_broker(files: &[OpenedFile]) -> Result<RulesetStatus, RulesetError> {
    // Not the scope of abstract sockets: that is where multipathd listens.
    let mut ruleset = ruleset(Scope::Signal.into())?;
    for dir in WORKER_DIRS {
        ruleset = allow(ruleset, dir, reading() | AccessFs::IoctlDev)?;
    }
    ruleset = allow(ruleset, NULL, AccessFs::ReadFile | AccessFs::WriteFile)?;
    for opened in files {
        // With all of the file system below it, the right to remove one file is too much.
        if opened.file().dir() != Path::new("/") {
            // To lock a directory takes opening it.
            let access = AccessFs::RemoveFile | AccessFs::ReadDir;
            ruleset = ruleset.add_rule(PathBeneath::new(opened.dir(), access))?;
        }
    }
    Ok(ruleset.restrict_self()?.ruleset)
}

/// Creates a ruleset that forbids all access to files and to networks.
fn ruleset(scopes: BitFlags<Scope>) -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(scopes)?
        .create()
}

/// Adds a rule for `path`, if that exists.
fn allow(
    ruleset: RulesetCreated,
    path: &str,
    access: impl Into<BitFlags<AccessFs>>,
) -> Result<RulesetCreated, RulesetError> {
    ruleset.add_rules(path_beneath_rules([path], access))
}

fn reading() -> BitFlags<AccessFs> {
    AccessFs::from_read(KNOWN) & !AccessFs::Execute
}

/// What the kernel said.
fn errno(error: &RulesetError) -> Option<i32> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.raw_os_error();
        }
        cause = error.source();
    }
    None
}

/// The kinds of files that no soft LUN is made of.
fn special_files() -> BitFlags<AccessFs> {
    AccessFs::MakeChar
        | AccessFs::MakeBlock
        | AccessFs::MakeSock
        | AccessFs::MakeFifo
        | AccessFs::IoctlDev
}
