// SPDX-License-Identifier: MIT OR Apache-2.0

//! User, groups and capabilities of the process, and the account that it changes to by default.
//!
//! Sending PERSISTENT RESERVE to a disk requires `CAP_SYS_RAWIO` and nothing else, because clients
//! pass open descriptors. The helper keeps only this capability, with `--user` and without. The
//! broker for multipath maps, which reads nothing that clients send, keeps a little more.

use std::fs;
use std::io;
use std::marker::PhantomData;
use std::thread;
use std::time::Duration;

use cli_messages::error::system_error;
use linux_util::fork::thread_count;
use nix::unistd::{self, Gid, Uid};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs,
};
use thiserror::Error;

use crate::trace::trace;

/// Name of the default account, which the packages create.
pub const DEFAULT_ACCOUNT: &str = "qemu-pr-helper";

/// File with the system accounts. The C library would also look on the network for an account that
/// does not exist, which can take long.
const PASSWD: &str = "/etc/passwd";

/// Delay between attempts to restore capabilities.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// Error of a change of user, groups or capabilities.
#[derive(Debug, Error)]
pub(crate) enum PrivilegeError {
    /// User and capabilities would change in the calling thread only.
    #[error(
        "cannot drop privileges with {0} threads; start without a library that starts threads \
         (LD_PRELOAD)"
    )]
    Threads(usize),
    #[error("cannot count threads: {}; mount /proc", system_error(.0))]
    CountThreads(io::Error),
    #[error("cannot reduce capabilities: {}; start as root", system_error(.0))]
    Capabilities(io::Error),
    #[error("cannot clear supplementary groups: {}; start as root", system_error(.0))]
    Groups(io::Error),
    #[error(
        "cannot change to group {0}: {cause}; start as root, or without -g",
        cause = system_error(.1)
    )]
    Group(Gid, io::Error),
    #[error(
        "cannot change to user {0}: {cause}; start as root, or without -u",
        cause = system_error(.1)
    )]
    User(Uid, io::Error),
}

/// User and group to run as. `None` leaves the current one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: Option<Uid>,
    pub(crate) group: Option<Gid>,
    /// Makes a failed change an error. Without it, the process keeps its own identity then.
    pub(crate) is_required: bool,
}

impl Identity {
    /// Returns the identity of [`DEFAULT_ACCOUNT`], if this host has the account.
    pub(crate) fn default_account() -> Option<Self> {
        find_account(DEFAULT_ACCOUNT, &fs::read_to_string(PASSWD).ok()?)
    }
}

/// Finds an account in the text of passwd(5). Ignores an account with an ID of 0 or `u32::MAX`.
fn find_account(name: &str, passwd: &str) -> Option<Identity> {
    passwd.lines().find_map(|line| {
        let fields = line.strip_prefix(name)?.strip_prefix(':')?.split(':');
        let mut ids = fields.skip(1).map(|field| field.parse().ok());
        let (user, group) = (ids.next()??, ids.next()??);
        let is_usable = |id: u32| id != 0 && id != u32::MAX;
        (is_usable(user) && is_usable(group)).then(|| Identity {
            user: Some(Uid::from_raw(user)),
            group: Some(Gid::from_raw(group)),
            is_required: false,
        })
    })
}

/// Changes to `identity` and keeps at most `CAP_SYS_RAWIO`.
///
/// After that, the permitted and effective sets contain at most this capability, the inheritable,
/// ambient and bounding sets are empty, the process has no supplementary groups, and `no_new_privs`
/// is set. A process that was started without the privilege to change its bounding set or its
/// groups keeps them. On failure, the process must exit.
pub(crate) fn drop_all(identity: Identity) -> Result<(), PrivilegeError> {
    let kept = drop_to(identity, CapabilitySet::SYS_RAWIO, CapabilitySet::SYS_RAWIO)?;
    trace!(pr_helper_privileges_dropped(
        unistd::geteuid().as_raw(),
        unistd::getegid().as_raw(),
        kept.bits(),
    ));
    if kept.is_empty() {
        log::warn!(
            "no CAP_SYS_RAWIO: the kernel will reject the guests' reservation commands; \
             start as root, or with this capability"
        );
    }
    Ok(())
}

/// Keeps user and group, and limits the capabilities to `effective`, and to `permitted` for
/// [`with_raised`]. Otherwise like [`drop_all`].
pub(crate) fn limit_to(
    effective: CapabilitySet,
    permitted: CapabilitySet,
) -> Result<(), PrivilegeError> {
    drop_to(Identity::default(), effective, effective | permitted).map(|_| ())
}

/// Runs `action` with `raised` in the effective set, as far as the permitted set contains it.
pub(crate) fn with_raised<T>(raised: CapabilitySet, action: impl FnOnce() -> T) -> T {
    let effective = |sets: &CapabilitySets| sets.effective | (sets.permitted & raised);
    // On failure, `action` runs without the capabilities.
    let _guard = EffectiveSetGuard::replace(effective);
    action()
}

/// Removes `CAP_SYS_RAWIO` from the effective set of the calling thread until the guard is dropped:
/// the kernel then answers as it answers a client, which lacks the capability.
pub(crate) fn without_raw_io() -> rustix::io::Result<EffectiveSetGuard> {
    EffectiveSetGuard::replace(|sets| sets.effective - CapabilitySet::SYS_RAWIO)
}

/// Guard of a changed effective set of the calling thread. Its drop restores the previous set.
#[derive(Debug)]
pub(crate) struct EffectiveSetGuard {
    before: CapabilitySets,
    /// Capabilities belong to a thread, so the thread that created the guard must drop it.
    _not_send: PhantomData<*const ()>,
}

