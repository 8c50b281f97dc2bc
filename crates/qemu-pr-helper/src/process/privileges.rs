//! From root, or whatever started us, to one capability.
//!
//! Sending PERSISTENT RESERVE to a disk takes `CAP_SYS_RAWIO` and nothing else: the descriptors come
//! ready-made from the clients. So that is all that is kept, with `--user` and without. The broker for
//! multipath maps, which reads nothing of the clients', keeps a little more.

use std::io;
use std::thread;
use std::time::Duration;

use linux_util::fork::threads;
use nix::unistd::{self, Gid, Uid};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs,
};
use thiserror::Error;

use crate::process::account::{self, Account};
use crate::trace::trace;

/// The time between two attempts to restore capabilities.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// Why the privileges could not be given up.
#[derive(Debug, Error)]
pub enum PrivilegeError {
    /// Ids and capabilities are changed for the one thread that there must be.
    #[error("cannot drop privileges with {0} threads")]
    Threads(usize),
    /// The threads could not be counted.
    #[error("cannot count threads")]
    CountThreads(#[source] io::Error),
    /// The capabilities could not be read or set.
    #[error("cannot reduce capabilities")]
    Capabilities(#[source] io::Error),
    /// The supplementary groups could not be left.
    #[error("cannot leave supplementary groups")]
    Groups(#[source] io::Error),
    /// The group could not be changed.
    #[error("cannot change to group {0}: start as root, or without -g")]
    Group(Gid, #[source] io::Error),
    /// The user could not be changed.
    #[error("cannot change to user {0}: start as root, or without -u")]
    User(Uid, #[source] io::Error),
}

/// Identity that the helper gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The ids that the command line names; the others stay.
    Chosen {
        /// The user.
        user: Option<Uid>,
        /// The group.
        group: Option<Gid>,
    },
    /// The default account, if this process may become it.
    Default(Account),
}

/// Changes to `identity`, and keeps no more than `CAP_SYS_RAWIO`.
///
/// Afterwards the permitted and effective sets hold it at most, the inheritable, ambient and bounding
/// sets nothing, there are no supplementary groups, and `no_new_privs` is set. A process that was
/// started without the privilege to empty its bounding set or its groups keeps those: it has nothing
/// to lose by them.
///
/// # Errors
///
/// [`PrivilegeError`]; the process must then end.
pub fn drop_all(identity: Identity) -> Result<(), PrivilegeError> {
    let kept = reduce(identity, CapabilitySet::SYS_RAWIO, CapabilitySet::SYS_RAWIO)?;
    trace!(pr_helper_privileges_dropped(
        unistd::geteuid().as_raw(),
        unistd::getegid().as_raw(),
        kept.bits(),
    ));
    if kept.is_empty() {
        log::warn!(
            "no CAP_SYS_RAWIO: the kernel will refuse the guests' reservation commands; \
             start as root, or with this capability"
        );
    }
    Ok(())
}

/// Keeps the ids, and no more than the capabilities `effective`; `permitted` ones are kept besides,
/// to be used by [`with`]. All else is as in [`drop_all`].
///
/// # Errors
///
/// [`PrivilegeError`]; the process must then end.
pub fn keep_only(effective: CapabilitySet, permitted: CapabilitySet) -> Result<(), PrivilegeError> {
    let nothing = Identity::Chosen {
        user: None,
        group: None,
    };
    reduce(nothing, effective, effective | permitted).map(|_| ())
}

/// Runs `action` with capabilities that are permitted, and are effective meanwhile alone. Without
/// the permission `action` runs as it is.
pub fn with<T>(raised: CapabilitySet, action: impl FnOnce() -> T) -> T {
    let before = capabilities(None).ok();
    if let Some(before) = before {
        let effective = before.effective | (before.permitted & raised);
        // A failure leaves the sets as they are.
        let _ = set_capabilities(
            None,
            CapabilitySets {
                effective,
                ..before
            },
        );
    }
    let result = action();
    if let Some(before) = before {
        // A process that must not keep the capabilities in effect waits until the kernel has memory.
        while set_capabilities(None, before).is_err() {
            thread::sleep(RETRY_DELAY);
        }
    }
    result
}

/// Gives up capabilities for good.
///
/// # Errors
///
/// The kernel refuses to read or set the capabilities.
pub fn give_up(dropped: CapabilitySet) -> io::Result<()> {
    let before = capabilities(None)?;
    let left = CapabilitySets {
        effective: before.effective - dropped,
        permitted: before.permitted - dropped,
        inheritable: before.inheritable - dropped,
    };
    Ok(set_capabilities(None, left)?)
}

/// Changes to `identity`, and limits the capabilities to `effective` and `permitted`. Returns those
/// that are left in the effective set.
fn reduce(
    identity: Identity,
    effective: CapabilitySet,
    permitted: CapabilitySet,
) -> Result<CapabilitySet, PrivilegeError> {
    let threads = threads().map_err(PrivilegeError::CountThreads)?;
    if threads != 1 {
        return Err(PrivilegeError::Threads(threads));
    }
    let failed = |error: Errno| PrivilegeError::Capabilities(error.into());
    let before = capabilities(None).map_err(failed)?;

    if before.effective.contains(CapabilitySet::SETPCAP) {
        empty_bounding_set().map_err(failed)?;
    }
    // Without this a change of user would take the capability along with the rest.
    set_keep_capabilities(true).map_err(failed)?;
    let has_setgid = before.effective.contains(CapabilitySet::SETGID);
    match identity {
        Identity::Chosen { user, group } => {
            if has_setgid {
                leave_groups(user.is_some() || group.is_some())?;
            }
            change_ids(user, group)?;
        }
        Identity::Default(account) => {
            if has_setgid {
                leave_groups(false)?;
            }
            become_account(account);
        }
    }
    let effective = before.permitted & effective;
    set_capabilities(
        None,
        CapabilitySets {
            effective,
            permitted: before.permitted & permitted,
            inheritable: CapabilitySet::empty(),
        },
    )
    .map_err(failed)?;
    set_keep_capabilities(false).map_err(failed)?;
    clear_ambient_capability_set().map_err(failed)?;
    set_no_new_privs(true).map_err(failed)?;
    Ok(effective)
}

/// Changes to the default account. The helper serves as it is where a container forbids that.
fn become_account(account: Account) {
    let before = unistd::getegid();
    let changed = change_ids(Some(account.user), Some(account.group)).inspect_err(|_| {
        // The group may have been changed already. Then this process may change it back.
        let _ = unistd::setresgid(before, before, before);
    });
    if let Err(error) = changed {
        log::info!(
            "account {} not used: {}; the helper stays root, without root's capabilities",
            account::NAME,
            crate::error_chain(&error)
        );
    }
}

fn empty_bounding_set() -> rustix::io::Result<()> {
    // The kernel may know more capabilities than the library: ask it, number by number.
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

/// Rootless containers and seccomp filters forbid it even with the capability. Who only wants fewer
/// privileges can live with that, who wants to be somebody else cannot.
fn leave_groups(is_required: bool) -> Result<(), PrivilegeError> {
    match unistd::setgroups(&[]) {
        Err(nix::Error::EPERM) if !is_required => {
            log::info!("the container does not let supplementary groups be left");
            Ok(())
        }
        result => result.map_err(|error| PrivilegeError::Groups(error.into())),
    }
}

/// The group first: once the user is changed, the right to change it is gone.
fn change_ids(user: Option<Uid>, group: Option<Gid>) -> Result<(), PrivilegeError> {
    if let Some(id) = group {
        unistd::setresgid(id, id, id).map_err(|error| PrivilegeError::Group(id, error.into()))?;
    }
    if let Some(id) = user {
        unistd::setresuid(id, id, id).map_err(|error| PrivilegeError::User(id, error.into()))?;
    }
    Ok(())
}
