// SPDX-License-Identifier: MIT OR Apache-2.0

//! Filters that allow the system calls of [`syscalls`](super::syscalls), and block all others.
//!
//! If several filters decide on a call, the kernel takes the strictest decision: it kills the
//! process, returns an error, or allows the call, in this order.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::process;

use libc::c_int;
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Operator,
    SeccompCondition, SeccompFilter, SeccompRule, apply_filter,
};

use super::syscalls::{ArgMatch, BASE, ENOSYS, KILL, LEGACY, SOFT_LUNS, SYSLOG};
use super::{AllowedAccess, Mode};

/// The rules of one filter, by system call number.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Bit of system call numbers of the x32 ABI (`__X32_SYSCALL_BIT`).
const X32: i64 = 0x4000_0000;

/// Restricts the helper to the listed system calls.
pub(super) fn restrict(mode: Mode, access: &AllowedAccess) -> Result<(), Error> {
    let enosys = action(mode, errno(libc::ENOSYS));
    let other = action(mode, errno(libc::EPERM));
    load(&[
        kill_filter(mode)?,
        filter(unconditional(ENOSYS), SeccompAction::Allow, enosys)?,
        // Last, because it blocks the system call that loads filters.
        filter(allowed(access)?, other, SeccompAction::Allow)?,
    ])
}

/// Blocks only hostile system calls.
pub(super) fn restrict_broker(mode: Mode) -> Result<(), Error> {
    load(&[kill_filter(mode)?])
}

fn kill_filter(mode: Mode) -> Result<BpfProgram, Error> {
    let kill = action(mode, SeccompAction::KillProcess);
    filter(unconditional(KILL), SeccompAction::Allow, kill)
}

/// Returns `enforced`, unless the mode only logs.
fn action(mode: Mode, enforced: SeccompAction) -> SeccompAction {
    match mode {
        Mode::Log => SeccompAction::Log,
        Mode::Enforce | Mode::Off => enforced,
    }
}

const fn errno(error: i32) -> SeccompAction {
    SeccompAction::Errno(error.cast_unsigned())
}

fn load(filters: &[BpfProgram]) -> Result<(), Error> {
    match filters.iter().try_for_each(|filter| apply_filter(filter)) {
        // The kernel has no seccomp filters, or a container forbids them.
        Err(Error::Prctl(error) | Error::Seccomp(error))
            if matches!(
                error.raw_os_error(),
                Some(libc::EINVAL | libc::ENOSYS | libc::EPERM)
            ) =>
        {
            log::warn!("system calls not restricted: seccomp is not available: {error}");
            Ok(())
        }
        result => result,
    }
}

fn filter(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, Error> {
    let filter = SeccompFilter::new(rules, otherwise, matched, ARCH.try_into()?)?;
    Ok(filter.try_into()?)
}

/// Returns rules that match these system calls with any arguments.
fn unconditional(numbers: &[i64]) -> Rules {
    let mut rules = Rules::new();
    for number in numbers {
        rules.insert(*number, Vec::new());
        // To the filter, calls by x32 numbers belong to the same architecture.
        if cfg!(target_arch = "x86_64") {
            rules.insert(number | X32, Vec::new());
        }
    }
    rules
}

fn allowed(access: &AllowedAccess) -> Result<Rules, Error> {
    let soft_luns = access.soft_luns.as_ref().map_or(&[][..], |_| SOFT_LUNS);
    let syslog = if access.syslog { SYSLOG } else { &[] };
    let mut rules = Rules::new();
    // A later rule replaces an earlier one for the same system call.
    for syscall in BASE.iter().chain(LEGACY).chain(soft_luns).chain(syslog) {
        let args = syscall.args.iter().map(|conditions| rule(conditions));
        rules.insert(syscall.number, args.collect::<Result<_, _>>()?);
    }
    Ok(rules)
}

/// Returns a rule that matches if all conditions do.
fn rule(conditions: &[(u8, ArgMatch)]) -> Result<SeccompRule, Error> {
    let conditions = conditions.iter().map(|(index, expected)| {
        let masked = |bits: c_int| Operator::MaskedEq(bits.cast_unsigned().into());
        let (length, operator, value) = match *expected {
            ArgMatch::Equals(value) => (Length::Dword, Operator::Eq, value.cast_unsigned()),
            ArgMatch::Null => (Length::Qword, Operator::Eq, 0),
            ArgMatch::OwnPid => (Length::Dword, Operator::Eq, process::id()),
            ArgMatch::BitsClear(bits) => (Length::Dword, masked(bits), 0),
            ArgMatch::BitsSet(bits) => (Length::Dword, masked(bits), bits.cast_unsigned()),
        };
        SeccompCondition::new(*index, length, operator, value.into())
    });
    Ok(SeccompRule::new(conditions.collect::<Result<_, _>>()?)?)
}
