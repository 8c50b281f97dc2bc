//! Which files can still be opened, made and removed. What is open stays open, and what clients send is.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, PathBeneath, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use super::Needs;

/// What this helper knows of landlock; an older kernel does as much of it as it can.
const KNOWN: ABI = ABI::V6;

/// What a device is, and what it lies on. The links in the first lead into the second.
const SYSFS: [&str; 2] = ["/sys/dev/block", "/sys/devices"];
/// What a daemon leaves its standard streams for.
const NULL: &str = "/dev/null";
/// By which soft LUNs notice that the machine was started anew.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// Lets nothing be opened any more but what the helper needs, and no network be used.
pub(super) fn restrict(needs: &Needs) -> Result<(), RulesetError> {
    match try_restrict(needs) {
        Ok(RulesetStatus::FullyEnforced) => {}
        Ok(RulesetStatus::PartiallyEnforced) => {
            log::info!(
                "this kernel knows a part of landlock: files are restricted, not everything else"
            );
        }
        Ok(RulesetStatus::NotEnforced) => {
            log::warn!("this kernel has no landlock: files are not restricted");
        }
        Err(error) => match errno(&error) {
            // A container that forbids part of it, or a process that is in too many such sandboxes already.
            Some(libc::EPERM | libc::ENOSYS | libc::EOPNOTSUPP | libc::E2BIG) => {
                log::warn!("no landlock here, files are not restricted: {error}");
            }
            _ => return Err(error),
        },
    }
    Ok(())
}

fn try_restrict(needs: &Needs) -> Result<RulesetStatus, RulesetError> {
    let reading = AccessFs::from_read(KNOWN) & !AccessFs::Execute;
    let writing = AccessFs::from_all(KNOWN) & !AccessFs::Execute;
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?;
    if let Some(folder) = &needs.soft_luns {
        // The folder that is open already: what leads to it may be barred by now.
        let rule = PathBeneath::new(folder, writing & !special_files());
        ruleset = ruleset.add_rule(rule)?;
    }
    let mut rules = vec![(
        PathBuf::from(NULL),
        AccessFs::ReadFile | AccessFs::WriteFile,
    )];
    rules.extend(SYSFS.map(|path| (path.into(), reading)));
    rules.extend(needs.soft_luns.as_ref().map(|_| (BOOT.into(), reading)));
    // With all of the file system below it, the right to remove one file is too much.
    let folders = needs.removed.iter().map(|file| folder_of(file));
    let folders = folders.filter(|folder| folder != Path::new("/"));
    rules.extend(folders.map(|folder| (folder, AccessFs::RemoveFile.into())));
    for (path, access) in rules {
        // What is not there needs no rule.
        ruleset = ruleset.add_rules(path_beneath_rules([path], access))?;
    }
    Ok(ruleset.restrict_self()?.ruleset)
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

/// The folder that a file is in; the current one if the path does not say.
fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder.as_os_str().is_empty() => ".".into(),
        Some(folder) => folder.into(),
        None => "/".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_in_a_folder() {
        for (file, folder) in [
            ("/run/a/b", "/run/a"),
            ("/b", "/"),
            ("b", "."),
            ("a/b", "a"),
        ] {
            assert_eq!(folder_of(Path::new(file)), Path::new(folder));
        }
    }
}
