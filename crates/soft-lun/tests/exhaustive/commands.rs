//! The commands that the tests send in each state.

use scsi_pr::{
    BasicParameterList, InServiceAction, OutServiceAction, PersistentReserveIn,
    PersistentReserveOut, RegisterAndMove, ReservationKey, ReservationType, ScopeType,
};
use soft_lun::{LogicalUnit, Nexus, NexusId};

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
    pub(crate) cdb: [u8; 10],
    pub(crate) parameters: Vec<u8>,
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
    fn reserve_in(&mut self, service_action: InServiceAction) {
        let cdb = PersistentReserveIn {
            service_action,
            allocation_length: 8192,
            control: 0,
        };
        self.commands.push(TestCommand {
            sender: self.sender,
            nexuses: self.nexuses.clone(),
            operation: Operation::In,
            cdb: cdb.encode(),
            parameters: Vec::new(),
            sent_during_unit_attention: service_action == InServiceAction::ReadKeys,
        });
    }

    fn out(
        &mut self,
        action: OutServiceAction,
        code: u8,
        parameters: Vec<u8>,
        operation: Operation,
    ) {
        let cdb = PersistentReserveOut {
            service_action: action,
            scope_type: ScopeType(code),
            parameter_list_length: u32::try_from(parameters.len()).unwrap(),
            control: 0,
        };
        self.commands.push(TestCommand {
            sender: self.sender,
            nexuses: self.nexuses.clone(),
            operation,
            cdb: cdb.encode(),
            parameters,
            sent_during_unit_attention: action == OutServiceAction::Clear,
        });
    }

    fn register(
        &mut self,
        key: u64,
        new: u64,
        ignore: bool,
        aptpl: bool,
        others: &[(NexusId, Nexus)],
    ) {
        let names = others.iter().map(|(_, nexus)| nexus.initiator.clone());
        let list = BasicParameterList {
            spec_i_pt: (!others.is_empty()).then(|| names.collect()),
            aptpl,
            ..basic(key, new)
        };
        let action = match ignore {
            true => OutServiceAction::RegisterAndIgnoreExistingKey,
            false => OutServiceAction::Register,
        };
        let operation = Operation::Register {
            key: key.into(),
            new: new.into(),
            ignore,
            others: others.iter().map(|(id, _)| *id).collect(),
            aptpl,
        };
        self.out(action, 0, list.encode(), operation);
    }

    fn registrations(&mut self, others: &[(NexusId, Nexus)]) {
        for key in KEYS {
            for new in NEW_KEYS {
                self.register(key, new, false, false, &[]);
                self.register(key, new, false, true, &[]);
                self.register(key, new, false, false, others);
            }
        }
        for new in NEW_KEYS {
            self.register(STALE, new, true, false, &[]);
        }
    }

    fn reservations(&mut self, key: u64) {
        for kind in ReservationType::ALL {
            let list = basic(key, 0).encode();
            let operation = Operation::Reserve(key.into(), kind);
            self.out(
                OutServiceAction::Reserve,
                kind.code(),
                list.clone(),
                operation,
            );
            let operation = Operation::Release(key.into(), kind);
            self.out(OutServiceAction::Release, kind.code(), list, operation);
        }
        let operation = Operation::Clear(key.into());
        self.out(
            OutServiceAction::Clear,
            0,
            basic(key, 0).encode(),
            operation,
        );
    }

    fn preempts(&mut self, action: OutServiceAction, key: u64) {
        for victim in KEYS {
            for kind in ReservationType::ALL {
                let operation = Operation::Preempt(key.into(), victim.into(), kind);
                self.out(action, kind.code(), basic(key, victim).encode(), operation);
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
                self.out(
                    OutServiceAction::RegisterAndMove,
                    0,
                    list.encode(),
                    operation,
                );
            }
        }
    }
}

fn basic(key: u64, action_key: u64) -> BasicParameterList {
    BasicParameterList {
        reservation_key: key.into(),
        service_action_reservation_key: action_key.into(),
        ..BasicParameterList::default()
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
            builder.reserve_in(action);
        }
        builder.registrations(&others);
        for key in KEYS {
            builder.reservations(key);
            builder.preempts(OutServiceAction::Preempt, key);
            if with_preempt_and_abort {
                builder.preempts(OutServiceAction::PreemptAndAbort, key);
            }
            others.iter().for_each(|other| builder.moves(key, other));
        }
        commands.extend(builder.commands);
    }
    commands
}
