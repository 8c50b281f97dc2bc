//! From root, or whatever started us, to one capability.
//!
//! Sending PERSISTENT RESERVE to a disk takes `CAP_SYS_RAWIO` and nothing else: the descriptors come
//! ready-made from the clients. So that is all that is kept, with `--user` and without. The broker for
//! multipath maps, which reads nothing of the clients', keeps a little more.

use std::io;

use linux_sys::fork::threads;
use nix::unistd::{self, Gid, Uid};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs,
};
use thiserror::Error;

use crate::trace::trace;

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

/// Becomes `user` and `group` where given, and keeps no more than `CAP_SYS_RAWIO`.
///
/// Afterwards the permitted and effective sets hold it at most, the inheritable, ambient and bounding
/// sets nothing, there are no supplementary groups, and `no_new_privs` is set. A process that was
/// started without the privilege to empty its bounding set or its groups keeps those: it has nothing
/// to lose by them.
///
/// # Errors
///
/// [`PrivilegeError`]; the process must then end.
pub fn drop_all(user: Option<Uid>, group: Option<Gid>) -> Result<(), PrivilegeError> {
    let kept = reduce(user, group, CapabilitySet::SYS_RAWIO)?;
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

/// Stays who this process is, and keeps no more than these capabilities. All else is as in [`drop_all`].
///
/// # Errors
///
/// [`PrivilegeError`]; the process must then end.
pub fn keep_only(capabilities: CapabilitySet) -> Result<(), PrivilegeError> {
    reduce(None, None, capabilities).map(|_| ())
}

/// Gives what is left of the capabilities to `keep`.
fn reduce(
    user: Option<Uid>,
    group: Option<Gid>,
    keep: CapabilitySet,
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
    if before.effective.contains(CapabilitySet::SETGID) {
        leave_groups(user.is_some() || group.is_some())?;
    }
    // Else a change of user would take the capability along with the rest.
    set_keep_capabilities(true).map_err(failed)?;
    change_ids(user, group)?;
    let keep = before.permitted & keep;
    set_capabilities(
        None,
        CapabilitySets {
            effective: keep,
            permitted: keep,
            inheritable: CapabilitySet::empty(),
        },
    )
    .map_err(failed)?;
    set_keep_capabilities(false).map_err(failed)?;
    clear_ambient_capability_set().map_err(failed)?;
    set_no_new_privs(true).map_err(failed)?;
    Ok(keep)
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
