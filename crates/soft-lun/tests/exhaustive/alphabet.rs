//! The commands that are sent in each state.

use scsi_pr::{
    BasicParameterList, InServiceAction, OutServiceAction, PersistentReserveIn,
    PersistentReserveOut, RegisterAndMove, ReservationKey, ReservationType, ScopeType,
};
use soft_lun::{LogicalUnit, Nexus, NexusId};

const NONE: u64 = 0;
const FIRST: u64 = 1;
const SECOND: u64 = 2;
const STALE: u64 = 3;

/// Keys that can be registered, and zero.
const REGISTRABLE: [u64; 3] = [NONE, FIRST, SECOND];
const ALL: [u64; 4] = [NONE, FIRST, SECOND, STALE];

/// What a command says, for those who judge what became of it.
#[derive(Clone, Debug)]
pub(crate) enum Meaning {
    In,
    Register {
        key: ReservationKey,
        new: ReservationKey,
        ignore: bool,
        /// Other nexuses that the command names.
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

/// A command through a nexus.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) sender: NexusId,
    /// All nexuses of the unit.
    pub(crate) nexuses: Vec<NexusId>,
    pub(crate) meaning: Meaning,
    pub(crate) cdb: [u8; 10],
    pub(crate) parameters: Vec<u8>,
    /// Whether it is one of those few that are sent where a unit attention waits too.
    meets_attentions: bool,
}

impl Letter {
    /// A unit attention comes before all commands alike, so that a few of them show it.
    pub(crate) fn is_sent_in(&self, unit: &LogicalUnit) -> bool {
        self.meets_attentions || unit.unit_attentions(self.sender).is_empty()
    }
}

/// Builds the commands of one nexus.
struct Builder {
    sender: NexusId,
    nexuses: Vec<NexusId>,
    letters: Vec<Letter>,
}

impl Builder {
    fn ask(&mut self, service_action: InServiceAction) {
        let command = PersistentReserveIn {
            service_action,
            allocation_length: 8192,
            control: 0,
        };
        self.letters.push(Letter {
            sender: self.sender,
            nexuses: self.nexuses.clone(),
            meaning: Meaning::In,
            cdb: command.encode(),
            parameters: Vec::new(),
            meets_attentions: service_action == InServiceAction::ReadKeys,
        });
    }

    fn out(&mut self, action: OutServiceAction, code: u8, parameters: Vec<u8>, meaning: Meaning) {
        let command = PersistentReserveOut {
            service_action: action,
            scope_type: ScopeType(code),
            parameter_list_length: u32::try_from(parameters.len()).unwrap(),
            control: 0,
        };
        self.letters.push(Letter {
            sender: self.sender,
            nexuses: self.nexuses.clone(),
            meaning,
            cdb: command.encode(),
            parameters,
            meets_attentions: action == OutServiceAction::Clear,
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
        let meaning = Meaning::Register {
            key: key.into(),
            new: new.into(),
            ignore,
            others: others.iter().map(|(id, _)| *id).collect(),
            aptpl,
        };
        self.out(action, 0, list.encode(), meaning);
    }

    fn registrations(&mut self, others: &[(NexusId, Nexus)]) {
        for key in ALL {
            for new in REGISTRABLE {
                self.register(key, new, false, false, &[]);
                self.register(key, new, false, true, &[]);
                self.register(key, new, false, false, others);
            }
        }
        for new in REGISTRABLE {
            self.register(STALE, new, true, false, &[]);
        }
    }

    fn reservations(&mut self, key: u64) {
        for kind in ReservationType::ALL {
            let list = basic(key, 0).encode();
            let meaning = Meaning::Reserve(key.into(), kind);
            self.out(
                OutServiceAction::Reserve,
                kind.code(),
                list.clone(),
                meaning,
            );
            let meaning = Meaning::Release(key.into(), kind);
            self.out(OutServiceAction::Release, kind.code(), list, meaning);
        }
        let meaning = Meaning::Clear(key.into());
        self.out(OutServiceAction::Clear, 0, basic(key, 0).encode(), meaning);
    }

    fn preempts(&mut self, action: OutServiceAction, key: u64) {
        for victim in ALL {
            for kind in ReservationType::ALL {
                let meaning = Meaning::Preempt(key.into(), victim.into(), kind);
                self.out(action, kind.code(), basic(key, victim).encode(), meaning);
            }
        }
    }

    fn moves(&mut self, key: u64, (to, nexus): &(NexusId, Nexus)) {
        for new in REGISTRABLE {
            for unregister in [false, true] {
                let list = RegisterAndMove {
                    reservation_key: key.into(),
                    service_action_reservation_key: new.into(),
                    unregister,
                    aptpl: false,
                    relative_target_port: nexus.target_port,
                    transport_id: nexus.initiator.clone(),
                };
                let meaning = Meaning::Move {
                    key: key.into(),
                    new: new.into(),
                    to: *to,
                    unregister,
                };
                self.out(OutServiceAction::RegisterAndMove, 0, list.encode(), meaning);
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

/// All commands of all nexuses.
pub(crate) fn alphabet(unit: &LogicalUnit, with_abort: bool) -> Vec<Letter> {
    let nexuses: Vec<(NexusId, Nexus)> = unit
        .nexuses()
        .map(|(id, nexus)| (id, nexus.clone()))
        .collect();
    let mut letters = Vec::new();
    for (sender, _) in &nexuses {
        let others: Vec<_> = nexuses
            .iter()
            .filter(|(id, _)| id != sender)
            .cloned()
            .collect();
        let mut builder = Builder {
            sender: *sender,
            nexuses: nexuses.iter().map(|(id, _)| *id).collect(),
            letters: Vec::new(),
        };
        for action in InServiceAction::ALL {
            builder.ask(action);
        }
        builder.registrations(&others);
        for key in ALL {
            builder.reservations(key);
            builder.preempts(OutServiceAction::Preempt, key);
            if with_abort {
                builder.preempts(OutServiceAction::PreemptAndAbort, key);
            }
            others.iter().for_each(|other| builder.moves(key, other));
        }
        letters.extend(builder.letters);
    }
    letters
}
