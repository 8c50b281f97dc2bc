// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl reap`: removes the registrations with a key that no running machine can have made.

use clap::{Args, ValueHint};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use scsi_pr::{BasicParameterList, OutServiceAction, ReservationKey, ReservationType, ScopeType};
use thiserror::Error;

use super::change::{self, PowerLossPersistence};
use super::orphans::{HostState, Verdicts};
use super::{Subcommand, status};
use crate::confirmation::ConfirmationArgs;
use crate::context::{Context, DeviceArgs};
use crate::error::{AdvisedError, Error};
use crate::exit::Exit;
use crate::helper::HelperConnection;
use crate::labels;
use crate::orphans::{Judged, OtherHosts, OtherHostsArgs, Verdict};
use crate::output::json::{Json, ToJson, object};
use crate::output::text::{ToText, count, is_all_registrants};
use crate::scsi_path::Owner;

pub(crate) const HELP: &str = "\
Remove registrations that crashed machines and hosts left behind ('prhctl
orphans').

The registration of the path or map itself is removed with REGISTER, which
concerns no other port. The others are removed with PREEMPT, which removes all
registrations with the key. So nothing is removed if the owner of one of them
may run, for example if the machine has the same key on another host, after a
migration. prhctl sends PREEMPT with the key of this path. If it has none,
prhctl registers a temporary key, unless the disk is reserved and others are
registered: the key would let this host write.

Nothing is removed either if an orphan holds the reservation while others are
registered: the reservation keeps fenced hosts from writing. Let the cluster
fence the holder, or take the reservation over with 'prhctl preempt' on the
host that is to hold it. If no other registration remains, the reservation ends
with the registrations.

On a terminal, prhctl shows the registrations and asks for confirmation first,
unless --yes is given. Signals take effect when a temporary key is removed.

The queries receive pending unit attentions of this path, which a guest that
uses the same path then misses.";
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl reap /dev/sdb --key 0x123abc
  prhctl reap /dev/sdb --key 0x123abc --known node2.json --yes

Exit status 0; 1 if nothing was removed; otherwise one that 'prhctl --help'
lists.";

/// The temporary key of the sender, "prhreap" in ASCII.
const SENDER: u64 = 0x0070_7268_7265_6170;

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(
    about = "Remove registrations that crashed machines left behind",
    long_about = HELP, after_long_help = EXAMPLES
)]
pub(crate) struct ReapArgs {
    #[command(flatten)]
    device: DeviceArgs,
    /// Key of the registrations to remove
    #[arg(
        long, value_name = "KEY", value_hint = ValueHint::Other,
        value_parser = labels::parse_nonzero_key,
        allow_negative_numbers = true
    )]
    key: ReservationKey,
    #[command(flatten)]
    others: OtherHostsArgs,
    #[command(flatten)]
    confirmation: ConfirmationArgs,
}

impl Subcommand for ReapArgs {
    fn run(&self, context: &Context) -> Exit {
        // An unusable report is an error without a device.
        if let Err(error) = OtherHosts::read(&self.others) {
            return context.print_failure(&error.into());
        }
        context.change(&self.device, |helper| {
            let confirmed = self.plan(context, helper)?;
            for one in confirmed.removed() {
                let port = status::initiator_port(&one.registration, one.owner);
                helper.note(&format!("registration of {port}: {}", one.reason));
            }
            let path = [helper.path().to_owned()];
            let effect = confirmed.effect();
            let answer = self.confirmation.confirm(context.console, &effect, &path);
            answer.map_err(|error| Error::Refused(Box::new(error)))?;
            // A machine can start before the operator answers.
            let plan = self.plan(context, helper)?;
            match plan.is_same(&confirmed) {
                true => plan.execute(helper),
                false => Err(ReapError::Changed(self.key).into()),
            }
        })
    }
}

impl ReapArgs {
    /// Makes a plan from the present state of the disk, this host, and the reports.
    fn plan(&self, context: &Context, helper: &mut HelperConnection<'_>) -> Result<Plan, Error> {
        let others = OtherHosts::read(&self.others);
        let others = others.map_err(|error| Error::Refused(Box::new(error)))?;
        let host = HostState::read(context, &self.device.helper);
        let verdicts = HostState::judge(helper, &host.disks(), &others)?;
        let is_map = helper.multipath_map().is_some();
        Ok(Plan::new(verdicts, is_map, self.key)?)
    }
}

