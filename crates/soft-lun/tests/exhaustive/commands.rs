// SPDX-License-Identifier: MIT OR Apache-2.0

//! The commands that the tests send in each state.

use pr_testkit::cdb::{
    PrCommand, clear, key_list, pr_in, preempt, preempt_and_abort, read_keys,
    register_and_ignore_with, register_and_move, register_with, release, reserve,
};
use scsi_pr::{
    BasicParameterList, InServiceAction, RegisterAndMove, ReservationKey, ReservationType,
};
use soft_lun::{LogicalUnit, Nexus, NexusId};

/// Allocation length of PERSISTENT RESERVE IN.
const ALLOCATION_LENGTH: u16 = 8192;

const NONE: u64 = 0;
const FIRST: u64 = 1;
const SECOND: u64 = 2;
const STALE: u64 = 3;

/// Keys that nodes can be registered with, and zero.
const NEW_KEYS: [u64; 3] = [NONE, FIRST, SECOND];
const KEYS: [u64; 4] = [NONE, FIRST, SECOND, STALE];

/// The meaning of a command, for the checks.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    In,
    Register {
        key: ReservationKey,
        new: ReservationKey,
        ignore: bool,
        /// Other nexuses that `SPEC_I_PT` names.
        others: Vec<NexusId>,
        aptpl: bool,
    },
    Reserve(ReservationKey, ReservationType),
    Release(ReservationKey, ReservationType),
    Clear(ReservationKey),
    Preempt(ReservationKey, ReservationKey, ReservationType),
    Move {
        key: ReservationKey,
        new: ReservationKey,
        to: NexusId,
        unregister: bool,
    },
}

/// A command and its sender.
#[derive(Clone, Debug)]
pub(crate) struct TestCommand {
    pub(crate) sender: NexusId,
    /// All nexuses of the unit.
    pub(crate) nexuses: Vec<NexusId>,
    pub(crate) operation: Operation,
    pub(crate) command: PrCommand,
    /// The command is also sent while a unit attention is pending for the sender.
    sent_during_unit_attention: bool,
}

impl TestCommand {
    /// Returns whether the command is sent in this state. A unit attention precedes every command
    /// in the same way, so that a few commands suffice while one is pending.
    pub(crate) fn is_sent_to(&self, unit: &LogicalUnit) -> bool {
        self.sent_during_unit_attention || unit.unit_attentions(self.sender).is_empty()
    }
}

/// A builder of the commands of one nexus.
struct Builder {
    sender: NexusId,
    nexuses: Vec<NexusId>,
    commands: Vec<TestCommand>,
}

impl Builder {
    fn push(&mut self, command: PrCommand, operation: Operation) {
        let is_clear = matches!(operation, Operation::Clear(_));
        self.commands.push(TestCommand {
            sender: self.sender,
            nexuses: self.nexuses.clone(),
            operation,
            sent_during_unit_attention: is_clear || command == read_keys(ALLOCATION_LENGTH),
            command,
        });
    }

    fn register(&mut self, key: u64, new: u64, aptpl: bool, others: &[(NexusId, Nexus)]) {
        let names = others.iter().map(|(_, nexus)| nexus.initiator.clone());
        let list = BasicParameterList {
            spec_i_pt: (!others.is_empty()).then(|| names.collect()),
            aptpl,
            ..key_list(key, new)
        };
        let operation = Operation::Register {
            key: key.into(),
            new: new.into(),
            ignore: false,
            others: others.iter().map(|(id, _)| *id).collect(),
            aptpl,
        };
        self.push(register_with(&list), operation);
    }

    fn registrations(&mut self, others: &[(NexusId, Nexus)]) {
        for new in NEW_KEYS {
            for key in KEYS {
                self.register(key, new, false, &[]);
                self.register(key, new, true, &[]);
                self.register(key, new, false, others);
            }
            let operation = Operation::Register {
                key: STALE.into(),
                new: new.into(),
                ignore: true,
                others: Vec::new(),
                aptpl: false,
            };
            self.push(register_and_ignore_with(&key_list(STALE, new)), operation);
        }
    }

    fn reservations(&mut self, key: u64) {
        for kind in ReservationType::ALL {
            self.push(reserve(key, kind), Operation::Reserve(key.into(), kind));
            self.push(release(key, kind), Operation::Release(key.into(), kind));
        }
        self.push(clear(key), Operation::Clear(key.into()));
    }

    fn preempts(&mut self, build: fn(u64, u64, ReservationType) -> PrCommand, key: u64) {
        for victim in KEYS {
            for kind in ReservationType::ALL {
                let operation = Operation::Preempt(key.into(), victim.into(), kind);
                self.push(build(key, victim, kind), operation);
            }
        }
    }

    fn moves(&mut self, key: u64, (to, nexus): &(NexusId, Nexus)) {
        for new in NEW_KEYS {
            for unregister in [false, true] {
                let list = RegisterAndMove {
                    reservation_key: key.into(),
                    service_action_reservation_key: new.into(),
                    unregister,
                    aptpl: false,
                    relative_target_port: nexus.target_port,
                    transport_id: nexus.initiator.clone(),
                };
                let operation = Operation::Move {
                    key: key.into(),
                    new: new.into(),
                    to: *to,
                    unregister,
                };
                self.push(register_and_move(&list), operation);
            }
        }
    }
}

/// Returns all commands of all nexuses.
pub(crate) fn all_commands(unit: &LogicalUnit, with_preempt_and_abort: bool) -> Vec<TestCommand> {
    let nexuses: Vec<(NexusId, Nexus)> = unit
        .nexuses()
        .map(|(id, nexus)| (id, nexus.clone()))
        .collect();
    let mut commands = Vec::new();
    for (sender, _) in &nexuses {
        let others: Vec<_> = nexuses
            .iter()
            .filter(|(id, _)| id != sender)
            .cloned()
            .collect();
        let mut builder = Builder {
            sender: *sender,
            nexuses: nexuses.iter().map(|(id, _)| *id).collect(),
            commands: Vec::new(),
        };
        for action in InServiceAction::ALL {
            builder.push(pr_in(action, ALLOCATION_LENGTH), Operation::In);
        }
        builder.registrations(&others);
        for key in KEYS {
            builder.reservations(key);
            builder.preempts(preempt, key);
            if with_preempt_and_abort {
                builder.preempts(preempt_and_abort, key);
            }
            others.iter().for_each(|other| builder.moves(key, other));
        }
        commands.extend(builder.commands);
    }
    commands
}
