//! The system calls of [`calls`](super::syscalls), and no others.

#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
))]
pub(super) use filtered::{restrict, restrict_hostile};

#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
))]
mod filtered {
    use std::collections::BTreeMap;
    use std::env::consts::ARCH;
    use std::process;

    use seccompiler::{
        BpfProgram, Error, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Operator,
        SeccompCondition, SeccompFilter, SeccompRule, apply_filter,
    };

    use crate::sandbox::syscalls::{HOSTILE, Is, OLD, SERVING, SOFT_LUNS, SYSLOG, UNKNOWN};
    use crate::sandbox::{AllowedAccess, Mode};

    /// The rules of one filter, by the numbers of system calls.
    type Rules = BTreeMap<i64, Vec<SeccompRule>>;

    /// What is added to the number of a system call in the x32 ABI.
    const X32: i64 = 0x4000_0000;

    /// Lets no other system calls be made. Of what several filters say the strictest counts: to end the process,
    /// then an error, then to let it be.
    pub(in crate::sandbox) fn restrict(mode: Mode, needs: &AllowedAccess) -> Result<(), Error> {
        let (foreign, unknown) = match mode {
            Mode::Log => (SeccompAction::Log, SeccompAction::Log),
            Mode::Enforce | Mode::Off => (errno(libc::EPERM), errno(libc::ENOSYS)),
        };
        set(&[
            filter(whatever(HOSTILE), SeccompAction::Allow, hostile(mode))?,
            filter(whatever(UNKNOWN), SeccompAction::Allow, unknown)?,
            // The last: there is no setting of filters after it.
            filter(allowed(needs)?, foreign, SeccompAction::Allow)?,
        ])
    }

    /// Lets no hostile system calls be made.
    pub(in crate::sandbox) fn restrict_hostile(mode: Mode) -> Result<(), Error> {
        set(&[filter(
            whatever(HOSTILE),
            SeccompAction::Allow,
            hostile(mode),
        )?])
    }

    const fn hostile(mode: Mode) -> SeccompAction {
        match mode {
            Mode::Log => SeccompAction::Log,
            Mode::Enforce | Mode::Off => SeccompAction::KillProcess,
        }
    }

    const fn errno(error: i32) -> SeccompAction {
        SeccompAction::Errno(error.cast_unsigned())
    }

    fn set(filters: &[BpfProgram]) -> Result<(), Error> {
        match filters.iter().try_for_each(|filter| apply_filter(filter)) {
            // The kernel has none, or a container keeps them from us.
            Err(Error::Prctl(error) | Error::Seccomp(error))
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EINVAL | libc::ENOSYS | libc::EPERM)
                ) =>
            {
                log::warn!("no seccomp filters here, system calls are not restricted: {error}");
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

    /// These, whatever their arguments are.
    fn whatever(calls: &[(&str, i64)]) -> Rules {
        // Where the kernel has the x32 ABI, by its numbers too: to the filter it is the same architecture.
        let x32 = |number: i64| cfg!(target_arch = "x86_64").then_some(number | X32);
        let numbers = calls.iter().map(|(_, number)| *number);
        let numbers = numbers.flat_map(|number| [Some(number), x32(number)]);
        numbers
            .flatten()
            .map(|number| (number, Vec::new()))
            .collect()
    }

    fn allowed(needs: &AllowedAccess) -> Result<Rules, Error> {
        let soft_luns = needs.soft_luns.as_ref().map_or(&[][..], |_| SOFT_LUNS);
        let syslog = if needs.syslog { SYSLOG } else { &[] };
        let mut rules = Rules::new();
        // The last one of a number counts.
        for call in SERVING.iter().chain(OLD).chain(soft_luns).chain(syslog) {
            let only = call.only.iter().map(|conditions| rule(conditions));
            rules.insert(call.number, only.collect::<Result<_, _>>()?);
        }
        Ok(rules)
    }

    /// All of these.
    fn rule(conditions: &[(u8, Is)]) -> Result<SeccompRule, Error> {
        let conditions = conditions.iter().map(|(place, is)| {
            let (length, operator, value) = match is {
                Is::Value(value) => (Length::Dword, Operator::Eq, *value),
                Is::Null => (Length::Qword, Operator::Eq, 0),
                Is::ThisProcess => (Length::Dword, Operator::Eq, process::id()),
                Is::Without(bits) => (Length::Dword, Operator::MaskedEq((*bits).into()), 0),
                Is::With(bits) => (Length::Dword, Operator::MaskedEq((*bits).into()), *bits),
            };
            SeccompCondition::new(*place, length, operator, value.into())
        });
        Ok(SeccompRule::new(conditions.collect::<Result<_, _>>()?)?)
    }
}

/// There are no filters for this architecture.
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
)))]
pub(super) fn restrict(_: super::Mode, _: &super::AllowedAccess) -> Result<(), seccompiler::Error> {
    log::warn!("no seccomp filters for this architecture: system calls are not restricted");
    Ok(())
}

/// There are no filters for this architecture, which [`restrict`] says.
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
)))]
pub(super) fn restrict_hostile(_: super::Mode) -> Result<(), seccompiler::Error> {
    Ok(())
}