/// Reason why nothing is removed.
#[derive(Debug, Error)]
pub(crate) enum ReapError {
    #[error("no registration has the key {0}")]
    NoRegistration(ReservationKey),
    #[error("the owner of a registration with the key {key} may run: {reason}")]
    MayRun { key: ReservationKey, reason: String },
    #[error("the key {0} holds the reservation, and others are registered")]
    HoldsReservation(ReservationKey),
    #[error("this host is not registered, and the disk is reserved")]
    NotRegistered,
    #[error("registrations with the key {0} remain")]
    Remain(ReservationKey),
    #[error("another path of this host has the registration with the key {0}")]
    OtherPath(ReservationKey),
    #[error("the registrations with the key {0} have changed meanwhile")]
    Changed(ReservationKey),
    #[error("the disk has more registrations than a response can contain")]
    Truncated,
}

impl AdvisedError for ReapError {
    fn advice(&self) -> Vec<String> {
        let line = match self {
            ReapError::NoRegistration(_) => "List the keys with 'prhctl orphans DEVICE'.",
            ReapError::MayRun { .. } => {
                "Stop the owner, or let its own host decide (--known, --powered-off); see \
                 'prhctl orphans --help'."
            }
            ReapError::HoldsReservation(_) => {
                "Let the cluster fence it, or take the reservation over on the host that is to \
                 hold it: prhctl preempt."
            }
            ReapError::NotRegistered => {
                "Run prhctl on a host that is registered: a temporary registration would let this \
                 one write."
            }
            ReapError::Remain(_) => "See 'prhctl orphans DEVICE'.",
            ReapError::Changed(_) => "Try again.",
            ReapError::Truncated => "Remove the registrations one by one: prhctl preempt.",
            ReapError::OtherPath(_) => "Name that path, or the multipath map.",
        };
        vec![line.to_owned()]
    }
}

impl From<ReapError> for Error {
    fn from(error: ReapError) -> Self {
        Error::Refused(Box::new(error))
    }
}

/// The registrations to remove, and the others of the disk.
#[derive(Debug)]
struct Plan {
    key: ReservationKey,
    /// The registration of this path, or of the paths of this map.
    own: Vec<Judged>,
    /// Registrations that PREEMPT removes.
    preempted: Vec<Judged>,
    /// The key that this path is registered with afterwards.
    sender: Option<ReservationKey>,
    /// Type of the reservation.
    scope_type: Option<ScopeType>,
    /// True if the reservation ends.
    ends_reservation: bool,
    /// PRgeneration.
    generation: u32,
}

impl Plan {
    fn new(verdicts: Verdicts, is_map: bool, key: ReservationKey) -> Result<Self, ReapError> {
        let (registrations, generation) = (verdicts.registrations, verdicts.disk.generation);
        if verdicts.missing_bytes > 0 {
            return Err(ReapError::Truncated);
        }
        let is_own =
            |one: &Judged| one.owner == Owner::ThisPath || is_map && one.owner == Owner::OtherPath;
        let holder = registrations.iter().find(|one| one.registration.holder);
        let scope_type = holder.map(|holder| holder.registration.scope_type);
        let (with_key, rest): (Vec<_>, Vec<_>) = registrations
            .into_iter()
            .partition(|one| one.registration.key == key);
        if with_key.is_empty() {
            return Err(ReapError::NoRegistration(key));
        }
        let (own, others): (Vec<_>, Vec<_>) = with_key.into_iter().partition(is_own);
        // Without an orphan among the others, only the own registration is removed.
        let is_own_only =
            !own.is_empty() && others.iter().all(|one| one.verdict != Verdict::Orphan);
        let (kept, preempted) = match is_own_only {
            true => (others, Vec::new()),
            false => (Vec::new(), others),
        };
        let mut removed = own.iter().chain(&preempted);
        if let Some(alive) = removed.clone().find(|one| one.verdict != Verdict::Orphan) {
            let reason = alive.reason.clone();
            return Err(ReapError::MayRun { key, reason });
        }
        if preempted.iter().any(Judged::is_local) {
            return Err(ReapError::OtherPath(key));
        }
        let is_held = removed.any(|one| one.registration.holder)
            && !scope_type.is_some_and(is_all_registrants);
        let is_last = rest.is_empty() && kept.is_empty();
        if is_held && !is_last {
            return Err(ReapError::HoldsReservation(key));
        }
        let sender = rest.iter().find(|one| is_own(one));
        if sender.is_none() && !preempted.is_empty() && scope_type.is_some() && !is_last {
            return Err(ReapError::NotRegistered);
        }
        Ok(Plan {
            key,
            sender: sender.map(|one| one.registration.key),
            ends_reservation: scope_type.is_some() && is_last,
            generation,
            own,
            preempted,
            scope_type,
        })
    }

