// SPDX-License-Identifier: MIT OR Apache-2.0

//! Files that a sandboxed process can still open, create and remove. Landlock does not restrict
//! open files, so the process can use those that it had before, and those that clients send.

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

/// Latest landlock ABI in use. Older kernels enforce the part that they support.
const SUPPORTED_ABI: ABI = ABI::V6;

/// Directories of sysfs that distinguish a multipath map from a disk, and list the devices below a
/// map. The links in the first lead to all devices. For a device that is not a map, the helper only
/// looks up a file that does not exist, and landlock does not restrict lookups.
const SYSFS: [&str; 2] = ["/sys/dev/block", "/sys/devices/virtual/block"];

/// File with which a daemon replaces its standard streams.
const DEV_NULL: &str = "/dev/null";

/// File by which soft LUNs detect a reboot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Directories that the workers read: device nodes, the paths of maps, and their own threads and
/// descriptors.
const WORKER_DIRS: [&str; 3] = ["/dev", "/sys", "/proc"];

/// Restricts the helper to the files that it needs, and blocks all networks.
pub(super) fn restrict(access: &AllowedAccess) -> Result<(), RulesetError> {
    match restrict_helper(access) {
        Ok(RulesetStatus::FullyEnforced) => {}
        Ok(RulesetStatus::PartiallyEnforced) => log::info!(
            "this kernel supports landlock only partially: file access is restricted, but not all \
             of network, signals and abstract sockets"
        ),
        Ok(RulesetStatus::NotEnforced) => {
            log::warn!("file access not restricted: this kernel has no landlock");
        }
        Err(error) if is_unavailable(&error) => {
            log::warn!("file access not restricted: landlock is not available: {error}");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Restricts the broker and its workers to the files that they need. Missing features of the kernel
/// are not logged, because [`restrict`] logs them.
pub(super) fn restrict_broker(files: &[OpenedFile]) -> Result<(), RulesetError> {
    match try_restrict_broker(files) {
        Err(error) if !is_unavailable(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Returns whether landlock is missing, blocked by a container, or nested too deeply already.
fn is_unavailable(error: &RulesetError) -> bool {
    let error: &(dyn Error + 'static) = error;
    let mut causes = std::iter::successors(Some(error), |&cause| cause.source());
    let error = causes.find_map(|cause| cause.downcast_ref::<io::Error>());
    matches!(
        error.and_then(io::Error::raw_os_error),
        Some(libc::EPERM | libc::ENOSYS | libc::EOPNOTSUPP | libc::E2BIG)
    )
}

fn restrict_helper(access: &AllowedAccess) -> Result<RulesetStatus, RulesetError> {
    let write = AccessFs::from_all(SUPPORTED_ABI) & !AccessFs::Execute;
    let mut ruleset = ruleset(Scope::from_all(SUPPORTED_ABI))?;
    if let Some(dir) = &access.soft_luns {
        // Kinds of files that soft LUNs do not use.
        let special = AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::MakeSock;
        let special = special | AccessFs::MakeFifo | AccessFs::IoctlDev;
        // By descriptor, because the helper's user can lack access to the path.
        ruleset = ruleset.add_rule(PathBeneath::new(dir, write & !special))?;
        ruleset = allow(ruleset, BOOT_ID, read_access())?;
    }
    ruleset = allow(ruleset, DEV_NULL, AccessFs::ReadFile | AccessFs::WriteFile)?;
    for dir in SYSFS {
        // Without ReadDir: a client in a chroot(2) could leave it through the descriptor of a
        // directory.
        ruleset = allow(ruleset, dir, AccessFs::ReadFile)?;
    }
    Ok(ruleset.restrict_self()?.ruleset)
}

fn try_restrict_broker(files: &[OpenedFile]) -> Result<RulesetStatus, RulesetError> {
    // Without the scope of abstract sockets, because multipathd listens on one.
    let mut ruleset = ruleset(Scope::Signal.into())?;
    for dir in WORKER_DIRS {
        ruleset = allow(ruleset, dir, read_access() | AccessFs::IoctlDev)?;
    }
    ruleset = allow(ruleset, DEV_NULL, AccessFs::ReadFile | AccessFs::WriteFile)?;
    for opened in files {
        // Removal below / would be removal of any file.
        if opened.file.dir() != Path::new("/") {
            // The lock on the directory requires ReadDir.
            let access = AccessFs::RemoveFile | AccessFs::ReadDir;
            ruleset = ruleset.add_rule(PathBeneath::new(&opened.dir, access))?;
        }
    }
    Ok(ruleset.restrict_self()?.ruleset)
}

/// Creates a ruleset that denies all access to files and networks.
fn ruleset(scopes: BitFlags<Scope>) -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(SUPPORTED_ABI))?
        .handle_access(AccessNet::from_all(SUPPORTED_ABI))?
        .scope(scopes)?
        .create()
}

/// Adds a rule for `path`, if it exists.
fn allow(
    ruleset: RulesetCreated,
    path: &str,
    access: impl Into<BitFlags<AccessFs>>,
) -> Result<RulesetCreated, RulesetError> {
    ruleset.add_rules(path_beneath_rules([path], access))
}

fn read_access() -> BitFlags<AccessFs> {
    AccessFs::from_read(SUPPORTED_ABI) & !AccessFs::Execute
}
