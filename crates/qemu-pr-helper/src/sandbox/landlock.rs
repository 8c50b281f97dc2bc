//! Which files can still be opened, made and removed. What is open stays open, and what clients send is.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use super::Needs;

/// What this helper knows of landlock; an older kernel does as much of it as it can.
const KNOWN: ABI = ABI::V6;

/// What a device is, and what it lies on.
const SYSFS: &str = "/sys";
/// What a daemon leaves its standard streams for.
const NULL: &str = "/dev/null";
/// By which soft LUNs notice that the machine was started anew.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// Lets nothing be opened any more but what the helper needs, and no network be used.
pub(super) fn restrict(needs: &Needs) -> Result<(), RulesetError> {
    let reading = AccessFs::from_read(KNOWN) & !AccessFs::Execute;
    let writing = AccessFs::from_all(KNOWN) & !AccessFs::Execute;
    let mut rules = vec![
        (PathBuf::from(SYSFS), reading),
        (NULL.into(), AccessFs::ReadFile | AccessFs::WriteFile),
    ];
    if let Some(folder) = &needs.soft_luns {
        rules.push((folder.clone(), writing & !special_files()));
        rules.push((BOOT.into(), reading));
    }
    for file in &needs.removed {
        rules.push((folder_of(file), AccessFs::RemoveFile.into()));
    }
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?;
    for (path, access) in rules {
        // What is not there needs no rule.
        ruleset = ruleset.add_rules(path_beneath_rules([path], access))?;
    }
    match ruleset.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => {}
        RulesetStatus::PartiallyEnforced => {
            log::info!(
                "this kernel knows a part of landlock: files are restricted, not everything else"
            );
        }
        RulesetStatus::NotEnforced => {
            log::warn!("this kernel has no landlock: files are not restricted");
        }
    }
    Ok(())
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