    /// Returns the registrations that are removed.
    fn removed(&self) -> impl Iterator<Item = &Judged> {
        self.own.iter().chain(&self.preempted)
    }

    /// Returns whether nothing has changed since another plan.
    fn is_same(&self, other: &Self) -> bool {
        let registrations = |plan: &Self| -> Vec<_> {
            plan.removed().map(|one| one.registration.clone()).collect()
        };
        self.generation == other.generation && registrations(self) == registrations(other)
    }

    fn effect(&self) -> String {
        let registrations = count(self.removed().count(), "registration");
        let end = match self.scope_type.filter(|_| self.ends_reservation) {
            Some(scope_type) => format!(" and ends the reservation ({scope_type})"),
            None => String::new(),
        };
        format!("removes {registrations} with key {}{end}", self.key)
    }

    /// Removes the registrations. A signal waits until a temporary registration is removed.
    fn execute(&self, helper: &mut HelperConnection<'_>) -> Result<Reaped, Error> {
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        // Blocking signals of this thread cannot fail.
        let previous = signals.thread_swap_mask(SigmaskHow::SIG_BLOCK);
        let result = self.remove(helper);
        if let Ok(previous) = previous {
            let _ = previous.thread_set_mask();
        }
        result?;
        let left = status::query_registrations(helper)?.value.descriptors;
        let is_left = |one: &Judged| {
            left.iter().any(|left| {
                left.key == self.key && left.transport_id == one.registration.transport_id
            })
        };
        match self.removed().any(is_left) {
            true => Err(ReapError::Remain(self.key).into()),
            false => Ok(Reaped {
                key: self.key,
                registrations: self.removed().count(),
            }),
        }
    }

    fn remove(&self, helper: &mut HelperConnection<'_>) -> Result<(), Error> {
        let persistence = PowerLossPersistence::query(helper)?;
        persistence.note_if_unknown(helper);
        let none = ReservationKey::ZERO;
        if !self.own.is_empty() {
            register(helper, persistence, self.key, none)?;
        }
        if self.preempted.is_empty() {
            return Ok(());
        }
        if let Some(sender) = self.sender {
            return self.preempt(helper, sender);
        }
        let sender = SENDER.into();
        helper.expect_change();
        register(helper, persistence, none, sender)?;
        let preempted = self.preempt(helper, sender);
        // To unregister the holder ends its reservation.
        let unregistered = register(helper, persistence, sender, none);
        if unregistered.is_err() {
            helper.note(&format!(
                "the temporary key {sender} may remain; remove it with 'prhctl unregister'"
            ));
        }
        preempted.and(unregistered)
    }

    fn preempt(
        &self,
        helper: &mut HelperConnection<'_>,
        sender: ReservationKey,
    ) -> Result<(), Error> {
        let list = BasicParameterList {
            service_action_reservation_key: self.key,
            ..change::with_key(sender)
        };
        let default = ReservationType::WriteExclusiveRegistrantsOnly.into();
        let scope_type = self.scope_type.unwrap_or(default);
        helper.expect_change();
        change::send(helper, OutServiceAction::Preempt, Some(scope_type), list)
    }
}