impl EffectiveSetGuard {
    /// Replaces the effective set, and leaves the permitted one. Fails if the kernel lacks memory,
    /// or if a security policy forbids capset(2).
    fn replace(
        effective: impl FnOnce(&CapabilitySets) -> CapabilitySet,
    ) -> rustix::io::Result<Self> {
        let before = capabilities(None)?;
        let effective = effective(&before);
        set_capabilities(
            None,
            CapabilitySets {
                effective,
                ..before
            },
        )?;
        Ok(Self {
            before,
            _not_send: PhantomData,
        })
    }
}

impl Drop for EffectiveSetGuard {
    fn drop(&mut self) {
        // The thread must not continue with the wrong set, so it retries. Only lack of kernel
        // memory can make this fail after `replace` has succeeded.
        while set_capabilities(None, self.before).is_err() {
            thread::sleep(RETRY_DELAY);
        }
    }
}

/// Removes capabilities from all sets of the calling thread.
pub(crate) fn drop_capabilities(dropped: CapabilitySet) -> io::Result<()> {
    let before = capabilities(None)?;
    let left = CapabilitySets {
        effective: before.effective - dropped,
        permitted: before.permitted - dropped,
        inheritable: before.inheritable - dropped,
    };
    Ok(set_capabilities(None, left)?)
}

/// Changes to `identity`, and limits the capabilities to `effective` and `permitted`. Returns the
/// effective set that is left.
fn drop_to(
    identity: Identity,
    effective: CapabilitySet,
    permitted: CapabilitySet,
) -> Result<CapabilitySet, PrivilegeError> {
    let threads = thread_count().map_err(PrivilegeError::CountThreads)?;
    if threads != 1 {
        return Err(PrivilegeError::Threads(threads));
    }
    let failed = |error: Errno| PrivilegeError::Capabilities(error.into());
    let before = capabilities(None).map_err(failed)?;

    if before.effective.contains(CapabilitySet::SETPCAP) {
        clear_bounding_set().map_err(failed)?;
    }
    // Otherwise a change from root to another user clears the permitted set.
    set_keep_capabilities(true).map_err(failed)?;
    if before.effective.contains(CapabilitySet::SETGID) {
        clear_supplementary_groups(identity)?;
    }
    change_identity(identity)?;
    let effective = before.permitted & effective;
    let sets = CapabilitySets {
        effective,
        permitted: before.permitted & permitted,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(failed)?;
    set_keep_capabilities(false).map_err(failed)?;
    clear_ambient_capability_set().map_err(failed)?;
    set_no_new_privs(true).map_err(failed)?;
    Ok(effective)
}

fn clear_bounding_set() -> rustix::io::Result<()> {
    // The kernel can know more capabilities than the library, so this tries every number.
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(capability) {
            Ok(true) => remove_capability_from_bounding_set(capability)?,
            Ok(false) => {}
            // The first number that the kernel does not know.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Clears the supplementary groups. Rootless containers and seccomp filters forbid that even with
/// the capability, which is an error only if the identity must change.
fn clear_supplementary_groups(identity: Identity) -> Result<(), PrivilegeError> {
    match unistd::setgroups(&[]) {
        Err(nix::Error::EPERM) if !identity.is_required => {
            log::info!("supplementary groups kept: the container forbids setgroups(2)");
            Ok(())
        }
        result => result.map_err(|error| PrivilegeError::Groups(error.into())),
    }
}

fn change_identity(identity: Identity) -> Result<(), PrivilegeError> {
    let before = unistd::getegid();
    match change_ids(identity) {
        Err(error) if !identity.is_required => {
            // Restores the group, in case only the change of the user has failed.
            let _ = unistd::setresgid(before, before, before);
            log::info!(
                "account {DEFAULT_ACCOUNT} not used: {}; the helper stays root, without root's \
                 capabilities",
                crate::error_chain(&error)
            );
            Ok(())
        }
        result => result,
    }
}

/// Changes the group first, because the change of the user removes the right to do so.
fn change_ids(identity: Identity) -> Result<(), PrivilegeError> {
    if let Some(id) = identity.group {
        unistd::setresgid(id, id, id).map_err(|error| PrivilegeError::Group(id, error.into()))?;
    }
    if let Some(id) = identity.user {
        unistd::setresuid(id, id, id).map_err(|error| PrivilegeError::User(id, error.into()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_io_is_removed_and_restored() {
        let before = capabilities(None).unwrap();
        let guard = without_raw_io().unwrap();
        let during = capabilities(None).unwrap();
        assert!(!during.effective.contains(CapabilitySet::SYS_RAWIO));
        assert_eq!(during.permitted, before.permitted);
        drop(guard);
        assert_eq!(capabilities(None).unwrap(), before);
    }

    #[test]
    fn account_is_found_by_its_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nqemu-pr-helper-x:x:1:1::/:\n\
                      qemu-pr-helper:x:991:990:Helper:/:/usr/sbin/nologin\n";
        let account = find_account(DEFAULT_ACCOUNT, passwd).unwrap();
        assert_eq!(account.user, Some(Uid::from_raw(991)));
        assert_eq!(account.group, Some(Gid::from_raw(990)));
    }

    #[test]
    fn unusable_account_is_ignored() {
        for passwd in [
            "",
            "qemu-pr-helper",
            "qemu-pr-helper:x:991",
            "qemu-pr-helper:x:no:990::/:",
            "qemu-pr-helper:x:0:990::/:",
            "qemu-pr-helper:x:991:0::/:",
            "qemu-pr-helper:x:4294967295:990::/:",
            "+qemu-pr-helper:x:991:990::/:",
        ] {
            assert_eq!(find_account(DEFAULT_ACCOUNT, passwd), None, "{passwd}");
        }
    }
}
