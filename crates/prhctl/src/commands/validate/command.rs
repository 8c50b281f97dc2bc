// SPDX-License-Identifier: MIT OR Apache-2.0

//! The commands that the steps send, and the answers.

use std::fmt;

use pr_helper_protocol::Response;
use scsi_pr::{
    AdditionalSense, BasicParameterList, Cdb, OutServiceAction, ParameterList,
    PersistentReserveOut, ReservationKey, ReservationType, ScopeType, Sense, SenseKey, Status,
};

use crate::labels;

/// A PERSISTENT RESERVE OUT command.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutCommand {
    action: OutServiceAction,
    kind: Option<ReservationType>,
    /// RESERVATION KEY, the sender's.
    key: ReservationKey,
    /// SERVICE ACTION RESERVATION KEY: the new key, or the victim's.
    other: ReservationKey,
    aptpl: bool,
}

impl OutCommand {
    const fn new(
        action: OutServiceAction,
        kind: Option<ReservationType>,
        key: ReservationKey,
        other: ReservationKey,
    ) -> Self {
        OutCommand {
            action,
            kind,
            key,
            other,
            aptpl: false,
        }
    }

    pub(super) const fn action(&self) -> OutServiceAction {
        self.action
    }

    /// Returns the key that the command registers; zero if it registers none.
    pub(super) const fn registered_key(&self) -> ReservationKey {
        match self.action {
            OutServiceAction::Register | OutServiceAction::RegisterAndIgnoreExistingKey => {
                self.other
            }
            _ => ReservationKey::ZERO,
        }
    }

    /// Returns whether the command would remove the registrations of other nodes, and abort their
    /// commands.
    pub(super) const fn is_preempt_and_abort(&self) -> bool {
        matches!(self.action, OutServiceAction::PreemptAndAbort)
    }

    /// Returns the same command with APTPL.
    pub(super) const fn with_aptpl(mut self) -> Self {
        self.aptpl = true;
        self
    }

    /// Returns the CDB and the parameter list.
    pub(super) fn encode(&self) -> (Cdb, Vec<u8>) {
        let list = ParameterList::from(BasicParameterList {
            reservation_key: self.key,
            service_action_reservation_key: self.other,
            aptpl: self.aptpl,
            ..BasicParameterList::default()
        });
        let bytes = list.encode();
        let command = PersistentReserveOut {
            service_action: self.action,
            scope_type: self.kind.map_or(ScopeType(0), ScopeType::from),
            parameter_list_length: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            control: 0,
        };
        (command.into(), bytes)
    }
}

pub(super) const fn register(old: ReservationKey, new: ReservationKey) -> OutCommand {
    OutCommand::new(OutServiceAction::Register, None, old, new)
}

pub(super) const fn register_ignore(new: ReservationKey) -> OutCommand {
    let action = OutServiceAction::RegisterAndIgnoreExistingKey;
    OutCommand::new(action, None, ReservationKey::ZERO, new)
}

pub(super) const fn reserve(key: ReservationKey, kind: ReservationType) -> OutCommand {
    let action = OutServiceAction::Reserve;
    OutCommand::new(action, Some(kind), key, ReservationKey::ZERO)
}

pub(super) const fn release(key: ReservationKey, kind: ReservationType) -> OutCommand {
    let action = OutServiceAction::Release;
    OutCommand::new(action, Some(kind), key, ReservationKey::ZERO)
}

pub(super) const fn clear(key: ReservationKey) -> OutCommand {
    OutCommand::new(OutServiceAction::Clear, None, key, ReservationKey::ZERO)
}

pub(super) const fn preempt(
    key: ReservationKey,
    victim: ReservationKey,
    kind: ReservationType,
) -> OutCommand {
    OutCommand::new(OutServiceAction::Preempt, Some(kind), key, victim)
}

pub(super) const fn preempt_and_abort(
    key: ReservationKey,
    victim: ReservationKey,
    kind: ReservationType,
) -> OutCommand {
    OutCommand::new(OutServiceAction::PreemptAndAbort, Some(kind), key, victim)
}

impl fmt::Display for OutCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.action.name())?;
        if let Some(kind) = self.kind {
            write!(f, " {}", labels::short_type(kind))?;
        }
        match self.action {
            OutServiceAction::Register => write!(f, " {} to {}", self.key, self.other)?,
            OutServiceAction::RegisterAndIgnoreExistingKey => write!(f, " {}", self.other)?,
            OutServiceAction::Preempt | OutServiceAction::PreemptAndAbort => {
                write!(f, " {} victim {}", self.key, self.other)?;
            }
            _ => write!(f, " {}", self.key)?,
        }
        f.write_str(if self.aptpl { ", APTPL" } else { "" })
    }
}

/// The status of a command, and the sense data of a CHECK CONDITION.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: Status,
    pub(super) sense: Option<Sense>,
}

impl Answer {
    pub(super) const fn new(status: Status, sense: Option<Sense>) -> Self {
        Answer { status, sense }
    }

    /// Returns whether the command was executed. Sense data can be a warning.
    pub(super) fn is_good(&self) -> bool {
        let is_warning = self.sense.is_some_and(|sense| {
            matches!(sense.key, SenseKey::NoSense | SenseKey::RecoveredError) && !sense.deferred
        });
        self.status == Status::GOOD || is_warning
    }

    /// Returns the code of the unit attention that replaced the command.
    pub(super) fn unit_attention(&self) -> Option<AdditionalSense> {
        let sense = self.sense?;
        (sense.key == SenseKey::UnitAttention && !sense.deferred).then_some(sense.code)
    }
}

impl From<&Response> for Answer {
    fn from(response: &Response) -> Self {
        let sense = (response.status == Status::CHECK_CONDITION)
            .then(|| Sense::decode(&response.sense).ok())
            .flatten();
        Answer::new(response.status, sense)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.sense, self.status) {
            (Some(sense), _) => sense.fmt(f),
            (None, Status::CHECK_CONDITION) => {
                f.write_str("CHECK CONDITION without valid sense data")
            }
            (None, status) => status.fmt(f),
        }
    }
}