/// Registers a key in place of another one. APTPL applies to all registrations, so it is sent as it
/// is.
fn register(
    helper: &mut HelperConnection<'_>,
    persistence: PowerLossPersistence,
    from: ReservationKey,
    to: ReservationKey,
) -> Result<(), Error> {
    let list = BasicParameterList {
        service_action_reservation_key: to,
        aptpl: persistence == PowerLossPersistence::On,
        ..change::with_key(from)
    };
    change::send(helper, OutServiceAction::Register, None, list)
}

/// Removed registrations.
#[derive(Debug)]
struct Reaped {
    key: ReservationKey,
    registrations: usize,
}

impl ToText for Reaped {
    fn to_text(&self) -> String {
        let registrations = count(self.registrations, "registration");
        format!("{registrations} with key {} removed", self.key)
    }
}

impl ToJson for Reaped {
    fn to_json(&self) -> Json {
        object! { "key": self.key, "removed": self.registrations }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::orphans::tests::verdicts;
    use Owner::{EarlierSession, Other, OtherPath, ThisPath};
    use Verdict::{Alive, Orphan, Unknown};

    /// Returns the number of registrations that each method removes, or the reason why none is.
    fn plan(is_map: bool, registrations: &[(u64, Owner, Verdict)]) -> Result<[usize; 2], String> {
        let plan = Plan::new(verdicts(registrations), is_map, 0xa.into());
        let plan = plan.map_err(|error| error.to_string())?;
        Ok([plan.own.len(), plan.preempted.len()])
    }

    #[test]
    fn preemption_needs_the_consent_of_all_registrants_with_the_key() {
        let (own, other) = ((0xa, ThisPath, Orphan), (0xa, Other, Orphan));
        for (registrations, expected) in [
            (vec![own], [1, 0]),
            (vec![own, other, (0xb, Other, Alive)], [1, 1]),
            (vec![other], [0, 1]),
            (
                vec![(0xa, EarlierSession, Orphan), (0xb, ThisPath, Alive)],
                [0, 1],
            ),
            // The machine has migrated.
            (vec![own, (0xa, Other, Alive)], [1, 0]),
            (vec![own, (0xa, Other, Unknown)], [1, 0]),
        ] {
            assert_eq!(
                plan(false, &registrations),
                Ok(expected),
                "{registrations:?}"
            );
        }
        for registrations in [
            vec![(0xa, ThisPath, Alive)],
            vec![(0xa, ThisPath, Unknown), other],
            vec![other, (0xa, Other, Unknown)],
            vec![own, other, (0xa, Other, Alive)],
            vec![(0xa, EarlierSession, Orphan), (0xa, ThisPath, Unknown)],
        ] {
            let reason = plan(false, &registrations).unwrap_err();
            assert!(reason.contains("may run"), "{registrations:?}: {reason}");
        }
    }

    /// A temporary registration would let a fenced host write.
    #[test]
    fn preemption_of_a_reserved_disk_needs_a_registration() {
        let reserved = |registrations: &[(u64, Owner, Verdict)], holder: usize| {
            let mut found = verdicts(registrations);
            let holder = &mut found.registrations[holder].registration;
            (holder.holder, holder.scope_type) = (true, ScopeType(5));
            let plan = Plan::new(found, false, 0xa.into());
            plan.map(|plan| plan.effect())
                .map_err(|error| error.to_string())
        };
        let (orphan, other) = ((0xa, Other, Orphan), (0xb, Other, Alive));
        let reason = reserved(&[orphan, other], 1).unwrap_err();
        assert!(
            reason.starts_with("this host is not registered"),
            "{reason}"
        );
        reserved(&[orphan, (0xc, ThisPath, Alive), other], 2).unwrap();
        let effect = reserved(&[orphan], 0).unwrap();
        assert!(effect.contains("ends the reservation"), "{effect}");
    }

    #[test]
    fn map_removes_the_registrations_of_its_paths() {
        let paths = [(0xa, ThisPath, Orphan), (0xa, OtherPath, Orphan)];
        assert_eq!(plan(true, &paths), Ok([2, 0]));
        let reason = plan(false, &paths).unwrap_err();
        assert!(reason.starts_with("another path of this host"), "{reason}");
        assert_eq!(
            plan(true, &[]).unwrap_err(),
            "no registration has the key 0xa"
        );
    }
}
