//! The system calls of [`calls`](super::calls), and no others.

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

    use seccompiler::{
        BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
        SeccompFilter, SeccompRule, apply_filter,
    };

    use crate::sandbox::calls::{Call, HOSTILE, OLD, Only, SERVING, SOFT_LUNS, UNKNOWN};
    use crate::sandbox::{Mode, Needs};

    /// The rules of one filter, by the numbers of system calls.
    type Rules = BTreeMap<i64, Vec<SeccompRule>>;

    /// Lets no other system calls be made. Of what several filters say the strictest counts: to end the process,
    /// then an error, then to let it be.
    pub(in crate::sandbox) fn restrict(mode: Mode, needs: &Needs) -> Result<(), Error> {
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
        calls
            .iter()
            .map(|(_, number)| (*number, Vec::new()))
            .collect()
    }

    fn allowed(needs: &Needs) -> Result<Rules, Error> {
        let soft_luns = needs.soft_luns.as_ref().map_or(&[][..], |_| SOFT_LUNS);
        let mut rules = Rules::new();
        for call in SERVING.iter().chain(OLD).chain(soft_luns) {
            rules.insert(call.number, arguments(call)?);
        }
        Ok(rules)
    }

    /// The rules of which one has to hold; none where the arguments do not matter.
    fn arguments(call: &Call) -> Result<Vec<SeccompRule>, Error> {
        let condition = |place, operator, value: u32| {
            let length = SeccompCmpArgLen::Dword;
            let condition = SeccompCondition::new(place, length, operator, value.into())?;
            SeccompRule::new(vec![condition])
        };
        let masked = |bits: u32| SeccompCmpOp::MaskedEq(bits.into());
        let rules = match call.only {
            Only::Anything => Ok(Vec::new()),
            Only::Value(place, value) => {
                condition(place, SeccompCmpOp::Eq, value).map(|rule| vec![rule])
            }
            Only::OneOf(place, values) => values
                .iter()
                .map(|value| condition(place, SeccompCmpOp::Eq, *value))
                .collect(),
            Only::Without(place, bits) => condition(place, masked(bits), 0).map(|rule| vec![rule]),
            Only::With(place, bits) => condition(place, masked(bits), bits).map(|rule| vec![rule]),
        };
        Ok(rules?)
    }
}

/// There are no filters for this architecture.
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
)))]
pub(super) fn restrict(_: super::Mode, _: &super::Needs) -> Result<(), seccompiler::Error> {
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
